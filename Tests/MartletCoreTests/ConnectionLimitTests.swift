// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Synchronization
import Testing

@Suite struct ConnectionLimitTests {
    /// A limit with a clock of its own, and the names of those that had to go.
    private final class Stand: Sendable {
        let clock: Clock
        let limit: ConnectionLimit
        private let closed = Mutex<[String]>([])

        final class Clock: Sendable {
            let seconds = Atomic<UInt64>(100)
        }

        init(most: Int, limit: Int? = nil) {
            let clock = Clock()
            self.clock = clock
            self.limit = ConnectionLimit(most: most, limit: limit ?? most, silence: 5) {
                clock.seconds.load(ordering: .relaxed) * 1_000_000_000
            }
        }

        var gone: [String] { closed.withLock { $0 } }

        func pass(_ seconds: UInt64) { clock.seconds.add(seconds, ordering: .relaxed) }

        /// A connection that is named as what goes, a second after the one before.
        func open(_ name: String, from address: String = "a") -> ConnectionLimit.Seat? {
            pass(1)
            return limit.add(from: address) { [self] in closed.withLock { $0.append(name) } }
        }
    }

    @Test func whoNeverAskedGivesWayFirstAndTheLongestSilentOneBefore() {
        let stand = Stand(most: 3)
        let asked = stand.open("asked")
        asked?.works()
        asked?.rests()
        _ = stand.open("silent")
        _ = stand.open("later")
        stand.pass(10)
        #expect(stand.open("new") != nil)
        #expect(stand.open("newer") != nil)
        #expect(stand.gone == ["silent", "later"])
    }

    @Test func whoseLastRequestIsTheLongestAgoGivesWay() {
        let stand = Stand(most: 3)
        let seats = ["first", "second", "third"].map { stand.open($0) }
        for seat in [2, 0, 1] {
            seats[seat]?.works()
            stand.pass(1)
            seats[seat]?.rests()
        }
        #expect(stand.open("new") != nil)
        #expect(stand.gone == ["third"])
    }

    @Test func whoIsServedStays() {
        let stand = Stand(most: 2)
        let seats = ["one", "two"].map { stand.open($0) }
        for seat in seats { seat?.works() }
        #expect(stand.open("new") == nil)
        #expect(stand.gone == [])
        seats[1]?.rests()
        #expect(stand.open("newer") != nil)
        #expect(stand.gone == ["two"])
    }

    /// Silence has a time limit before it counts, so that a flood does not drive out who is just about to ask.
    @Test func anAddressWithManyConnectionsGivesWayToOthers() {
        let stand = Stand(most: 4)
        for name in ["a1", "a2", "a3"] {
            let seat = stand.open(name, from: "a")
            seat?.works()
            seat?.rests()
        }
        _ = stand.open("b1", from: "b")
        _ = stand.open("c1", from: "c")
        #expect(stand.gone == ["a1"])
        _ = stand.open("d1", from: "d")
        #expect(stand.gone == ["a1", "a2"])
    }

    @Test func thoseBeyondGoAsSoonAsTheyRest() {
        let stand = Stand(most: 1, limit: 3)
        let seats = ["one", "two", "three"].map { name in
            let seat = stand.open(name)
            seat?.works()
            return seat
        }
        #expect(stand.open("four") == nil)
        seats[1]?.rests()
        #expect(stand.gone == ["two"])
        seats[2]?.rests()
        seats[0]?.rests()
        #expect(stand.gone == ["two", "three"])
    }

    @Test func whoHasLeftCountsNoMore() {
        let stand = Stand(most: 2)
        let first = stand.open("first")
        _ = stand.open("second")
        first?.leave()
        first?.leave()
        #expect(stand.open("third") != nil)
        #expect(stand.gone == [])
        #expect(stand.open("fourth") != nil)
        #expect(stand.gone == ["second"])
    }
}
