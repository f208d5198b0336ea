// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Groups
import Testing

struct JoinTests {
    @Test func firstMemberLeadsTheFirstGeneration() throws {
        var harness = GroupHarness()
        let caller = harness.join(GroupHarness.request())
        let answer = try #require(harness.joins[caller])
        #expect(answer.error == nil)
        #expect(answer.generation == 1)
        #expect(answer.leader == answer.memberID)
        #expect(answer.protocolType == "consumer")
        #expect(answer.protocolName == "range")
        #expect(answer.members.map(\.memberID) == [answer.memberID])
        #expect(harness.group.state == .completingRebalance)
    }

    @Test func firstJoinOfVersionFourIsGivenAnIDOnly() throws {
        var harness = GroupHarness()
        let first = try #require(harness.joins[harness.join(GroupHarness.request(requiresKnownMember: true))])
        #expect(first.error == .memberIDRequired)
        #expect(first.memberID == "m1")
        #expect(harness.group.state == .empty)
        #expect(harness.group.memberCount == 0)
        let second = harness.joins[harness.join(GroupHarness.request("m1", requiresKnownMember: true))]
        #expect(second?.error == nil)
        #expect(second?.memberID == "m1")
    }

    @Test func staticMembersNeedNoSecondJoin() {
        var harness = GroupHarness()
        let caller = harness.join(GroupHarness.request(instance: "i", requiresKnownMember: true))
        #expect(harness.joins[caller]?.error == nil)
    }

    @Test func unusedIDsExpire() {
        var harness = GroupHarness()
        _ = harness.join(GroupHarness.request(requiresKnownMember: true))
        #expect(!harness.group.isPristine)
        harness.pass(.seconds(10))
        #expect(harness.group.isPristine)
        #expect(harness.joins[harness.join(GroupHarness.request("m1"))]?.error == .unknownMember)
    }

    @Test func anExpiredIDDoesNotKeepOthersWaiting() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(session: .seconds(30))])
        _ = harness.join(GroupHarness.request(session: .seconds(6), requiresKnownMember: true))
        let caller = harness.join(GroupHarness.request(ids[0], session: .seconds(30)))
        #expect(harness.joins[caller] == nil)
        harness.pass(.seconds(6))
        #expect(harness.joins[caller]?.generation == 2)
    }

    @Test func idsThatNobodyUsesHoldUpOthersForAMomentOnly() {
        var harness = GroupHarness()
        let one = harness.stabilize([GroupHarness.request(rebalance: .seconds(300))])[0]
        let second = harness.join(GroupHarness.request(rebalance: .seconds(300)))
        _ = harness.join(GroupHarness.request(requiresKnownMember: true))
        let caller = harness.join(GroupHarness.request(one, rebalance: .seconds(300)))
        for _ in 0..<4 where harness.joins[caller] == nil {
            harness.pass(.milliseconds(300))
            _ = harness.join(GroupHarness.request(requiresKnownMember: true))
        }
        #expect(harness.joins[caller]?.members.count == 2)
        #expect(harness.joins[second]?.generation == 2)
    }

    @Test func waitsForFurtherFirstMembers() {
        var settings = GroupHarness.settings
        settings.initialRebalanceDelay = .seconds(3)
        settings.initialRebalanceWaitMax = .seconds(60)
        var harness = GroupHarness(settings: settings)
        let first = harness.join(GroupHarness.request())
        harness.pass(.seconds(2))
        let second = harness.join(GroupHarness.request())
        harness.pass(.seconds(2))
        #expect(harness.joins.isEmpty)
        harness.pass(.seconds(3))
        #expect(harness.joins[first]?.generation == 1)
        #expect(harness.joins[second]?.generation == 1)
        #expect(harness.joins[first]?.members.count == 2)
        #expect(harness.joins[second]?.members.isEmpty == true)
    }

    @Test func theWaitForFirstMembersEndsWithTheRebalanceTimeout() {
        var settings = GroupHarness.settings
        settings.initialRebalanceDelay = .seconds(3)
        settings.initialRebalanceWaitMax = .seconds(60)
        var harness = GroupHarness(settings: settings)
        let first = harness.join(GroupHarness.request(rebalance: .seconds(8)))
        for _ in 0..<7 {
            harness.pass(.seconds(1))
            _ = harness.join(GroupHarness.request(rebalance: .seconds(8)))
        }
        #expect(harness.joins[first] == nil)
        harness.pass(.seconds(1))
        #expect(harness.joins[first]?.members.count == 8)
    }

    @Test func theWaitForFirstMembersEndsHoweverManyCome() {
        var settings = GroupHarness.settings
        settings.initialRebalanceDelay = .milliseconds(100)
        settings.initialRebalanceWaitMax = .seconds(3)
        var harness = GroupHarness(settings: settings)
        let first = harness.join(GroupHarness.request(rebalance: .seconds(300)))
        for _ in 0..<50 where harness.joins[first] == nil {
            harness.pass(.milliseconds(80))
            _ = harness.join(GroupHarness.request(rebalance: .seconds(300)))
        }
        #expect(harness.joins[first]?.generation == 1)
    }

    @Test func aSecondMemberMakesTheFirstComeAgain() throws {
        var harness = GroupHarness()
        let one = harness.stabilize([GroupHarness.request()])[0]
        let second = harness.join(GroupHarness.request())
        #expect(harness.group.state == .preparingRebalance)
        #expect(harness.joins[second] == nil)
        #expect(harness.heartbeat(one, 1) == .rebalanceInProgress)
        let again = harness.join(GroupHarness.request(one))
        #expect(harness.joins[again]?.generation == 2)
        #expect(harness.joins[second]?.generation == 2)
        #expect(harness.joins[second]?.leader == one)
        #expect(harness.joins[again]?.members.count == 2)
        #expect(harness.joins[second]?.members.isEmpty == true)
    }

    @Test func whoDoesNotComeInTimeIsDropped() {
        var harness = GroupHarness()
        let ids = harness.stabilize([
            GroupHarness.request(session: .seconds(600)), GroupHarness.request(session: .seconds(600)),
        ])
        let third = harness.join(GroupHarness.request(session: .seconds(600), rebalance: .seconds(20)))
        let again = harness.join(GroupHarness.request(ids[1], session: .seconds(600), rebalance: .seconds(30)))
        harness.pass(.seconds(59))
        #expect(harness.joins[third] == nil)
        harness.pass(.seconds(1))
        #expect(harness.joins[third]?.error == nil)
        #expect(harness.joins[again]?.members.count == 2)
        #expect(harness.group.leader == ids[1])
        #expect(harness.heartbeat(ids[0], 1) == .unknownMember)
    }

    @Test func theProtocolWithMostVotesIsUsed() {
        var harness = GroupHarness()
        _ = harness.stabilize([
            GroupHarness.request(protocols: ["a", "b", "c"]),
            GroupHarness.request(protocols: ["b", "a"]),
            GroupHarness.request(protocols: ["b", "a", "d"]),
        ])
        #expect(harness.group.protocolName == "b")
        #expect(harness.group.state == .stable)
    }

    @Test func membersMustShareProtocolAndType() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request(protocols: ["a", "b"])])[0]
        func error(_ request: GroupJoin.Request) -> GroupError? { harness.joins[harness.join(request)]?.error }
        #expect(error(GroupHarness.request(protocols: ["c"])) == .inconsistentProtocol)
        #expect(error(GroupHarness.request(type: "connect", protocols: ["a"])) == .inconsistentProtocol)
        #expect(error(GroupHarness.request(type: "")) == .inconsistentProtocol)
        #expect(error(GroupHarness.request(protocols: [])) == .inconsistentProtocol)
        #expect(harness.group.state == .stable)
        // A member that is alone may change to something else altogether.
        #expect(error(GroupHarness.request(id, protocols: ["c"])) == nil)
        #expect(harness.group.protocolName == "c")
    }

    @Test(arguments: [Duration.seconds(5), .seconds(1801)])
    func sessionTimeoutsHaveARange(session: Duration) {
        var harness = GroupHarness()
        let caller = harness.join(GroupHarness.request(session: session))
        #expect(harness.joins[caller]?.error == .invalidSessionTimeout)
    }

    @Test func unknownIDsAreRefused() {
        var harness = GroupHarness()
        #expect(harness.joins[harness.join(GroupHarness.request("nobody"))]?.error == .unknownMember)
        #expect(harness.joins[harness.join(GroupHarness.request("nobody", instance: "i"))]?.error == .unknownMember)
    }

    @Test func membersAreBounded() {
        var settings = GroupHarness.settings
        settings.membersMax = 2
        settings.initialRebalanceDelay = .seconds(1)
        var harness = GroupHarness(settings: settings)
        _ = harness.join(GroupHarness.request())
        _ = harness.join(GroupHarness.request(requiresKnownMember: true))
        #expect(harness.joins[harness.join(GroupHarness.request())]?.error == .groupMaxSizeReached)
        let known = harness.join(GroupHarness.request("m2", requiresKnownMember: true))
        harness.pass(.seconds(3))
        #expect(harness.joins[known]?.error == nil)
    }

    @Test func metadataIsBounded() {
        var settings = GroupHarness.settings
        settings.memberMetadataBytesMax = 100
        settings.groupBytesMax = 150
        settings.protocolsMax = 3
        settings.initialRebalanceDelay = .seconds(1)
        settings.nameBytesMax = 20
        var harness = GroupHarness(settings: settings)
        func error(_ request: GroupJoin.Request) -> GroupError? { harness.joins[harness.join(request)]?.error }
        #expect(error(GroupHarness.request(metadata: [UInt8](repeating: 0, count: 101))) == .invalidRequest)
        #expect(error(GroupHarness.request(protocols: ["a", "b", "c", "d"])) == .invalidRequest)
        #expect(error(GroupHarness.request(protocols: ["a", "a"])) == .invalidRequest)
        #expect(error(GroupHarness.request(protocols: [String(repeating: "x", count: 21)])) == .invalidRequest)
        #expect(error(GroupHarness.request(client: String(repeating: "x", count: 21))) == .invalidRequest)
        _ = harness.join(GroupHarness.request(metadata: [UInt8](repeating: 0, count: 90)))
        #expect(error(GroupHarness.request(metadata: [UInt8](repeating: 0, count: 90))) == .groupMaxSizeReached)
    }

    @Test func aLostAnswerIsGivenAgain() throws {
        var harness = GroupHarness()
        let leader = try #require(harness.joins[harness.join(GroupHarness.request())])
        let again = try #require(harness.joins[harness.join(GroupHarness.request(leader.memberID))])
        #expect(again == leader)
        #expect(harness.group.generation == 1)
    }

    @Test func aFollowerThatComesAgainUnchangedCausesNoRebalance() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        let generation = harness.group.generation
        let answer = harness.joins[harness.join(GroupHarness.request(ids[1]))]
        #expect(answer?.generation == generation)
        #expect(answer?.members.isEmpty == true)
        #expect(harness.group.state == .stable)
    }

    @Test func changedMetadataOrALeaderThatComesAgainCauseARebalance() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        _ = harness.join(GroupHarness.request(ids[1], topics: ["u"]))
        #expect(harness.group.state == .preparingRebalance)
        _ = harness.join(GroupHarness.request(ids[0]))
        #expect(harness.group.state == .completingRebalance)
        _ = harness.sync(ids[0], harness.group.generation)
        #expect(harness.group.state == .stable)
        _ = harness.join(GroupHarness.request(ids[0]))
        #expect(harness.group.state == .preparingRebalance)
    }

    @Test func anotherJoinByTheSameMemberAnswersTheFormerOne() {
        var harness = GroupHarness()
        let ids = harness.stabilize([GroupHarness.request(), GroupHarness.request()])
        let first = harness.join(GroupHarness.request(ids[1], topics: ["u"]))
        let second = harness.join(GroupHarness.request(ids[1], topics: ["v"]))
        #expect(harness.joins[first]?.error == .rebalanceInProgress)
        #expect(harness.joins[second] == nil)
    }

    @Test func aClientThatVanishedWithoutAnIDIsForgotten() {
        var harness = GroupHarness()
        let id = harness.stabilize([GroupHarness.request()])[0]
        let vanished = harness.join(GroupHarness.request())
        #expect(harness.group.memberCount == 2)
        harness.abandon(vanished)
        #expect(harness.group.memberCount == 1)
        let again = harness.join(GroupHarness.request(id))
        #expect(harness.joins[again]?.members.count == 1)
    }

    @Test func newMembersThatNobodyAnswersAreDroppedInTheEnd() {
        var settings = GroupHarness.settings
        settings.newMemberJoinTimeout = .seconds(30)
        var harness = GroupHarness(settings: settings)
        _ = harness.stabilize([GroupHarness.request(session: .seconds(600), rebalance: .seconds(600))])
        let waiting = harness.join(GroupHarness.request(session: .seconds(600), rebalance: .seconds(600)))
        harness.pass(.seconds(30))
        #expect(harness.joins[waiting]?.error == .unknownMember)
        #expect(harness.group.memberCount == 1)
    }
}
