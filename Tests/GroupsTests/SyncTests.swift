// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

struct SyncTests {
    /// Two members that joined the same generation and wait for the assignment.
    static func joined() -> (harness: GroupHarness, leader: String, follower: String) {
        var harness = GroupHarness()
        _ = harness.join(GroupHarness.request())
        _ = harness.join(GroupHarness.request())
        _ = harness.join(GroupHarness.request("m1"))
        return (harness, "m1", "m2")
    }

    @Test func followersWaitForTheLeader() {
        var (harness, leader, follower) = Self.joined()
        let waiting = harness.sync(follower, 2)
        #expect(harness.syncs[waiting] == nil)
        let done = harness.sync(leader, 2, [leader: [1], follower: [2], "stranger": [3]])
        #expect(harness.syncs[waiting]?.assignment == [2])
        #expect(harness.syncs[done]?.assignment == [1])
        #expect(harness.syncs[done]?.protocolType == "consumer")
        #expect(harness.syncs[done]?.protocolName == "range")
        #expect(harness.group.state == .stable)
    }

    @Test func nobodyIsToldBeforeTheAssignmentIsStored() {
        var (harness, leader, follower) = Self.joined()
        harness.writesAtOnce = false
        let one = harness.sync(leader, 2, [leader: [1], follower: [2]])
        let two = harness.sync(follower, 2)
        #expect(harness.syncs.isEmpty)
        #expect(harness.group.state == .completingRebalance)
        harness.write()
        #expect(harness.syncs[one]?.assignment == [1])
        #expect(harness.syncs[two]?.assignment == [2])
        #expect(harness.disk?.members.map(\.assignment) == [[1], [2]])
    }

    @Test func anAssignmentThatCannotBeStoredIsMadeAgain() {
        var (harness, leader, follower) = Self.joined()
        harness.writesAtOnce = false
        let one = harness.sync(leader, 2, [leader: [1], follower: [2]])
        let two = harness.sync(follower, 2)
        harness.write(succeeded: false)
        #expect(harness.syncs[one]?.error == .coordinatorNotAvailable)
        #expect(harness.syncs[two]?.error == .coordinatorNotAvailable)
        #expect(harness.group.state == .preparingRebalance)
        harness.writesAtOnce = true
        _ = harness.join(GroupHarness.request(leader))
        let again = harness.join(GroupHarness.request(follower))
        #expect(harness.joins[again]?.generation == 3)
    }

    @Test func anAssignmentStoredTooLateIsNotTold() {
        var (harness, leader, follower) = Self.joined()
        harness.writesAtOnce = false
        let one = harness.sync(leader, 2, [leader: [1], follower: [2]])
        _ = harness.join(GroupHarness.request())
        #expect(harness.syncs[one]?.error == .rebalanceInProgress)
        harness.write()
        #expect(harness.group.state == .preparingRebalance)
        #expect(harness.group.description.members.allSatisfy { $0.assignment.isEmpty })
        _ = follower
    }

    @Test func lateFollowersAreAnsweredAtOnce() {
        var (harness, leader, follower) = Self.joined()
        _ = harness.sync(leader, 2, [leader: [1], follower: [2]])
        #expect(harness.syncs[harness.sync(follower, 2)]?.assignment == [2])
        #expect(harness.syncs[harness.sync(follower, 2)]?.assignment == [2])
    }

    @Test func wrongMemberGenerationOrProtocolAreRefused() {
        var (harness, leader, follower) = Self.joined()
        func error(_ caller: GroupCaller) -> GroupError? { harness.syncs[caller]?.error }
        #expect(error(harness.sync("nobody", 2)) == .unknownMember)
        #expect(error(harness.sync(follower, 1)) == .illegalGeneration)
        #expect(error(harness.sync(follower, 3)) == .illegalGeneration)
        #expect(error(harness.sync(follower, 2, type: "connect")) == .inconsistentProtocol)
        #expect(error(harness.sync(follower, 2, name: "roundrobin")) == .inconsistentProtocol)
        #expect(error(harness.sync(follower, 2, instance: "i")) == .unknownMember)
        _ = harness.sync(leader, 2, type: "consumer", name: "range")
        #expect(harness.group.state == .stable)
        _ = harness.join(GroupHarness.request())
        #expect(error(harness.sync(follower, 2)) == .rebalanceInProgress)
    }

    @Test func anotherSyncByTheSameMemberAnswersTheFormerOne() {
        var (harness, leader, follower) = Self.joined()
        let first = harness.sync(follower, 2)
        let second = harness.sync(follower, 2)
        #expect(harness.syncs[first]?.error == .rebalanceInProgress)
        _ = harness.sync(leader, 2, [follower: [7]])
        #expect(harness.syncs[second]?.assignment == [7])
    }

    @Test func assignmentsAreBounded() {
        var settings = GroupHarness.settings
        settings.groupBytesMax = 1000
        var harness = GroupHarness(settings: settings)
        _ = harness.join(GroupHarness.request())
        let caller = harness.sync("m1", 1, ["m1": [UInt8](repeating: 0, count: 1001)])
        #expect(harness.syncs[caller]?.error == .invalidRequest)
        #expect(harness.group.state == .completingRebalance)
    }

    @Test func whoNeverAsksForItsAssignmentIsDropped() {
        var (harness, leader, _) = Self.joined()
        let waiting = harness.sync(leader, 2, [leader: [1]])
        #expect(harness.syncs[waiting]?.assignment == [1])
        // The follower keeps its session alive and does nothing else.
        for _ in 0..<12 {
            #expect(harness.heartbeat("m2", 2) == nil)
            #expect(harness.heartbeat(leader, 2) == nil)
            harness.pass(.seconds(5))
        }
        #expect(harness.heartbeat("m2", 2) == .unknownMember)
        #expect(harness.heartbeat(leader, 2) == .rebalanceInProgress)
    }

    @Test func aLeaderThatNeverAssignsIsReplaced() {
        var (harness, leader, follower) = Self.joined()
        let waiting = harness.sync(follower, 2)
        harness.pass(.seconds(10))
        #expect(harness.syncs[waiting]?.error == .rebalanceInProgress)
        #expect(harness.heartbeat(leader, 2) == .unknownMember)
        let again = harness.join(GroupHarness.request(follower))
        #expect(harness.joins[again]?.leader == follower)
    }

    @Test func cooperativeMembersKeepWorkingThroughTwoRebalances() throws {
        // The broker does the same for both kinds of protocol: the client gives partitions up between two generations.
        var harness = GroupHarness()
        let request = { (id: String, owned: UInt8) in
            GroupHarness.request(id, protocols: ["cooperative-sticky"], metadata: [owned])
        }
        let first = try #require(harness.joins[harness.join(request("", 0))])
        _ = harness.sync(first.memberID, 1, [first.memberID: [0, 1]])
        let second = harness.join(request("", 0))
        // Until it joins again the member may commit what it still owns.
        #expect(harness.heartbeat(first.memberID, 1) == .rebalanceInProgress)
        #expect(harness.commit(first.memberID, 1) == nil)
        let revoking = try #require(harness.joins[harness.join(request(first.memberID, 2))])
        #expect(revoking.members.map(\.metadata) == [[2], [0]])
        let newcomer = try #require(harness.joins[second]?.memberID)
        _ = harness.sync(newcomer, 2)
        _ = harness.sync(first.memberID, 2, [first.memberID: [0]])
        #expect(harness.group.state == .stable)
        _ = harness.join(request(first.memberID, 1))
        #expect(harness.group.state == .preparingRebalance)
        let last = harness.join(request(newcomer, 0))
        #expect(harness.joins[last]?.generation == 3)
        let waiting = harness.sync(newcomer, 3)
        _ = harness.sync(first.memberID, 3, [first.memberID: [0], newcomer: [1]])
        #expect(harness.syncs[waiting]?.assignment == [1])
    }
}
