// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

/// Members whose connection breaks while they wait for the next generation.
@Suite struct VanishedMemberTests {
    @Test func doNotHoldUpTheOthers() throws {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        let vanished = harness.join(GroupHarness.request(ids[1], topics: ["u"]))
        harness.abandon(vanished)
        let caller = harness.join(GroupHarness.request(ids[0]))
        let answer = try #require(harness.joins[caller])
        #expect(answer.error == nil)
        #expect(answer.members.map(\.memberID) == [ids[0]])
        #expect(harness.joins[vanished] == nil)
        #expect(harness.joins[harness.join(GroupHarness.request(ids[1]))]?.error == .unknownMember)
    }

    @Test func setTheOthersFreeWhenTheyVanishLast() {
        var harness = GroupHarness()
        let one = harness.stabilize([GroupHarness.request(rebalance: .seconds(300))])[0]
        let given = harness.joins[harness.join(GroupHarness.request(requiresKnownMember: true))]?.memberID ?? ""
        let vanished = harness.join(GroupHarness.request(given, rebalance: .seconds(300)))
        let third = harness.join(GroupHarness.request())
        harness.abandon(vanished)
        #expect(harness.joins[third] == nil)
        let caller = harness.join(GroupHarness.request(one))
        #expect(harness.joins[caller]?.members.count == 2)
        #expect(harness.joins[third]?.generation == 2)
    }

    @Test func keepTheirPlaceWhenTheyComeBackInTime() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        harness.abandon(harness.join(GroupHarness.request(ids[1], topics: ["u"])))
        let back = harness.join(GroupHarness.request(ids[1], topics: ["u"]))
        let caller = harness.join(GroupHarness.request(ids[0]))
        #expect(harness.joins[caller]?.members.count == 2)
        #expect(harness.joins[back]?.generation == 3)
    }

    @Test func areWaitedForAgainOnceTheyWereHeardOf() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        harness.abandon(harness.join(GroupHarness.request(ids[1], topics: ["u"])))
        #expect(harness.heartbeat(ids[1], 2) == .rebalanceInProgress)
        let caller = harness.join(GroupHarness.request(ids[0]))
        #expect(harness.joins[caller] == nil)
        let back = harness.join(GroupHarness.request(ids[1], topics: ["u"]))
        #expect(harness.joins[caller]?.members.count == 2)
        #expect(harness.joins[back]?.generation == 3)
    }

    @Test func haveTheirSessionTimeoutWhileNobodyWaitsForThem() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        harness.abandon(harness.join(GroupHarness.request(ids[1], topics: ["u"])))
        harness.pass(.seconds(9))
        #expect(harness.group.memberCount == 2)
        #expect(harness.heartbeat(ids[0], 2) == .rebalanceInProgress)
        harness.pass(.seconds(1))
        #expect(harness.group.memberCount == 1)
        #expect(harness.group.state == .preparingRebalance)
    }

    @Test func newOnesThatComeBackAreNotMissedWhileTheyWait() {
        var harness = GroupHarness()
        let one = harness.stabilize([GroupHarness.request(rebalance: .seconds(300))])[0]
        let given = harness.joins[harness.join(GroupHarness.request(requiresKnownMember: true))]?.memberID ?? ""
        harness.abandon(harness.join(GroupHarness.request(given, rebalance: .seconds(300))))
        let back = harness.join(GroupHarness.request(given, rebalance: .seconds(300)))
        for _ in 0..<20 {
            #expect(harness.heartbeat(one, 1) == .rebalanceInProgress)
            harness.pass(.seconds(5))
        }
        #expect(harness.joins[back] == nil)
        _ = harness.join(GroupHarness.request(one))
        #expect(harness.joins[back]?.generation == 2)
    }

    @Test func staticOnesKeepTheirPlace() throws {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request(instance: "i")])
        let id = try #require(ids.first { $0 != ids[0] })
        harness.abandon(harness.join(GroupHarness.request(id, instance: "i", topics: ["u"])))
        let caller = harness.join(GroupHarness.request(ids[0]))
        #expect(harness.joins[caller]?.members.map(\.instanceID).contains("i") == true)
        // It comes back with what it wanted before and takes its part in the same generation.
        let back = harness.joins[harness.join(GroupHarness.request(id, instance: "i", topics: ["u"]))]
        #expect(back?.generation == harness.group.generation)
        #expect(harness.group.state == .completingRebalance)
    }

    /// A consumer that works beside a client that is started again and again and dies after a second.
    @Test(arguments: [true, false])
    func aCrashLoopLeavesAHealthyMemberItsTurns(handshake: Bool) {
        var harness = GroupHarness()
        func request(_ id: String = "", handshake: Bool = false) -> GroupJoin.Request {
            GroupHarness.request(id, session: .seconds(6), rebalance: .seconds(300), requiresKnownMember: handshake)
        }
        let steady = harness.stabilize([request()])[0]
        var generation = harness.group.generation
        var waiting: GroupCaller?
        var turns = 0
        var stepsSinceTurn = 0
        var longest = 0
        var crasher: (caller: GroupCaller, died: Int, hasDied: Bool)?
        // Steps of 100 ms, for ten minutes.
        for step in 0..<6000 {
            if step % 15 == 0 {
                var id = ""
                if handshake { id = harness.joins[harness.join(request(handshake: true))]?.memberID ?? "" }
                crasher = (harness.join(request(id)), step + 10, false)
            }
            if var dying = crasher, !dying.hasDied {
                if let answer = harness.joins[dying.caller], answer.error == nil, harness.group.state != .stable {
                    _ = harness.sync(answer.memberID, answer.generation)
                }
                if step >= dying.died {
                    dying.hasDied = true
                    crasher = dying
                    if harness.joins[dying.caller] == nil { harness.abandon(dying.caller) }
                }
            }
            if let caller = waiting {
                if let answer = harness.joins[caller] {
                    waiting = nil
                    generation = answer.generation
                    let synced = harness.sync(steady, generation, [steady: [1]])
                    if harness.syncs[synced]?.assignment == [1] {
                        turns += 1
                        longest = max(longest, stepsSinceTurn)
                        stepsSinceTurn = 0
                    }
                }
            } else if step % 3 == 0, harness.heartbeat(steady, generation) == .rebalanceInProgress {
                waiting = harness.join(request(steady))
            }
            stepsSinceTurn += 1
            harness.pass(.milliseconds(100))
        }
        // Whoever had an answer before it died is missed for its session; nobody else holds anything up.
        #expect(turns >= 60)
        #expect(longest <= 90)
    }
}
