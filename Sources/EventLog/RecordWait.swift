// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// One reader that waits for records in any number of partitions, resumed once.
///
/// Partitions it is registered with end it; after that they may still name it for a moment, which is harmless.
final class RecordWait: Sendable {
    private struct State {
        var continuation: CheckedContinuation<Bool, any Error>?
        var deadline: DeadlineThread.ID?
        var result: Result<Bool, any Error>?
    }

    private let state = Mutex(State())
    private let deadlines: DeadlineThread

    init(deadlines: DeadlineThread) {
        self.deadlines = deadlines
    }

    var isOver: Bool { state.withLock { $0.result != nil } }

    /// Ends the wait; only the first result counts.
    func end(_ result: Result<Bool, any Error>) {
        let before = state.withLock { state -> State in
            guard state.result == nil else { return State() }
            defer { state = State(result: result) }
            return state
        }
        if let deadline = before.deadline { deadlines.cancel(deadline) }
        before.continuation?.resume(with: result)
    }

    /// Suspends until ``end(_:)``, or returns false when the time is up.
    func value(atMost duration: Duration) async throws -> Bool {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let known = state.withLock { state in
                    if state.result == nil { state.continuation = continuation }
                    return state.result
                }
                if let known { return continuation.resume(with: known) }
                let deadline = deadlines.schedule(after: duration) { [self] in end(.success(false)) }
                let isLate = state.withLock { state in
                    guard state.result == nil else { return true }
                    state.deadline = deadline
                    return false
                }
                if isLate { deadlines.cancel(deadline) }
            }
        } onCancel: {
            end(.failure(CancellationError()))
        }
    }
}

extension PartitionLog {
    /// Ends the wait as soon as there is a record at or behind `offset`, which may be at once, or the partition is gone.
    func register(_ wait: RecordWait, at offset: Int64, _ isolation: ReadIsolation) {
        let known = state.withLock { state -> Result<Bool, any Error>? in
            if case .gone(let error) = state.status { return .failure(error) }
            if state.limit(isolation) > offset { return .success(true) }
            let key = ObjectIdentifier(wait)
            let first = min(offset, state.waiters[key]?.offset ?? offset)
            state.waiters[key] = PartitionState.Waiter(offset: first, isolation: isolation, wait: wait)
            return nil
        }
        if let known { wait.end(known) }
    }

    func forget(_ wait: RecordWait) {
        state.withLock { state in _ = state.waiters.removeValue(forKey: ObjectIdentifier(wait)) }
    }

    func waitForRecords(at offset: Int64, _ isolation: ReadIsolation, atMost duration: Duration) async throws -> Bool {
        let wait = RecordWait(deadlines: environment.deadlines)
        register(wait, at: offset, isolation)
        defer { forget(wait) }
        return try await wait.value(atMost: duration)
    }
}
