// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A value that comes later, awaited by any number of tasks.
final class Gate<Value: Sendable>: Sendable {
    private enum State {
        case closed([CheckedContinuation<Value, Never>])
        case open(Value)
    }

    private let state = Mutex(State.closed([]))

    /// Gives the value; only the first one counts.
    func open(_ value: Value) {
        let waiting = state.withLock { state -> [CheckedContinuation<Value, Never>] in
            guard case .closed(let waiting) = state else { return [] }
            state = .open(value)
            return waiting
        }
        for continuation in waiting { continuation.resume(returning: value) }
    }

    /// Waits for the value.
    func value() async -> Value {
        await withCheckedContinuation { continuation in
            let known = state.withLock { state -> Value? in
                switch state {
                case .open(let value): return value
                case .closed(let waiting):
                    state = .closed(waiting + [continuation])
                    return nil
                }
            }
            if let known { continuation.resume(returning: known) }
        }
    }
}
