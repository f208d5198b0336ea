// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CLinux
import DequeModule
import Glibc
import MartletCore

/// Threads that take work from one bounded queue.
///
/// With one thread, work is done in the order it was given. Nothing is dropped: ``stop()`` refuses further work,
/// finishes what was accepted and returns when the threads have ended.
final class WorkerThreads<Item: Sendable>: Sendable {
    private let queue: WorkQueue<Item>
    private let threads: [pthread_t]

    /// Starts `count` threads; each calls `handle` with what is waiting, at most `batchMax` items at once.
    init(
        name: String,
        count: Int = 1,
        itemsMax: Int = 1 << 20,
        weightMax: Int = .max,
        batchMax: Int = .max,
        handle: @escaping @Sendable ([Item], WorkQueue<Item>) -> Void
    ) {
        let queue = WorkQueue<Item>(itemsMax: itemsMax, weightMax: weightMax)
        self.queue = queue
        threads = (0..<count).map { index in
            startThread(name: count == 1 ? name : "\(name)-\(index)") {
                while let items = queue.take(max: batchMax) { handle(items, queue) }
            }
        }
    }

    /// Queues work; false when the queue is full, `nil` when the threads are stopped.
    func submit(_ item: Item, weight: Int = 0) -> Bool? {
        queue.put(item, weight: weight)
    }

    /// Lets the caller do what the thread would do, where nothing waits or is at work; for pools of one thread.
    ///
    /// While `work` runs the thread begins nothing. Returns false, and does not run it, where the thread is not idle.
    func inPlace(_ work: () -> Void) -> Bool {
        guard queue.lend() else { return false }
        work()
        queue.takeBack()
        return true
    }

    /// Refuses further work, lets what was accepted finish, and waits for the threads to end.
    ///
    /// Blocks; call once, not from one of the threads.
    func stop() {
        queue.stop()
        for thread in threads { pthread_join(thread, nil) }
    }
}

/// The queue of ``WorkerThreads``: a mutex and a condition variable, because a thread has to sleep on it.
// SAFETY: the mutable fields are only touched with `condition` locked, in this file.
final class WorkQueue<Item: Sendable>: @unchecked Sendable {
    private let condition = ThreadCondition()
    private let itemsMax: Int
    private let weightMax: Int
    private var items = Deque<Item>()
    private var weight = 0
    private var sleepers = 0
    private var wantedCount = 1
    private var isStopped = false
    /// Whether a thread is doing what it took.
    private var isAtWork = false
    /// Whether a caller is at work in the thread's place.
    private var isLent = false

    init(itemsMax: Int, weightMax: Int) {
        self.itemsMax = itemsMax
        self.weightMax = weightMax
    }

    func put(_ item: Item, weight added: Int) -> Bool? {
        condition.lock()
        defer { condition.unlock() }
        if isStopped { return nil }
        guard items.count < itemsMax, items.isEmpty || weight + added <= weightMax else { return false }
        items.append(item)
        weight += added
        if sleepers > 0, items.count >= wantedCount, !isLent { condition.signal() }
        return true
    }

    fileprivate func lend() -> Bool {
        condition.withLock {
            guard items.isEmpty, !isAtWork, !isLent, !isStopped else { return false }
            isLent = true
            return true
        }
    }

    fileprivate func takeBack() {
        condition.withLock {
            isLent = false
            if !items.isEmpty || isStopped { condition.signal() }
        }
    }

    func stop() {
        condition.lock()
        isStopped = true
        condition.broadcast()
        condition.unlock()
    }

    /// Takes up to `max` items, sleeping until there is one; `nil` when stopped and empty.
    fileprivate func take(max: Int) -> [Item]? {
        condition.lock()
        defer { condition.unlock() }
        isAtWork = false
        while items.isEmpty || isLent {
            if isStopped, !isLent { return nil }
            sleepers += 1
            condition.wait()
            sleepers -= 1
        }
        isAtWork = true
        if max >= items.count {
            let all = Array(items)
            items.removeAll(keepingCapacity: items.count < 4096)
            weight = 0
            return all
        }
        let first = Array(items.prefix(max))
        items.removeFirst(max)
        return first
    }

    /// Waits until `count` items are there or the time is over; for the single thread of the queue.
    func linger(untilCount count: Int, nanoseconds: Int) {
        condition.lock()
        defer {
            wantedCount = 1
            condition.unlock()
        }
        guard items.count < count, !isStopped else { return }
        let deadline = ThreadCondition.now() + UInt64(max(0, nanoseconds))
        wantedCount = count
        sleepers += 1
        defer { sleepers -= 1 }
        while items.count < count, !isStopped {
            guard condition.wait(until: deadline) else { return }
        }
    }
}

/// Starts a thread with a name of at most 15 bytes.
func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> pthread_t {
    final class Context: Sendable {
        let name: String
        let body: @Sendable () -> Void

        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    // One retain here, one release in the thread's first statement.
    let context = Unmanaged.passRetained(Context(name: name, body: body))
    var thread = pthread_t()
    let status = pthread_create(
        &thread,
        nil,
        { argument in
            guard let argument else { return nil }
            let context = Unmanaged<Context>.fromOpaque(argument).takeRetainedValue()
            martlet_name_thread(context.name)
            context.body()
            return nil
        },
        context.toOpaque()
    )
    precondition(status == 0, "the system refuses to start a thread: \(String(cString: strerror(status)))")
    return thread
}
