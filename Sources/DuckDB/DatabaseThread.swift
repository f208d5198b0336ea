// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc
internal import MartletCore

/// One or more threads of their own for calls that block, with one bounded queue of work.
///
/// Work starts in the order it was submitted. The threads start with the object and end after ``stop()``.
package final class DatabaseThread: Sendable {
    private let queue: WorkQueue

    /// Starts the threads; `name` shows in process listings and is cut to 15 bytes.
    package init(name: String, threads: Int = 1, queueMax: Int = 1024) {
        queue = WorkQueue(capacity: queueMax)
        let queue = queue
        for _ in 0..<threads {
            startThread(name: name) {
                while let work = queue.next() { work() }
            }
        }
    }

    deinit {
        queue.close()
    }

    /// Runs `body` on the thread and returns what it returns.
    /// - Throws: What `body` throws; ``DuckDBError`` `closed` after ``stop()``, `outOfMemory` when the queue is full.
    package func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<R, any Error>) in
            if let refusal = submit({ continuation.resume(with: Result(catching: body)) }) {
                continuation.resume(throwing: refusal)
            }
        }
    }

    /// Adds work without waiting for it, or returns why it will not run.
    package func submit(_ body: @escaping @Sendable () -> Void) -> DuckDBError? {
        switch queue.append(body) {
        case .accepted: nil
        case .full: DuckDBError(.outOfMemory, "Too many database calls are waiting; try again later.")
        case .closed: DuckDBError(.closed, "The database is closed.")
        }
    }

    /// Refuses more work; what was accepted still runs, then the thread ends.
    package func stop() {
        queue.close()
    }
}

/// Starts a detached thread that runs `body` to its end.
package func startThread(name: String, _ body: @escaping @Sendable () -> Void) {
    final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    // One retain here, one release at the start of the thread.
    let start = Unmanaged.passRetained(Start(name: String(name.prefix(15)), body: body))
    var thread = pthread_t()
    let code = pthread_create(
        &thread,
        &attributes,
        { context in
            guard let context else { return nil }
            let start = Unmanaged<Start>.fromOpaque(context).takeRetainedValue()
            martlet_set_thread_name(start.name)
            start.body()
            return nil
        },
        start.toOpaque()
    )
    precondition(code == 0, "pthread_create: \(String(cString: strerror(code)))")
}

/// A bounded queue of closures on which a thread waits.
// SAFETY: every member below is read and written with `condition` locked.
private final class WorkQueue: @unchecked Sendable {
    private let condition = ThreadCondition()
    /// What was handed out is nil: what it holds is let go of by the thread that ran it, never under the lock, where something that
    /// submits work when it goes would wait for itself.
    private var work: [(@Sendable () -> Void)?] = []
    private var head = 0
    private var isClosed = false
    private let capacity: Int

    enum Outcome { case accepted, full, closed }

    init(capacity: Int) {
        self.capacity = capacity
    }

    func append(_ body: @escaping @Sendable () -> Void) -> Outcome {
        condition.withLock {
            if isClosed { return .closed }
            if work.count - head >= capacity { return .full }
            work.append(body)
            condition.signal()
            return .accepted
        }
    }

    func next() -> (@Sendable () -> Void)? {
        condition.withLock {
            while head == work.count {
                if isClosed { return nil }
                work.removeAll(keepingCapacity: true)
                head = 0
                condition.wait()
            }
            if head > 256 {
                work.removeFirst(head)
                head = 0
            }
            defer { head += 1 }
            return work[head].take()
        }
    }

    func close() {
        condition.withLock {
            isClosed = true
            condition.broadcast()
        }
    }
}
