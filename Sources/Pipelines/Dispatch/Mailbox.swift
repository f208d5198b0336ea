// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Hands values from many threads to one task, all that came since the last look at once.
///
/// Bounded by what feeds it: readers stop at their gate, workers have a window, timers one entry each.
final class Mailbox<Value: Sendable>: Sendable {
    private struct State {
        var values: [Value] = []
        var waiter: CheckedContinuation<Void, Never>?
        var isClosed = false
    }

    private let state = Mutex(State())

    /// - Returns: False where nobody will take the value, because the mailbox is closed.
    @discardableResult
    func send(_ value: Value) -> Bool {
        let (waiter, isTaken) = state.withLock { state -> (CheckedContinuation<Void, Never>?, Bool) in
            guard !state.isClosed else { return (nil, false) }
            state.values.append(value)
            defer { state.waiter = nil }
            return (state.waiter, true)
        }
        waiter?.resume()
        return isTaken
    }

    /// Makes ``next()`` return nil once everything sent before is taken.
    func close() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            state.isClosed = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// All values since the last call, waiting for the first; nil once closed.
    func next() async -> [Value]? {
        while true {
            let (values, isClosed) = state.withLock { state in
                defer { state.values = [] }
                return (state.values, state.isClosed)
            }
            if !values.isEmpty { return values }
            if isClosed { return nil }
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state in
                    if !state.values.isEmpty || state.isClosed { return true }
                    state.waiter = continuation
                    return false
                }
                if ready { continuation.resume() }
            }
        }
    }
}
