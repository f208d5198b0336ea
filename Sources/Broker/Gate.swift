// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A value that comes later, awaited by any number of tasks.
final class Gate<Value: Sendable>: Sendable {
    private enum State {
        case closed([UInt64: CheckedContinuation<Value, any Error>])
        case open(Value)
    }

    private let state = Mutex((value: State.closed([:]), lastWaiter: UInt64(0)))

    /// Gives the value; only the first one counts.
    func open(_ value: Value) {
        let waiting = state.withLock { state -> [UInt64: CheckedContinuation<Value, any Error>] in
            guard case .closed(let waiting) = state.value else { return [:] }
            state.value = .open(value)
            return waiting
        }
        for continuation in waiting.values { continuation.resume(returning: value) }
    }

    /// Waits for the value.
    ///
    /// - Throws: `CancellationError` where the task is cancelled before.
    func value() async throws -> Value {
        let waiter = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let known = state.withLock { state -> Result<Value, any Error>? in
                    switch state.value {
                    case .open(let value): return .success(value)
                    case .closed(var waiting):
                        if Task.isCancelled { return .failure(CancellationError()) }
                        waiting[waiter] = continuation
                        state.value = .closed(waiting)
                        return nil
                    }
                }
                if let known { continuation.resume(with: known) }
            }
        } onCancel: {
            let continuation = state.withLock { state -> CheckedContinuation<Value, any Error>? in
                guard case .closed(var waiting) = state.value else { return nil }
                defer { state.value = .closed(waiting) }
                return waiting.removeValue(forKey: waiter)
            }
            continuation?.resume(throwing: CancellationError())
        }
    }
}
