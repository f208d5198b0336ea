// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

struct CommitTests {
    @Test func simpleConsumersCommitWhileTheGroupIsEmpty() {
        var harness = GroupHarness()
        #expect(harness.commit("", -1) == nil)
        let id = harness.stabilize([GroupHarness.request()])[0]
        #expect(harness.commit("", -1) == .unknownMember)
        _ = harness.leave(GroupLeave.Member(memberID: id))
        #expect(harness.commit("", -1) == nil)
    }

    @Test func membersCommitWithTheirGeneration() {
        var harness = GroupHarness()
        #expect(harness.commit("m1", 1) == .unknownMember)
        let id = harness.stabilize([GroupHarness.request(instance: "i")])[0]
        #expect(harness.commit(id, 1) == nil)
        #expect(harness.commit(id, 1, instance: "i") == nil)
        #expect(harness.commit(id, 0) == .illegalGeneration)
        #expect(harness.commit(id, 2) == .illegalGeneration)
        #expect(harness.commit(id, -1) == .illegalGeneration)
        #expect(harness.commit("nobody", 1) == .unknownMember)
        #expect(harness.commit("nobody", 1, instance: "i") == .fencedInstance)
    }

    @Test func commitsGoOnWhileMembersAreToldToComeAgain() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request()])[0]
        _ = harness.join(GroupHarness.request())
        #expect(harness.group.state == .preparingRebalance)
        #expect(harness.commit(id, 1) == nil)
        _ = harness.join(GroupHarness.request(id))
        #expect(harness.group.state == .completingRebalance)
        #expect(harness.commit(id, 1) == .illegalGeneration)
        #expect(harness.commit(id, 2) == .rebalanceInProgress)
    }

    @Test func transactionsMayNameNoMember() {
        var (harness, leader, _) = SyncTests.joined()
        #expect(harness.commit("", -1, isTransactional: true) == nil)
        #expect(harness.commit(leader, 2, isTransactional: true) == nil)
        #expect(harness.commit(leader, 1, isTransactional: true) == .illegalGeneration)
        #expect(harness.commit("nobody", 2, isTransactional: true) == .unknownMember)
    }

    @Test func aCommitCountsAsAHeartbeat() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request()])[0]
        for _ in 0..<5 {
            harness.pass(.seconds(8))
            #expect(harness.commit(id, 1) == nil)
        }
    }

    @Test func offsetsOfTopicsThatAreReadCannotBeDeleted() {
        var harness = GroupHarness()
        #expect(harness.group.refusalToDeleteOffsets(of: "t") == nil)
        let id = harness.stabilize([GroupHarness.request(topics: ["t", "u"])])[0]
        #expect(harness.group.refusalToDeleteOffsets(of: "t") == .groupSubscribedToTopic)
        #expect(harness.group.refusalToDeleteOffsets(of: "v") == nil)
        _ = harness.join(GroupHarness.request(id, metadata: [1]))
        #expect(harness.group.refusalToDeleteOffsets(of: "v") == .groupSubscribedToTopic)
        var other = GroupHarness()
        _ = other.stabilize([GroupHarness.request(type: "connect")])
        #expect(other.group.refusalToDeleteOffsets(of: "t") == .nonEmptyGroup)
    }

    @Test func aClosedGroupRefusesEverything() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request()])[0]
        let closesWithMembers = harness.group.close()
        #expect(!closesWithMembers)
        _ = harness.leave(GroupLeave.Member(memberID: id))
        let closes = harness.group.close()
        #expect(closes)
        #expect(harness.group.state == .dead)
        #expect(harness.joins[harness.join(GroupHarness.request())]?.error == .coordinatorNotAvailable)
        #expect(harness.syncs[harness.sync(id, 1)]?.error == .coordinatorNotAvailable)
        #expect(harness.heartbeat(id, 1) == .coordinatorNotAvailable)
        #expect(harness.commit("", -1) == .coordinatorNotAvailable)
        #expect(harness.group.refusalToDeleteOffsets(of: "t") == .groupNotFound)
        harness.group.reopen()
        #expect(harness.joins[harness.join(GroupHarness.request())]?.error == nil)
    }

    @Test func everybodyWhoWaitsIsAnsweredWhenTheEngineStops() {
        var (harness, _, follower) = SyncTests.joined()
        let sync = harness.sync(follower, 2)
        harness.group.interrupt(now: harness.now)
        harness.write()
        harness.pass(.zero)
        _ = harness.heartbeat("nobody", 0)
        #expect(harness.syncs[sync]?.error == .coordinatorNotAvailable)
    }
}
