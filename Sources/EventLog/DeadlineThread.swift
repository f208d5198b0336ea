// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import HeapModule

/// Calls back when deadlines pass: one thread for all waiting readers.
// SAFETY: the mutable fields are only touched between lock and unlock of `mutex`, in this file.
final class DeadlineThread: @unchecked Sendable {
    /// Names one deadline.
    struct ID: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    private struct Entry: Comparable {
        let nanoseconds: UInt64
        let number: UInt64

        static func < (left: Entry, right: Entry) -> Bool {
            (left.nanoseconds, left.number) < (right.nanoseconds, right.number)
        }
    }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var heap = Heap<Entry>()
    private var actions: [UInt64: @Sendable () -> Void] = [:]
    private var lastNumber: UInt64 = 0
    private var isStopped = false
    private var thread: pthread_t?

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func start() {
        let started = startThread(name: "log-deadlines") { [self] in loop() }
        pthread_mutex_lock(mutex)
        thread = started
        pthread_mutex_unlock(mutex)
    }

    /// Ends the thread; deadlines not yet passed are forgotten.
    ///
    /// Blocks.
    func stop() {
        pthread_mutex_lock(mutex)
        isStopped = true
        actions.removeAll()
        let running = thread
        thread = nil
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
        if let running { pthread_join(running, nil) }
    }

    /// Calls `action` on the thread after `duration`, unless cancelled before.
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> ID {
        let (seconds, attoseconds) = duration.components
        let capped = UInt64(clamping: min(max(0, seconds), 1 << 32))
        let delay = capped * 1_000_000_000 + UInt64(clamping: attoseconds / 1_000_000_000)
        let nanoseconds = Self.now() + delay
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        lastNumber += 1
        let isEarliest = heap.min.map { nanoseconds < $0.nanoseconds } ?? true
        heap.insert(Entry(nanoseconds: nanoseconds, number: lastNumber))
        actions[lastNumber] = action
        if isEarliest { pthread_cond_signal(condition) }
        return ID(number: lastNumber)
    }

    func cancel(_ id: ID) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        actions[id.number] = nil
        // Cancelled entries stay in the heap until they would be the larger part of it.
        if heap.count > 64, heap.count > 2 * actions.count {
            heap = Heap(heap.unordered.filter { actions[$0.number] != nil })
        }
    }

    private func loop() {
        pthread_mutex_lock(mutex)
        while !isStopped {
            guard let first = heap.min else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            if first.nanoseconds > Self.now() {
                var until = timespec()
                until.tv_sec = Int(first.nanoseconds / 1_000_000_000)
                until.tv_nsec = Int(first.nanoseconds % 1_000_000_000)
                pthread_cond_timedwait(condition, mutex, &until)
                continue
            }
            heap.removeMin()
            guard let action = actions.removeValue(forKey: first.number) else { continue }
            pthread_mutex_unlock(mutex)
            action()
            pthread_mutex_lock(mutex)
        }
        pthread_mutex_unlock(mutex)
    }

    private static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
