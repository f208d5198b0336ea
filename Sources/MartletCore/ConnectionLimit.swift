// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The connections of one door, and which of them gives way where there are too many.
///
/// A connection with a request under way stays. Of the others one that has never sent a request goes first, once it had some time; then one
/// of the address that has the most, the one whose last request is the longest ago. So connections that are opened and left silent keep
/// nobody out.
package final class ConnectionLimit: Sendable {
    /// One connection; says when a request is under way.
    package final class Seat: Sendable {
        fileprivate let place: Place
        fileprivate let close: @Sendable () -> Void
        private let limit: ConnectionLimit
        /// Nanoseconds of the clock since when nothing is under way, or `atWork`; whoever has sent a request is behind all others.
        fileprivate let rank: Atomic<UInt64>

        fileprivate static let atWork = UInt64.max
        fileprivate static let hasAsked: UInt64 = 1 << 63

        fileprivate init(_ place: Place, _ limit: ConnectionLimit, _ close: @escaping @Sendable () -> Void) {
            self.place = place
            self.limit = limit
            self.close = close
            rank = Atomic(limit.now())
        }

        /// A request is under way.
        package func works() { rank.store(Self.atWork, ordering: .relaxed) }

        /// No request is under way any more, or what one waits for has come a step further.
        package func rests() {
            rank.store(Self.hasAsked | limit.now(), ordering: .relaxed)
            limit.trim()
        }

        /// The connection has ended.
        package func leave() { limit.remove(self) }
    }

    /// An address, with how many connections it has.
    fileprivate final class Place: Sendable {
        let address: String
        // Changed under the limit's lock.
        let count = Atomic<Int>(0)

        init(_ address: String) {
            self.address = address
        }
    }

    private struct State {
        var seats: [ObjectIdentifier: Seat] = [:]
        var places: [String: Place] = [:]
    }

    private let most: Int
    private let limit: Int
    private let silence: UInt64
    fileprivate let now: @Sendable () -> UInt64
    private let state = Mutex(State())
    private let count = Atomic<Int>(0)

    /// Makes a limit without connections.
    ///
    /// - Parameters:
    ///   - most: Connections from which on one gives way to a further one.
    ///   - limit: Connections where there is none that could give way; not less than `most`.
    ///   - silence: Seconds that a connection has for its first request.
    ///   - now: Nanoseconds of a clock that never jumps.
    package init(
        most: Int,
        limit: Int,
        silence: Int = 5,
        now: @escaping @Sendable () -> UInt64 = ThreadCondition.now
    ) {
        self.most = max(1, most)
        self.limit = max(self.most, limit)
        self.silence = UInt64(silence) * 1_000_000_000
        self.now = now
    }

    /// Takes a connection in; nil where there is no room and nobody can give way.
    ///
    /// `close` is called at most once, without a lock held, when this connection has to go.
    package func add(from address: String, close: @escaping @Sendable () -> Void) -> Seat? {
        let (seat, leaving) = state.withLock { state -> (Seat?, Seat?) in
            let leaving = state.seats.count < most ? nil : takeOne(&state)
            guard leaving != nil || state.seats.count < limit else { return (nil, nil) }
            let place = state.places[address] ?? Place(address)
            state.places[address] = place
            place.count.add(1, ordering: .relaxed)
            let seat = Seat(place, self, close)
            state.seats[ObjectIdentifier(seat)] = seat
            count.store(state.seats.count, ordering: .relaxed)
            return (seat, leaving)
        }
        leaving?.close()
        return seat
    }

    /// Lets one go where there are more than there should be because nobody could give way before.
    private func trim() {
        guard count.load(ordering: .relaxed) > most else { return }
        let leaving = state.withLock { state in state.seats.count > most ? takeOne(&state) : nil }
        leaving?.close()
    }

    private func remove(_ seat: Seat) {
        state.withLock { state in take(seat, &state) }
    }

    private func take(_ seat: Seat, _ state: inout State) {
        guard state.seats.removeValue(forKey: ObjectIdentifier(seat)) != nil else { return }
        count.store(state.seats.count, ordering: .relaxed)
        seat.place.count.subtract(1, ordering: .relaxed)
        if seat.place.count.load(ordering: .relaxed) == 0 { state.places[seat.place.address] = nil }
    }

    /// Takes out the one that gives way; nil where a request is under way on each.
    private func takeOne(_ state: inout State) -> Seat? {
        let now = now()
        var silent: (seat: Seat, rank: UInt64)?
        var resting: (seat: Seat, count: Int, rank: UInt64)?
        for seat in state.seats.values {
            let rank = seat.rank.load(ordering: .relaxed)
            guard rank != Seat.atWork else { continue }
            if rank < Seat.hasAsked, rank + silence <= now, silent.map({ rank < $0.rank }) ?? true {
                silent = (seat, rank)
            }
            let count = seat.place.count.load(ordering: .relaxed)
            if resting.map({ count > $0.count || (count == $0.count && rank < $0.rank) }) ?? true {
                resting = (seat, count, rank)
            }
        }
        guard let seat = silent?.seat ?? resting?.seat else { return nil }
        take(seat, &state)
        return seat
    }
}
