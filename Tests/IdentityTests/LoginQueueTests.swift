// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import Testing

struct LoginQueueTests {
    /// Runs checks of a given length against a clock of its own.
    private struct Checks {
        let began = ContinuousClock.now
        private(set) var now: ContinuousClock.Instant
        var queue = LoginQueue()
        private var atWork: [(turn: LoginQueue.Turn, end: ContinuousClock.Instant, outcome: LoginQueue.Outcome)] = []
        private var outcomes: [UInt64: LoginQueue.Outcome] = [:]
        /// When checks began, since the start.
        private(set) var begun: [Duration] = []
        private(set) var refused = 0
        private(set) var atWorkMost = 0
        private(set) var waitingMost = 0
        private let length: Duration

        init(length: Duration = .milliseconds(20)) {
            now = began
            self.length = length
        }

        /// Whether it goes at once; nil where it is refused.
        @discardableResult
        mutating func arrive(_ place: String, _ user: String?, _ outcome: LoginQueue.Outcome = .failed) -> Bool? {
            switch queue.arrive(place: place, user: user, now: now) {
            case .goes(let turn):
                begin(turn, outcome)
                return true
            case .waits(let turn):
                outcomes[turn.number] = outcome
                waitingMost = max(waitingMost, queue.waitingCount)
                return false
            case .refused:
                refused += 1
                return nil
            }
        }

        private mutating func begin(_ turn: LoginQueue.Turn, _ outcome: LoginQueue.Outcome) {
            begun.append(now - began)
            atWork.append((turn, now + length, outcome))
            atWorkMost = max(atWorkMost, atWork.count)
        }

        /// Lets time pass, in steps of ten milliseconds.
        mutating func pass(_ time: Duration) {
            let end = now + time
            while now < end {
                now += .milliseconds(10)
                let ended = atWork.filter { $0.end <= now }
                atWork.removeAll { $0.end <= now }
                for one in ended { queue.end(one.turn, one.outcome, now: now) }
                for turn in queue.ready(now: now).turns {
                    begin(turn, outcomes.removeValue(forKey: turn.number) ?? .undecided)
                }
            }
        }
    }

    @Test func manyConnectionsGuessNoFasterThanOne() {
        var checks = Checks()
        for _ in 0..<500 { checks.arrive("10.0.0.1", "alice") }
        checks.pass(.seconds(60))
        #expect(checks.atWorkMost == LoginQueue.atOnceMax.place)
        // Those that were there before the first failure, of which none waits longer than it may; and no more.
        #expect(checks.refused > 0)
        for _ in 0..<600 {
            checks.arrive("10.0.0.1", "alice")
            checks.pass(.milliseconds(100))
        }
        let last = checks.begun.filter { $0 > .seconds(60) }
        #expect((5...10).contains(last.count), "\(last)")
    }

    @Test func eachFailureMakesTheNextCheckWaitLonger() {
        var checks = Checks()
        for _ in 0..<40 {
            _ = checks.arrive("10.0.0.1", "alice")
            checks.pass(.seconds(1))
        }
        let pauses = zip(checks.begun, checks.begun.dropFirst()).map { $1 - $0 }
        #expect(pauses[0] >= .milliseconds(500))
        #expect(pauses[2] >= .seconds(2))
        #expect(pauses.suffix(2).allSatisfy { $0 >= .seconds(8) && $0 < .seconds(9) }, "\(pauses)")
    }

    /// Guessing at others does not hold up a user who has logged in from there before, and hardly one who has not.
    @Test func genuineUsersGetInBesideAGuesser() {
        var checks = Checks()
        checks.arrive("10.0.0.1", "bob", .passed)
        checks.pass(.seconds(1))
        for number in 0..<3000 {
            checks.arrive("10.0.0.1", "user-\(number % 100)")
            checks.pass(.milliseconds(10))
        }
        let known = checks.arrive("10.0.0.1", "bob", .passed)
        #expect(known == true)
        let elsewhere = checks.arrive("10.0.0.2", "user-1", .passed)
        #expect(elsewhere != nil)
        let before = checks.begun.count
        checks.pass(.seconds(4))
        #expect(checks.begun.count > before, "those who guess go on, slowly")
        #expect(checks.begun.count < before + 10)
    }

    @Test func aUserWhoIsGuessedAtFromEverywhereGetsInFromWhereTheyWere() {
        var checks = Checks()
        checks.arrive("10.0.0.1", "alice", .passed)
        checks.pass(.seconds(1))
        let before = checks.begun.count
        for number in 0..<2000 {
            checks.arrive("192.0.2.\(number)", "alice")
            checks.pass(.milliseconds(10))
        }
        #expect(checks.begun.count - before < 80, "\(checks.begun.count)")
        let known = checks.arrive("10.0.0.1", "alice", .passed)
        #expect(known == true)
    }

    @Test func anAccountOfOnesOwnForgivesNoGuessesAtOthers() {
        var checks = Checks()
        for number in 0..<400 {
            checks.arrive("10.0.0.1", "user-\(number)")
            checks.arrive("10.0.0.1", "mallory", .passed)
            checks.pass(.milliseconds(100))
        }
        // 40 seconds: the first 20 are free, then there are fewer and fewer.
        #expect(checks.begun.count - 400 < 60, "\(checks.begun.count)")
    }

    @Test func manyClientsWithTheRightPasswordGetInAtOnce() {
        var checks = Checks()
        for _ in 0..<190 { checks.arrive("10.0.0.1", "alice", .passed) }
        #expect(checks.refused == 0)
        checks.pass(.seconds(2))
        #expect(checks.begun.count == 190)
        #expect(checks.queue.waitingCount == 0)
    }

    @Test func passwordsDoNotWaitForTokensWhoseKeysAreSlow() {
        var checks = Checks(length: .seconds(3600))
        for number in 0..<200 { checks.arrive("10.0.0.\(number / 4)", nil, .undecided) }
        #expect(checks.atWorkMost == LoginQueue.tokensAtOnceMax)
        #expect(checks.arrive("10.1.0.1", "alice", .passed) == true)
    }

    @Test func nobodyWaitsLongerThanTheBound() {
        var checks = Checks()
        for _ in 0..<20 {
            checks.arrive("10.0.0.1", "alice")
            checks.pass(.seconds(9))
        }
        while checks.arrive("10.0.0.1", "alice") != nil {}
        checks.pass(LoginQueue.waitMax + .seconds(1))
        #expect(checks.queue.waitingCount == 0)
    }

    @Test func aFloodIsBounded() {
        var checks = Checks(length: .seconds(3600))
        for number in 0..<50_000 { checks.arrive("10.\(number / 300 % 250).0.1", "user-\(number)", .undecided) }
        #expect(checks.atWorkMost == LoginQueue.atOnceMax.all)
        #expect(checks.waitingMost <= LoginQueue.waitingMax.all)
        #expect(checks.refused > 40_000)
        checks = Checks(length: .milliseconds(1))
        for number in 0..<12_000 {
            checks.arrive("2001:db8:\(number)::", "user-\(number)")
            checks.pass(.milliseconds(10))
        }
        #expect(checks.begun.count == 12_000, "each from elsewhere, as somebody else")
        #expect(checks.queue.rememberedCount <= 3 * LoginQueue.remembered)
    }

    @Test func whoLeavesWaitsNoMore() {
        var queue = LoginQueue()
        let now = ContinuousClock.now
        var turns: [LoginQueue.Turn] = []
        var left: [Bool] = []
        for _ in 0..<10 {
            if case .waits(let turn) = queue.arrive(place: "10.0.0.1", user: "alice", now: now) { turns.append(turn) }
        }
        #expect(turns.count == 6)
        #expect(queue.waitingCount == 6)
        for turn in turns + turns.prefix(1) { left.append(queue.leave(turn)) }
        #expect(left == [true, true, true, true, true, true, false])
        #expect(queue.waitingCount == 0)
    }
}

struct ClientAddressTests {
    @Test(arguments: [
        ("10.0.0.1", "10.0.0.1"), ("2001:DB8::1", "2001:db8::1"), ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"), ("::FFFF:7f00:1", "127.0.0.1"), ("0:0:0:0:0:0:0:1", "::1"),
        ("0:0:0:0:0:ffff:10.1.2.3", "10.1.2.3"),
    ])
    func writesAnAddressInOneWay(_ text: String, _ form: String) {
        #expect(ClientAddress.normalised(text) == form)
        #expect(ClientAddress.normalised(form) == form)
    }

    @Test(arguments: [
        "", "*", "localhost", "10.0.0", "10.0.0.256", "10.0.0.0/8", "fe80::1%eth0", "[::1]", " 10.0.0.1", "10.0.0.1\0",
        "10.0.0.1\0x", ":::", "1:2", "abcdef", "0:0:0:0:0:0:0:0:1",
    ])
    func namesAndNetworksAreNoAddresses(_ text: String) {
        #expect(ClientAddress.normalised(text) == nil)
    }

    @Test func aNetworkIsOnePlace() {
        #expect(ClientAddress.network("2001:db8:1:2:3:4:5:6") == ClientAddress.network("2001:DB8:1:2::9"))
        #expect(ClientAddress.network("2001:db8:1:2::1") != ClientAddress.network("2001:db8:1:3::1"))
        #expect(ClientAddress.network("::ffff:10.0.0.1") == "10.0.0.1")
        #expect(ClientAddress.network("10.0.0.1") != ClientAddress.network("10.0.0.2"))
        #expect(ClientAddress.network("unknown") == "unknown")
    }
}
