// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// How many bytes of large requests are held, over all connections.
///
/// A connection asks before it takes the rest of a large request in; where there is no room it stops reading and is called
/// when there may be.
final class RequestMemory: Sendable {
    /// Requests up to this size need no leave: connections are bounded, so these are.
    static let freeBytes = 64 << 10

    private struct State {
        var available: Int
        var waiting: [@Sendable () -> Void] = []
    }

    private let state: Mutex<State>
    private let total: Int

    init(bytes: Int) {
        total = bytes
        state = Mutex(State(available: bytes))
    }

    /// Takes `bytes`, or keeps `whenFree` to be called once when others have given some back; false then.
    ///
    /// A request larger than the whole may go when nothing else is held.
    func take(_ bytes: Int, whenFree: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            let wanted = min(bytes, total)
            guard state.available >= wanted else {
                state.waiting.append(whenFree)
                return false
            }
            state.available -= wanted
            return true
        }
    }

    /// Gives back what was taken.
    func giveBack(_ bytes: Int) {
        let woken = state.withLock { state in
            state.available += min(bytes, total)
            defer { state.waiting.removeAll() }
            return state.waiting
        }
        for call in woken { call() }
    }
}
