// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import Testing

@Suite(.timeLimit(.minutes(5)))
struct CoordinatorOffsetTests {
    private let p0 = CoordinatorTests.p0
    private let p1 = CoordinatorTests.p1

    @Test func offsetsAndMetadataComeBack() async throws {
        try await CoordinatorTests.with { [p0, p1] coordinator in
            let metadata = String(repeating: "é", count: 2048)
            let outcome = await coordinator.commit(
                group: "g",
                by: .simple,
                [p0: .init(7, metadata: metadata), p1: .init(0)]
            )
            #expect(outcome == .init())
            let all = await coordinator.committed(group: "g")
            #expect(all.offsets[p0]?.offset == 7)
            #expect(all.offsets[p0]?.metadata == metadata)
            #expect(all.offsets[p1]?.offset == 0)
            let one = await coordinator.committed(group: "g", [p1, TopicPartition(topic: "t", partition: 3)])
            #expect(Set(one.offsets.keys) == [p1])
        }
    }

    @Test func eachPartitionIsRefusedForItsOwnReason() async throws {
        try await CoordinatorTests.with { [p0, p1] coordinator in
            let gone = TopicPartition(topic: "t", partition: 4)
            let other = TopicPartition(topic: "none", partition: 0)
            let outcome = await coordinator.commit(
                group: "g",
                by: .simple,
                [
                    p0: .init(1), p1: .init(1, metadata: String(repeating: "x", count: 4097)), gone: .init(1),
                    other: .init(1), TopicPartition(topic: "u", partition: 0): .init(-1),
                ]
            )
            #expect(outcome.error == nil)
            #expect(outcome.error(for: p0) == nil)
            #expect(outcome.error(for: p1) == .offsetMetadataTooLarge)
            #expect(outcome.error(for: gone) == .unknownTopicOrPartition)
            #expect(outcome.error(for: other) == .unknownTopicOrPartition)
            #expect(outcome.error(for: TopicPartition(topic: "u", partition: 0)) == .invalidRequest)
            #expect(await coordinator.committed(group: "g").offsets.count == 1)
        }
    }

    @Test func aStoreThatRefusesIsNotCalledSuccess() async throws {
        let store = MemoryGroupStore()
        try await CoordinatorTests.with(store) { [p0] coordinator in
            _ = await coordinator.commit(group: "g", by: .simple, [p0: .init(1)])
            store.refuses = true
            let outcome = await coordinator.commit(group: "g", by: .simple, [p0: .init(2)])
            #expect(outcome.error(for: p0) == .coordinatorNotAvailable)
            #expect(await coordinator.delete("g") == .coordinatorNotAvailable)
            #expect(await coordinator.join(CoordinatorTests.request("g")).error == .coordinatorNotAvailable)
            store.refuses = false
            #expect(await coordinator.committed(group: "g").offsets[p0]?.offset == 1)
        }
    }

    @Test func aReaderWaitsForCommitsOnTheirWay() async throws {
        let store = MemoryGroupStore()
        try await CoordinatorTests.with(store) { [p0] coordinator in
            store.holdCommits()
            async let commit = coordinator.commit(group: "g", by: .simple, [p0: .init(9)])
            while store.heldCount == 0 { await Task.yield() }
            async let read = coordinator.committed(group: "g")
            async let unrelated = coordinator.committed(group: "h")
            #expect(await unrelated.offsets.isEmpty)
            store.releaseCommits()
            #expect(await read.offsets[p0]?.offset == 9)
            #expect(await commit == .init())
        }
    }

    @Test func strangersCannotCommitForAGroupWithMembers() async throws {
        try await CoordinatorTests.with { [p0] coordinator in
            let member = await CoordinatorTests.member(of: "g", coordinator)
            #expect(await coordinator.commit(group: "g", by: .simple, [p0: .init(1)]).error == .unknownMember)
            #expect(await coordinator.commit(group: "g", by: member, [p0: .init(1)]) == .init())
            #expect(coordinator.checkCommit(group: "g", by: member, isTransactional: true) == nil)
            #expect(coordinator.checkCommit(group: "g", by: .simple, isTransactional: true) == nil)
            var former = member
            former.generation = 0
            #expect(coordinator.checkCommit(group: "g", by: former, isTransactional: true) == .illegalGeneration)
            #expect(coordinator.checkCommit(group: "new", by: .simple, isTransactional: true) == nil)
            #expect(coordinator.checkCommit(group: "new", by: member, isTransactional: true) == .illegalGeneration)
            #expect(coordinator.checkCommit(group: "__x", by: .simple, isTransactional: true) != nil)
        }
    }

    @Test func openTransactionsMakeOffsetsUnstable() async throws {
        let store = MemoryGroupStore()
        store.unstable = [p0]
        try await CoordinatorTests.with(store) { [p0, p1] coordinator in
            #expect(await coordinator.committed(group: "g", [p0, p1], requiresStable: true).unstable == [p0])
            #expect(await coordinator.committed(group: "g", [p1], requiresStable: true).unstable.isEmpty)
            #expect(await coordinator.committed(group: "g", [p0]).unstable.isEmpty)
        }
    }

    @Test func offsetsAreDeletedUnlessTheirTopicIsRead() async throws {
        try await CoordinatorTests.with { [p0, p1] coordinator in
            let u0 = TopicPartition(topic: "u", partition: 0)
            _ = await coordinator.commit(group: "g", by: .simple, [p0: .init(1), p1: .init(1), u0: .init(1)])
            let absent = TopicPartition(topic: "t", partition: 9)
            let first = await coordinator.deleteOffsets(group: "g", of: [p1, absent])
            #expect(first.refused == [absent: .unknownTopicOrPartition])
            _ = await CoordinatorTests.member(of: "g", coordinator)
            let outcome = await coordinator.deleteOffsets(group: "g", of: [p0, u0])
            #expect(outcome.refused == [p0: .groupSubscribedToTopic])
            #expect(Set(await coordinator.committed(group: "g").offsets.keys) == [p0])
        }
    }

    @Test func groupsWithMembersAreNotDeleted() async throws {
        let store = MemoryGroupStore()
        try await CoordinatorTests.with(store) { [p0] coordinator in
            let member = await CoordinatorTests.member(of: "g", coordinator)
            _ = await coordinator.commit(group: "g", by: member, [p0: .init(1)])
            #expect(await coordinator.delete("g") == .nonEmptyGroup)
            _ = coordinator.leave(group: "g", [.init(memberID: member.memberID)])
            #expect(await coordinator.delete("g") == nil)
            #expect(await coordinator.delete("g") == .groupNotFound)
            #expect(store.states()["g"] == nil)
            #expect(store.groups().isEmpty)
            #expect(await CoordinatorTests.member(of: "g", coordinator).generation == 1)
        }
    }

    @Test func theEnginesOwnGroupsAreShownAndLeftAlone() async throws {
        let store = MemoryGroupStore()
        try await store.commit(group: "__table.t", offsets: [p0: CommittedOffset(offset: 3, committedAt: 0)])
        try await CoordinatorTests.with(store) { [p0] coordinator in
            let group = "__table.t"
            #expect(await coordinator.join(CoordinatorTests.request(group)).error == .groupAuthorizationFailed)
            #expect(
                await coordinator.commit(group: group, by: .simple, [p0: .init(0)]).error == .groupAuthorizationFailed
            )
            #expect(await coordinator.delete(group) == .groupAuthorizationFailed)
            #expect(await coordinator.deleteOffsets(group: group, of: [p0]).error == .groupAuthorizationFailed)
            #expect(coordinator.leave(group: group, [.init(memberID: "martlet")]).error == .groupAuthorizationFailed)
            #expect(await coordinator.committed(group: group).offsets[p0]?.offset == 3)
            let listed = try #require(coordinator.list(states: ["stable"], types: ["Classic"]).first)
            #expect(listed.group == group)
            #expect(listed.protocolType == "consumer")
            let described = try #require(try coordinator.describe(group))
            #expect(described.isInternal)
            #expect(described.protocolName == "martlet")
            #expect(described.members.count == 1)
            #expect(ConsumerProtocol.assignedPartitions(described.members[0].assignment) == [p0])
            #expect(ConsumerProtocol.subscribedTopics(described.members[0].metadata) == ["t"])
            let unknown = try coordinator.describe("__table.none")
            #expect(unknown == nil)
        }
    }

    @Test func listsAreFilteredByStateAndType() async throws {
        try await CoordinatorTests.with { [p0] coordinator in
            _ = await coordinator.commit(group: "simple", by: .simple, [p0: .init(1)])
            _ = await CoordinatorTests.member(of: "busy", coordinator)
            _ = await coordinator.join(CoordinatorTests.request("joining"))
            #expect(coordinator.list().map(\.group) == ["busy", "joining", "simple"])
            #expect(coordinator.list(states: ["Empty"]).map(\.group) == ["simple"])
            #expect(coordinator.list(states: ["stable", "COMPLETINGREBALANCE"]).map(\.group) == ["busy", "joining"])
            #expect(coordinator.list(types: ["consumer"]).isEmpty)
            #expect(coordinator.list(types: ["classic", "share"]).count == 3)
            #expect(coordinator.list(states: ["nonsense"]).isEmpty)
        }
    }

    @Test func offsetsExpireOnceTheGroupWasEmptyForTheRetentionTime() async throws {
        let manual = ManualClock()
        let store = MemoryGroupStore()
        try await store.commit(group: "__table.t", offsets: [p0: CommittedOffset(offset: 3, committedAt: 0)])
        try await CoordinatorTests.with(store, clock: manual.clock) { [p0] coordinator in
            let member = await CoordinatorTests.member(of: "busy", coordinator)
            _ = await coordinator.commit(group: "busy", by: member, [p0: .init(1)])
            _ = await coordinator.commit(group: "simple", by: .simple, [p0: .init(1)])
            // An hour short of a week; the member is kept by its timer not being fired.
            manual.pass(.seconds(167 * 3600))
            await coordinator.expireOffsets()
            #expect(store.groups() == ["__table.t", "busy", "simple"])
            manual.pass(.seconds(3600))
            await coordinator.expireOffsets()
            #expect(store.groups() == ["__table.t", "busy"])
            #expect(coordinator.list().map(\.group) == ["__table.t", "busy"])
            // The week begins anew when the last member goes, however old its commits are.
            coordinator.fireDeadlines()
            let emptied = try coordinator.describe("busy")
            #expect(emptied?.state == .empty)
            manual.pass(.seconds(167 * 3600))
            await coordinator.expireOffsets()
            #expect(store.groups() == ["__table.t", "busy"])
            manual.pass(.seconds(3600))
            await coordinator.expireOffsets()
            #expect(store.groups() == ["__table.t"])
            #expect(store.states().isEmpty)
        }
    }
}
