// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A value that comes later, awaited by one task.
final class Promise<Value: Sendable>: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Value, Never>)
        case fulfilled(Value)
    }

    private let state = Mutex(State.open)

    /// Gives the value; only the first one counts.
    func fulfil(_ value: Value) {
        let continuation = state.withLock { state -> CheckedContinuation<Value, Never>? in
            switch state {
            case .open:
                state = .fulfilled(value)
                return nil
            case .awaited(let continuation):
                state = .fulfilled(value)
                return continuation
            case .fulfilled: return nil
            }
        }
        continuation?.resume(returning: value)
    }

    /// Waits for the value; to be called once.
    func value() async -> Value {
        await withCheckedContinuation { continuation in
            let known = state.withLock { state -> Value? in
                if case .fulfilled(let value) = state { return value }
                state = .awaited(continuation)
                return nil
            }
            if let known { continuation.resume(returning: known) }
        }
    }
}

/// Wakes one sleeping task; a ring while nobody sleeps counts for the next sleep.
package final class Bell: Sendable {
    private struct State {
        var isRung = false
        var sleeper: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// Creates a bell that is silent.
    package init() {}

    /// Wakes who sleeps, or the next one to.
    package func ring() {
        let sleeper = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if let sleeper = state.sleeper {
                state.sleeper = nil
                return sleeper
            }
            state.isRung = true
            return nil
        }
        sleeper?.resume()
    }

    /// Returns when rung or when `instant` has come; at once when the task is cancelled.
    package func sleep(until instant: ContinuousClock.Instant?) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.sleep() }
            if let instant {
                // Cancelled when rung: the sleep then ends early, which is what is wanted.
                group.addTask { try? await Task.sleep(until: instant, clock: .continuous) }
            }
            await group.next()
            group.cancelAll()
        }
    }

    private func sleep() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDue = state.withLock { state -> Bool in
                    if state.isRung || Task.isCancelled {
                        state.isRung = false
                        return true
                    }
                    state.sleeper = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            let sleeper = state.withLock { state -> CheckedContinuation<Void, Never>? in
                defer { state.sleeper = nil }
                return state.sleeper
            }
            sleeper?.resume()
        }
    }
}
