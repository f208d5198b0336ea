// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import Testing

/// What all groups together may take.
@Suite(.timeLimit(.minutes(5)))
struct GroupBoundsTests {
    private static let p0 = CoordinatorTests.p0
    private static let p1 = CoordinatorTests.p1

    private static func settings(_ change: (inout GroupSettings) -> Void) -> GroupSettings {
        var settings = CoordinatorTests.settings
        change(&settings)
        return settings
    }

    private static func member(_ group: String, metadata count: Int, id: String = "") -> GroupJoin.Request {
        var request = CoordinatorTests.request(group, id)
        request.protocols = [.init(name: "range", metadata: Array(repeating: 1, count: count))]
        return request
    }

    /// Commits for groups by these names, as an engine before had done.
    private static func store(with groups: [String]) async throws -> MemoryGroupStore {
        let store = MemoryGroupStore()
        for group in groups {
            try await store.commit(group: group, offsets: [p0: CommittedOffset(offset: 1, committedAt: 0)])
        }
        return store
    }

    @Test func groupsThatHaveOffsetsAloneAreCountedAfterARestart() async throws {
        let store = try await Self.store(with: ["a", "b", "__own"])
        try await CoordinatorTests.with(store, settings: Self.settings { $0.groupsMax = 3 }) { coordinator in
            #expect(await coordinator.commit(group: "c", by: .simple, [Self.p0: .init(1)]) == .init())
            // The third was the last one; those there are go on.
            let refused = await coordinator.commit(group: "d", by: .simple, [Self.p0: .init(1)])
            #expect(refused.error == .groupMaxSizeReached)
            #expect(await coordinator.join(CoordinatorTests.request("d")).error == .groupMaxSizeReached)
            #expect(await coordinator.commit(group: "a", by: .simple, [Self.p0: .init(2)]) == .init())
            #expect(await coordinator.join(CoordinatorTests.request("b")).error == nil)
            #expect(await coordinator.delete("a") == nil)
            #expect(await coordinator.commit(group: "d", by: .simple, [Self.p0: .init(1)]) == .init())
        }
    }

    @Test func groupsThatHaveOffsetsAloneCanBeDeletedHoweverManyThereAre() async throws {
        let names = (0..<6).map { "g\($0)" }
        let store = try await Self.store(with: names)
        // There are more than may be, as where that was fewer before.
        try await CoordinatorTests.with(store, settings: Self.settings { $0.groupsMax = 2 }) { coordinator in
            for name in names.prefix(3) { #expect(await coordinator.join(CoordinatorTests.request(name)).error == nil) }
            for name in names.suffix(3) { #expect(await coordinator.delete(name) == nil) }
            #expect(store.groups() == Array(names.prefix(3)))
        }
    }

    @Test func transactionsBeginNoMoreGroupsThanThereMayBe() async throws {
        let store = try await Self.store(with: ["a"])
        try await CoordinatorTests.with(store, settings: Self.settings { $0.groupsMax = 2 }) { coordinator in
            func check(_ group: String) -> GroupError? {
                coordinator.checkCommit(group: group, by: .simple, isTransactional: true)
            }
            #expect(check("b") == nil)
            store.setUnfinished(["b"])
            #expect(check("b") == nil)
            #expect(check("a") == nil)
            #expect(check("c") == .groupMaxSizeReached)
            #expect(
                await coordinator.commit(group: "c", by: .simple, [Self.p0: .init(1)]).error == .groupMaxSizeReached
            )
        }
    }

    @Test func theMembersOfAllGroupsShareOneBound() async throws {
        let settings = Self.settings { $0.membersBytesMax = 10_000 }
        try await CoordinatorTests.with(settings: settings) { coordinator in
            let first = await coordinator.join(Self.member("a", metadata: 4000))
            #expect(first.error == nil)
            #expect(await coordinator.join(Self.member("b", metadata: 3000)).error == nil)
            #expect(await coordinator.join(Self.member("c", metadata: 3000)).error == .groupMaxSizeReached)
            // Who is there can come again, and what it leaves others can have.
            #expect(await coordinator.join(Self.member("a", metadata: 4000, id: first.memberID)).error == nil)
            _ = coordinator.leave(group: "a", [.init(memberID: first.memberID)])
            #expect(await coordinator.join(Self.member("c", metadata: 3000)).error == nil)
        }
    }

    @Test func assignmentsCountAmongTheBytesOfMembers() async throws {
        let settings = Self.settings { $0.membersBytesMax = 10_000 }
        try await CoordinatorTests.with(settings: settings) { coordinator in
            let joined = await coordinator.join(Self.member("a", metadata: 1000))
            func assign(_ count: Int) async -> GroupError? {
                let bytes = Array(repeating: UInt8(1), count: count)
                let request = GroupSync.Request(
                    group: "a",
                    generation: joined.generation,
                    memberID: joined.memberID,
                    assignments: [.init(memberID: joined.memberID, bytes: bytes)]
                )
                return await coordinator.sync(request).error
            }
            #expect(await assign(9000) == .coordinatorNotAvailable)
            #expect(await assign(5000) == nil)
            #expect(await coordinator.join(Self.member("b", metadata: 4000)).error == .groupMaxSizeReached)
            #expect(await coordinator.join(Self.member("b", metadata: 1000)).error == nil)
        }
    }

    @Test func idsThatWereGivenOutCountUntilTheyExpire() async throws {
        let settings = Self.settings { $0.membersBytesMax = 2000 }
        let clock = ManualClock()
        try await CoordinatorTests.with(settings: settings, clock: clock.clock) { coordinator in
            func ask(_ group: String) async -> GroupError? {
                var request = Self.member(group, metadata: 10)
                request.requiresKnownMember = true
                return await coordinator.join(request).error
            }
            #expect(await ask("a") == .memberIDRequired)
            #expect(await ask("b") == .memberIDRequired)
            #expect(await ask("c") == .memberIDRequired)
            #expect(await ask("d") == .groupMaxSizeReached)
            clock.pass(.seconds(31))
            coordinator.fireDeadlines()
            #expect(await ask("d") == .memberIDRequired)
        }
    }

    @Test func theOffsetsOfAllGroupsShareOneBound() async throws {
        let metadata = String(repeating: "x", count: 4000)
        let settings = Self.settings { $0.offsetsBytesMax = 10_000 }
        try await CoordinatorTests.with(settings: settings) { coordinator in
            func commit(_ group: String, _ offset: Int64, _ metadata: String = "") async -> GroupError? {
                let outcome = await coordinator.commit(
                    group: group,
                    by: .simple,
                    [Self.p0: .init(offset, metadata: metadata)]
                )
                return outcome.error(for: Self.p0)
            }
            #expect(await commit("a", 1, metadata) == nil)
            #expect(await commit("b", 1, metadata) == nil)
            #expect(await commit("c", 1, metadata) == .invalidCommitOffsetSize)
            #expect(await coordinator.committed(group: "c").offsets.isEmpty)
            // What takes no more than it did is always taken, and small ones are as long as there is room.
            #expect(await commit("a", 2, metadata) == nil)
            #expect(await commit("c", 1) == nil)
            #expect(await commit("b", 2) == nil)
            #expect(await commit("c", 2, metadata) == nil)
            #expect(await coordinator.delete("a") == nil)
            #expect(await commit("d", 1, metadata) == nil)
        }
    }

    @Test func offsetsForWhichThereIsNoRoomLeaveOthersOfTheirCommitAlone() async throws {
        let settings = Self.settings { $0.offsetsBytesMax = 1000 }
        try await CoordinatorTests.with(settings: settings) { coordinator in
            let large = String(repeating: "x", count: 4000)
            let outcome = await coordinator.commit(
                group: "a",
                by: .simple,
                [Self.p0: .init(1), Self.p1: .init(1, metadata: large)]
            )
            #expect(outcome == .init(refused: [Self.p1: .invalidCommitOffsetSize]))
            #expect(Set(await coordinator.committed(group: "a").offsets.keys) == [Self.p0])
        }
    }
}
