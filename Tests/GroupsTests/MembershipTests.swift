// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

struct MembershipTests {
    @Test func heartbeatsKeepAMember() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request()])[0]
        for _ in 0..<10 {
            harness.pass(.seconds(9))
            #expect(harness.heartbeat(id, 1) == nil)
        }
        harness.pass(.seconds(10))
        #expect(harness.heartbeat(id, 1) == .unknownMember)
        #expect(harness.group.state == .empty)
        #expect(harness.group.emptySince == harness.now.wallMilliseconds)
    }

    @Test func heartbeatsAreRefusedWithTheReason() {
        var harness = GroupHarness()
        #expect(harness.heartbeat("m1", 0) == .unknownMember)
        let id = harness.stabilize([GroupHarness.request(instance: "i")])[0]
        #expect(harness.heartbeat(id, 0) == .illegalGeneration)
        #expect(harness.heartbeat(id, 2) == .illegalGeneration)
        #expect(harness.heartbeat("nobody", 1) == .unknownMember)
        #expect(harness.heartbeat("nobody", 1, instance: "i") == .fencedInstance)
        #expect(harness.heartbeat(id, 1, instance: "j") == .unknownMember)
        #expect(harness.heartbeat(id, 1, instance: "i") == nil)
    }

    @Test func heartbeatsBetweenJoinAndAssignmentCount() {
        var (harness, leader, follower) = SyncTests.joined()
        harness.pass(.seconds(8))
        #expect(harness.heartbeat(leader, 2) == nil)
        #expect(harness.heartbeat(follower, 2) == nil)
        harness.pass(.seconds(8))
        #expect(harness.group.memberCount == 2)
    }

    @Test func whoWaitsForAnAnswerIsNotMissed() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request(session: .seconds(60))])
        let waiting = harness.join(GroupHarness.request(ids[0]))
        harness.pass(.seconds(59))
        #expect(harness.joins[waiting] == nil)
        #expect(harness.group.memberCount == 2)
        harness.pass(.seconds(1))
        #expect(harness.joins[waiting]?.error == nil)
        #expect(harness.group.memberCount == 1)
    }

    @Test func leavingCausesARebalance() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request(), GroupHarness.request()])
        let generation = harness.group.generation
        let errors = harness.leave(
            GroupLeave.Member(memberID: ids[0]),
            GroupLeave.Member(memberID: "nobody"),
            GroupLeave.Member(memberID: ids[1])
        )
        #expect(errors == [nil, .unknownMember, nil])
        #expect(harness.heartbeat(ids[2], generation) == .rebalanceInProgress)
        let again = harness.join(GroupHarness.request(ids[2]))
        #expect(harness.joins[again]?.leader == ids[2])
        #expect(harness.leave(GroupLeave.Member(memberID: ids[2])) == [nil])
        #expect(harness.group.state == .empty)
        #expect(harness.group.protocolType == "consumer")
        #expect(harness.disk?.members.isEmpty == true)
    }

    @Test func leavingWithAnUnusedIDDisturbsNobody() {
        var harness = GroupHarness()
        _ = harness.stabilize([GroupHarness.request()])
        let given = harness.join(GroupHarness.request(requiresKnownMember: true))
        let id = harness.joins[given]?.memberID ?? ""
        #expect(harness.leave(GroupLeave.Member(memberID: id)) == [nil])
        #expect(harness.leave(GroupLeave.Member(memberID: id)) == [.unknownMember])
        #expect(harness.group.state == .stable)
    }

    @Test func leavingWhileWaitingAnswersTheWait() {
        var (harness, leader, follower) = SyncTests.joined()
        let sync = harness.sync(follower, 2)
        _ = harness.leave(GroupLeave.Member(memberID: follower))
        #expect(harness.syncs[sync]?.error == .unknownMember)
        let join = harness.join(GroupHarness.request())
        _ = harness.leave(GroupLeave.Member(memberID: "m4"))
        #expect(harness.joins[join]?.error == .unknownMember)
        _ = leader
    }

    @Test func staticMembersLeaveByInstance() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(instance: "i"), GroupHarness.request(instance: "j")])
        #expect(harness.leave(GroupLeave.Member(memberID: "nobody", instanceID: "i")) == [.fencedInstance])
        #expect(harness.leave(GroupLeave.Member(memberID: "", instanceID: "k")) == [.unknownMember])
        #expect(harness.leave(GroupLeave.Member(memberID: "", instanceID: "i")) == [nil])
        #expect(harness.leave(GroupLeave.Member(memberID: ids[1], instanceID: "j")) == [nil])
        #expect(harness.group.state == .empty)
    }

    // MARK: Static members

    @Test func aRestartedStaticMemberKeepsItsAssignmentWithoutARebalance() throws {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(instance: "i"), GroupHarness.request(instance: "j")])
        let generation = harness.group.generation
        harness.writesAtOnce = false
        let caller = harness.join(GroupHarness.request(instance: "j"))
        // The new id is on disk before anybody hears of it.
        #expect(harness.joins[caller] == nil)
        harness.write()
        harness.writesAtOnce = true
        let answer = try #require(harness.joins[caller])
        #expect(answer.error == nil)
        #expect(answer.generation == generation)
        #expect(answer.memberID != ids[1])
        #expect(harness.disk?.members.map(\.id) == [ids[0], answer.memberID])
        #expect(harness.group.state == .stable)
        #expect(harness.syncs[harness.sync(answer.memberID, generation, instance: "j")]?.assignment == [1])
        #expect(harness.heartbeat(ids[1], generation, instance: "j") == .fencedInstance)
        #expect(harness.heartbeat(ids[0], generation, instance: "i") == nil)
        #expect(harness.commit(ids[1], generation, instance: "j") == .fencedInstance)
        let former = harness.join(GroupHarness.request(ids[1], instance: "j"))
        #expect(harness.joins[former]?.error == .fencedInstance)
    }

    @Test func aRestartedStaticLeaderIsKeptFromAssigning() throws {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(instance: "i"), GroupHarness.request(instance: "j")])
        let new = try #require(harness.joins[harness.join(GroupHarness.request(instance: "i", canSkip: true))])
        #expect(new.leader == new.memberID)
        #expect(new.skipsAssignment)
        #expect(new.members.count == 2)
        let old = try #require(harness.joins[harness.join(GroupHarness.request(instance: "i"))])
        // Clients before version 9 assign when they lead, so they are told of the former leader.
        #expect(old.leader == new.memberID)
        #expect(old.memberID != new.memberID)
        #expect(!old.skipsAssignment)
        #expect(old.members.isEmpty)
        #expect(harness.syncs[harness.sync(old.memberID, old.generation, instance: "i")]?.assignment == [0])
        #expect(harness.group.state == .stable)
        _ = ids
    }

    @Test func aRestartedStaticMemberWithOtherTopicsCausesARebalance() {
        var harness = GroupHarness()
        _ = harness.stabilize([GroupHarness.request(instance: "i"), GroupHarness.request(instance: "j")])
        let caller = harness.join(GroupHarness.request(instance: "j", topics: ["u"]))
        #expect(harness.joins[caller] == nil)
        #expect(harness.group.state == .preparingRebalance)
    }

    @Test func aRestartedStaticMemberThatChangesTheProtocolCausesARebalance() {
        var harness = GroupHarness()
        _ = harness.stabilize([
            GroupHarness.request(instance: "i", protocols: ["a", "b"]),
            GroupHarness.request(instance: "j", protocols: ["a", "b"]),
        ])
        _ = harness.join(GroupHarness.request(instance: "i", protocols: ["b"]))
        #expect(harness.group.state == .preparingRebalance)
    }

    @Test func aStaticMemberThatRestartsDuringARebalanceFencesItsFormerSelf() {
        var (harness, _, _) = SyncTests.joined()
        let first = harness.join(GroupHarness.request(instance: "i"))
        let second = harness.join(GroupHarness.request(instance: "i"))
        #expect(harness.joins[first]?.error == .fencedInstance)
        _ = harness.join(GroupHarness.request("m1"))
        _ = harness.join(GroupHarness.request("m2"))
        #expect(harness.joins[second]?.error == nil)
        let sync = harness.sync(harness.joins[second]?.memberID ?? "", 3, instance: "i")
        let third = harness.join(GroupHarness.request(instance: "i"))
        #expect(harness.syncs[sync]?.error == .fencedInstance)
        #expect(harness.group.state == .preparingRebalance)
        #expect(harness.joins[third] == nil)
    }

    @Test func silentStaticMembersKeepTheirPlaceUntilTheirSessionEnds() throws {
        var harness = GroupHarness()
        let ids = harness.stabilize([
            GroupHarness.request(instance: "i", session: .seconds(100), rebalance: .seconds(20)),
            GroupHarness.request(instance: "j", session: .seconds(100), rebalance: .seconds(20)),
        ])
        let caller = harness.join(GroupHarness.request(ids[1], instance: "j", topics: ["u"], session: .seconds(100)))
        harness.pass(.seconds(60))
        let answer = try #require(harness.joins[caller])
        #expect(answer.leader == ids[1])
        #expect(answer.members.map(\.instanceID) == ["i", "j"])
        _ = harness.sync(ids[1], answer.generation, [ids[0]: [1], ids[1]: [2]])
        for _ in 0..<3 {
            harness.pass(.seconds(10))
            _ = harness.heartbeat(ids[1], answer.generation)
        }
        #expect(harness.group.memberCount == 2)
        harness.pass(.seconds(20))
        #expect(harness.group.memberCount == 1)
    }

    @Test func aRebalanceWaitsWhileOnlySilentStaticMembersAreLeft() {
        var harness = GroupHarness()
        let request = GroupHarness.request(instance: "i", session: .seconds(100), rebalance: .seconds(10))
        _ = harness.stabilize([request])
        let caller = harness.join(GroupHarness.request(rebalance: .seconds(10)))
        harness.abandon(caller)
        harness.pass(.seconds(50))
        #expect(harness.group.memberCount == 1)
        #expect(harness.group.state == .preparingRebalance)
        harness.pass(.seconds(50))
        #expect(harness.group.state == .empty)
    }
}
