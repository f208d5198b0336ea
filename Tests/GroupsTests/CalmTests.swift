// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

/// Groups whose members come and go faster than an assignment can be worked on.
@Suite struct CalmTests {
    /// A group with one worker whose last five generations began at the same time; returns the worker's id.
    private static func restless(_ harness: inout GroupHarness) -> String {
        let one = harness.stabilize([GroupHarness.request()])[0]
        while harness.group.generation < 5 {
            // Another one comes and goes: a generation each time.
            _ = harness.join(GroupHarness.request())
            let caller = harness.join(GroupHarness.request(one))
            settle(&harness, one)
            guard let answer = harness.joins[caller], harness.group.generation < 5 else { break }
            for peer in answer.members where peer.memberID != one {
                _ = harness.leave(GroupLeave.Member(memberID: peer.memberID))
            }
            _ = harness.join(GroupHarness.request(one))
            settle(&harness, one)
        }
        return one
    }

    private static func settle(_ harness: inout GroupHarness, _ one: String) {
        _ = harness.sync(one, harness.group.generation, [one: [1]])
    }

    @Test func theFirstGenerationsFollowEachOtherAtOnce() {
        var harness = GroupHarness()
        _ = Self.restless(&harness)
        #expect(harness.group.generation == 5)
        #expect(harness.group.state == .stable)
    }

    @Test func afterManyGenerationsTheNextOneWaits() {
        var harness = GroupHarness()
        let one = Self.restless(&harness)
        let waiting = harness.join(GroupHarness.request())
        #expect(harness.group.state == .stable)
        harness.pass(.milliseconds(1900))
        #expect(harness.heartbeat(one, 5) == nil, "it is left alone")
        #expect(harness.commit(one, 5) == nil)
        let another = harness.join(GroupHarness.request())
        harness.pass(.milliseconds(100))
        #expect(harness.group.state == .preparingRebalance)
        #expect(harness.heartbeat(one, 5) == .rebalanceInProgress)
        let caller = harness.join(GroupHarness.request(one))
        // All that came meanwhile are in the same generation.
        #expect(harness.joins[caller]?.generation == 6)
        #expect(harness.joins[waiting]?.generation == 6)
        #expect(harness.joins[another]?.generation == 6)
    }

    @Test func anAssignmentThatIsBeingMadeIsNotOvertaken() {
        var harness = GroupHarness()
        let one = Self.restless(&harness)
        harness.pass(.seconds(2))
        let second = harness.join(GroupHarness.request())
        _ = harness.join(GroupHarness.request(one))
        #expect(harness.group.state == .completingRebalance)
        let id = harness.joins[second]?.memberID ?? ""
        let waiting = harness.join(GroupHarness.request())
        let synced = harness.sync(id, 6)
        _ = harness.sync(one, 6, [one: [1], id: [2]])
        #expect(harness.group.state == .stable)
        #expect(harness.syncs[synced]?.assignment == [2])
        #expect(harness.joins[waiting] == nil)
        harness.pass(.seconds(2))
        #expect(harness.group.state == .preparingRebalance)
    }

    @Test func aLostLeaderIsReplacedAtOnce() {
        var harness = GroupHarness()
        let one = Self.restless(&harness)
        harness.pass(.seconds(2))
        let second = harness.join(GroupHarness.request())
        _ = harness.join(GroupHarness.request(one))
        let id = harness.joins[second]?.memberID ?? ""
        #expect(harness.group.state == .completingRebalance)
        let synced = harness.sync(id, 6)
        _ = harness.leave(GroupLeave.Member(memberID: one))
        #expect(harness.syncs[synced]?.error == .rebalanceInProgress)
        let caller = harness.join(GroupHarness.request(id))
        #expect(harness.joins[caller]?.generation == 7)
    }

    @Test func whoWaitsIsNotGivenTheGenerationThatGoesOn() {
        var harness = GroupHarness()
        let one = Self.restless(&harness)
        let given = harness.joins[harness.join(GroupHarness.request(requiresKnownMember: true))]?.memberID ?? ""
        harness.abandon(harness.join(GroupHarness.request(given)))
        let back = harness.join(GroupHarness.request(given))
        #expect(harness.joins[back] == nil)
        harness.pass(.seconds(2))
        _ = harness.join(GroupHarness.request(one))
        #expect(harness.joins[back]?.generation == 6)
    }

    @Test func theLastMemberLeavesAtOnce() {
        var harness = GroupHarness()
        let one = Self.restless(&harness)
        _ = harness.leave(GroupLeave.Member(memberID: one))
        #expect(harness.group.state == .empty)
    }

    @Test func aQuietGroupIsNotHeldUp() {
        var harness = GroupHarness()
        let one = Self.restless(&harness)
        for _ in 0..<5 {
            harness.pass(.seconds(2))
            _ = harness.heartbeat(one, 5)
        }
        _ = harness.join(GroupHarness.request())
        #expect(harness.group.state == .preparingRebalance)
    }

    /// Somebody comes or goes every 100 ms for ten minutes; members look for a rebalance every 300 ms.
    @Test func inAStormMembersWorkMostOfTheTime() {
        var harness = GroupHarness()
        let one = harness.stabilize([GroupHarness.request(rebalance: .seconds(300))])[0]
        var generation = harness.group.generation
        var waiting: GroupCaller?
        var visitors: [GroupCaller] = []
        var worked = 0
        for step in 0..<6000 {
            if step % 2 == 0 {
                visitors.append(harness.join(GroupHarness.request(rebalance: .seconds(300))))
            } else if visitors.count > 8 {
                let gone = visitors.removeFirst()
                if let answer = harness.joins[gone] {
                    _ = harness.leave(GroupLeave.Member(memberID: answer.memberID))
                } else {
                    harness.abandon(gone)
                }
            }
            // Visitors come again as soon as they are told.
            for (place, visitor) in visitors.enumerated() {
                guard let answer = harness.joins[visitor] else { continue }
                if harness.heartbeat(answer.memberID, answer.generation) == .rebalanceInProgress {
                    visitors[place] = harness.join(
                        GroupHarness.request(answer.memberID, rebalance: .seconds(300))
                    )
                } else if harness.group.state == .completingRebalance {
                    _ = harness.sync(answer.memberID, answer.generation)
                }
            }
            if let caller = waiting {
                if let answer = harness.joins[caller] {
                    generation = answer.generation
                    waiting = nil
                }
            } else if harness.group.state == .completingRebalance {
                _ = harness.sync(one, generation, [one: [1]])
            } else if step % 3 == 0, harness.heartbeat(one, generation) == .rebalanceInProgress {
                waiting = harness.join(GroupHarness.request(one, rebalance: .seconds(300)))
            } else if harness.group.state == .stable {
                worked += 1
            }
            harness.pass(.milliseconds(100))
        }
        #expect(worked > 3000, "in more than half of the steps")
        #expect(harness.group.generation > 100)
    }
}
