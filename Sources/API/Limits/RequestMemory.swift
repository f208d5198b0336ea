// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import Synchronization

/// How many bytes of large requests are held, over all connections.
///
/// A request takes memory as its bytes arrive, in steps; who finds none waits, and those who wait are served in their order. One
/// request at a time may go on from a reserve that any request fits in, so that requests which have each taken a part never keep one
/// another from being finished: whatever is held becomes free again, unless its sender stalls, and that sender is closed.
package final class RequestMemory: Sendable {
    /// Requests up to this size need no leave: connections are bounded, and so are such requests of each.
    package static let freeBytes = 64 << 10

    private struct Waiter {
        let loan: UInt64
        let total: Int
        let mayUseReserve: Bool
        let granted: @Sendable () -> Void
    }

    private struct State {
        /// What is left beside the reserve.
        var available: Int
        /// What loans have taken, the one that has the reserve apart from that.
        var taken: [UInt64: Int] = [:]
        /// The loan that goes on from the reserve.
        var reserved: UInt64?
        var waiting: Deque<Waiter> = []
        var lastLoan: UInt64 = 0
    }

    private let state: Mutex<State>

    /// `bytes` for all; `largest` is the largest request of all, and `smallest` the largest of those that may not use the reserve.
    package init(bytes: Int, largest: Int, smallest: Int) {
        state = Mutex(State(available: max(smallest, bytes - largest)))
    }

    /// Whether somebody waits for memory.
    package var isContended: Bool { state.withLock { !$0.waiting.isEmpty } }

    /// Bytes taken, for tests and reports; of the loan that goes on from the reserve only what it took before.
    package var takenBytes: Int { state.withLock { $0.taken.values.reduce(0, +) } }

    /// Begins a loan of nothing.
    package func open(mayUseReserve: Bool) -> RequestLoan {
        let number = state.withLock { state in
            state.lastLoan += 1
            return state.lastLoan
        }
        return RequestLoan(memory: self, number: number, mayUseReserve: mayUseReserve)
    }

    fileprivate func raise(
        _ loan: UInt64,
        to total: Int,
        mayUseReserve: Bool,
        _ granted: @escaping @Sendable () -> Void
    ) -> Bool {
        let (isGranted, woken) = state.withLock { state -> (Bool, [Waiter]) in
            guard state.reserved != loan else { return (true, []) }
            state.waiting.append(
                Waiter(loan: loan, total: total, mayUseReserve: mayUseReserve, granted: granted)
            )
            var served = Self.serve(&state)
            guard let own = served.firstIndex(where: { $0.loan == loan }) else { return (false, served) }
            served.remove(at: own)
            return (true, served)
        }
        for waiter in woken { waiter.granted() }
        return isGranted
    }

    fileprivate func end(_ loan: UInt64) {
        let woken = state.withLock { state in
            state.available += state.taken.removeValue(forKey: loan) ?? 0
            if state.reserved == loan { state.reserved = nil }
            state.waiting.removeAll { $0.loan == loan }
            return Self.serve(&state)
        }
        for waiter in woken { waiter.granted() }
    }

    /// Takes out those who need wait no longer.
    private static func serve(_ state: inout State) -> [Waiter] {
        var served: [Waiter] = []
        while let first = state.waiting.first {
            let more = first.total - state.taken[first.loan, default: 0]
            if more <= state.available {
                state.available -= more
                state.taken[first.loan] = first.total
                served.append(state.waiting.removeFirst())
            } else if state.reserved == nil, let place = state.waiting.firstIndex(where: \.mayUseReserve) {
                state.reserved = state.waiting[place].loan
                served.append(state.waiting.remove(at: place))
            } else {
                break
            }
        }
        return served
    }
}

/// What one request has of the ``RequestMemory``; given back when the last reference goes.
package final class RequestLoan: Sendable {
    private let memory: RequestMemory
    private let number: UInt64
    private let mayUseReserve: Bool

    fileprivate init(memory: RequestMemory, number: UInt64, mayUseReserve: Bool) {
        self.memory = memory
        self.number = number
        self.mayUseReserve = mayUseReserve
    }

    deinit { memory.end(number) }

    /// Asks for `total` bytes in all; where they are not to be had now, `granted` is called once they are taken, and this is false.
    package func raise(to total: Int, _ granted: @escaping @Sendable () -> Void) -> Bool {
        memory.raise(number, to: total, mayUseReserve: mayUseReserve, granted)
    }
}
