// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import Testing

@Suite(.timeLimit(.minutes(5)))
struct CoordinatorTests {
    static let p0 = TopicPartition(topic: "t", partition: 0)
    static let p1 = TopicPartition(topic: "t", partition: 1)

    static var settings: GroupSettings {
        var settings = GroupSettings()
        settings.initialRebalanceDelay = .zero
        settings.sessionTimeoutMin = .milliseconds(1)
        return settings
    }

    /// Runs a coordinator beside `body`; without its timer where the clock is moved by hand.
    static func with<Result: Sendable>(
        _ store: MemoryGroupStore = MemoryGroupStore(),
        settings: GroupSettings = Self.settings,
        clock: GroupClock? = nil,
        _ body: @Sendable (GroupCoordinator) async throws -> Result
    ) async throws -> Result {
        let coordinator = GroupCoordinator(
            store: store,
            settings: settings,
            clock: clock ?? .system,
            logger: quietLogger
        )
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { if clock == nil { await coordinator.run() } else { await coordinator.storeStates() } }
            defer { group.cancelAll() }
            return try await body(coordinator)
        }
    }

    static func request(
        _ group: String,
        _ memberID: String = "",
        instance: String? = nil,
        session: Duration = .seconds(30)
    ) -> GroupJoin.Request {
        var request = GroupHarness.request(memberID, instance: instance, session: session)
        request.group = group
        return request
    }

    /// Joins a group's only member and gives it one partition.
    static func member(of group: String, _ coordinator: GroupCoordinator) async -> GroupIdentity {
        let joined = await coordinator.join(request(group))
        let synced = await coordinator.sync(
            GroupSync.Request(
                group: group,
                generation: joined.generation,
                memberID: joined.memberID,
                assignments: [.init(memberID: joined.memberID, bytes: ConsumerProtocol.assignment(of: [p0]))]
            )
        )
        #expect(synced.error == nil)
        return GroupIdentity(generation: joined.generation, memberID: joined.memberID)
    }

    @Test func membersJoinWorkAndLeave() async throws {
        let store = MemoryGroupStore()
        try await Self.with(store) { coordinator in
            let first = await coordinator.join(Self.request("g"))
            #expect(first.memberID.hasPrefix("c-"))
            #expect(first.memberID.count == "c-".count + 36)
            async let second = coordinator.join(Self.request("g"))
            while coordinator.heartbeat(group: "g", .init(generation: 1, memberID: first.memberID)) == nil {
                await Task.yield()
            }
            let again = await coordinator.join(Self.request("g", first.memberID))
            let follower = await second
            #expect(again.generation == 2)
            #expect(follower.generation == 2)
            async let part = coordinator.sync(.init(group: "g", generation: 2, memberID: follower.memberID))
            let own = await coordinator.sync(
                .init(
                    group: "g",
                    generation: 2,
                    memberID: again.memberID,
                    assignments: [
                        .init(memberID: again.memberID, bytes: [1]), .init(memberID: follower.memberID, bytes: [2]),
                    ]
                )
            )
            #expect(own.assignment == [1])
            #expect(await part.assignment == [2])
            let described = try #require(try coordinator.describe("g"))
            #expect(described.state == .stable)
            #expect(described.members.map(\.assignment) == [[1], [2]])
            let left = coordinator.leave(
                group: "g",
                [.init(memberID: again.memberID), .init(memberID: follower.memberID)]
            )
            #expect(left.members.allSatisfy { $0.error == nil })
            let emptied = try coordinator.describe("g")
            #expect(emptied?.state == .empty)
        }
    }

    @Test func silentMembersAreDroppedByTheTimer() async throws {
        try await Self.with { coordinator in
            let joined = await coordinator.join(Self.request("g", session: .milliseconds(20)))
            while coordinator.heartbeat(group: "g", .init(generation: -5, memberID: joined.memberID)) != .unknownMember
            {
                await Task.yield()
            }
            let emptied = try coordinator.describe("g")
            #expect(emptied?.state == .empty)
        }
    }

    @Test func membersGoOnAfterARestart() async throws {
        let store = MemoryGroupStore()
        let member = try await Self.with(store) { await Self.member(of: "g", $0) }
        try await Self.with(store) { coordinator in
            #expect(coordinator.heartbeat(group: "g", member) == nil)
            let outcome = await coordinator.commit(group: "g", by: member, [Self.p0: .init(5)])
            #expect(outcome == .init())
            let kept = try coordinator.describe("g")
            #expect(kept?.members.count == 1)
        }
    }

    @Test func damagedStatesCostARebalanceAndNoOffsets() async throws {
        let store = MemoryGroupStore()
        let member = try await Self.with(store) { coordinator in
            let member = await Self.member(of: "g", coordinator)
            _ = await coordinator.commit(group: "g", by: member, [Self.p0: .init(5)])
            return member
        }
        store.setState("g", [1, 2, 3])
        try await Self.with(store) { coordinator in
            #expect(coordinator.heartbeat(group: "g", member) == .unknownMember)
            #expect(await coordinator.committed(group: "g").offsets[Self.p0]?.offset == 5)
            #expect(await Self.member(of: "g", coordinator).generation == 1)
        }
    }

    @Test func aCancelledJoinIsForgotten() async throws {
        try await Self.with { coordinator in
            let member = await Self.member(of: "g", coordinator)
            let cancelled = await withTaskGroup(of: GroupJoin.Answer.self) { group in
                group.addTask { await coordinator.join(Self.request("g")) }
                while coordinator.heartbeat(group: "g", member) == nil { await Task.yield() }
                group.cancelAll()
                return await group.next()
            }
            #expect(cancelled?.error == .coordinatorNotAvailable)
            let again = await coordinator.join(Self.request("g", member.memberID))
            #expect(again.members.count == 1)
        }
    }

    @Test func whoWaitsIsAnsweredWhenTheCoordinatorStops() async throws {
        let coordinator = GroupCoordinator(
            store: MemoryGroupStore(),
            settings: Self.settings,
            clock: .system,
            logger: quietLogger
        )
        // Nothing stores the reservation, so the join waits.
        async let answer = coordinator.join(Self.request("g"))
        while try coordinator.describe("g") == nil { await Task.yield() }
        coordinator.close()
        #expect(await answer.error == .coordinatorNotAvailable)
        #expect(await coordinator.join(Self.request("g")).error == .coordinatorNotAvailable)
        #expect(await coordinator.delete("g") != nil)
    }

    @Test func groupNamesHaveRules() async throws {
        try await Self.with { coordinator in
            for name in ["", "a\nb", String(repeating: "x", count: 1025)] {
                #expect(await coordinator.join(Self.request(name)).error == .invalidGroupID)
                #expect(coordinator.heartbeat(group: name, .simple) == .invalidGroupID)
                #expect(
                    await coordinator.commit(group: name, by: .simple, [Self.p0: .init(1)]).error == .invalidGroupID
                )
                #expect(await coordinator.committed(group: name).error == .invalidGroupID)
                #expect(await coordinator.delete(name) == .invalidGroupID)
            }
            #expect(await coordinator.commit(group: "größe 1", by: .simple, [Self.p0: .init(1)]) == .init())
        }
    }

    @Test func unknownGroupsAreNotMadeByQuestions() async throws {
        try await Self.with { coordinator in
            #expect(await coordinator.join(Self.request("g", "m")).error == .unknownMember)
            #expect(await coordinator.sync(.init(group: "g", generation: 1, memberID: "m")).error == .unknownMember)
            #expect(coordinator.heartbeat(group: "g", .init(generation: 1, memberID: "m")) == .unknownMember)
            #expect(coordinator.leave(group: "g", [.init(memberID: "m")]).members.map(\.error) == [.unknownMember])
            let late = await coordinator.commit(
                group: "g",
                by: .init(generation: 1, memberID: "m"),
                [Self.p0: .init(1)]
            )
            #expect(late.error == .illegalGeneration)
            #expect(await coordinator.committed(group: "g") == .init())
            #expect(await coordinator.delete("g") == .groupNotFound)
            #expect(await coordinator.deleteOffsets(group: "g", of: [Self.p0]).error == .groupNotFound)
            let unknown = try coordinator.describe("g")
            #expect(unknown == nil)
            #expect(coordinator.list().isEmpty)
        }
    }

    @Test func groupsAreBounded() async throws {
        var settings = Self.settings
        settings.groupsMax = 2
        try await Self.with(settings: settings) { coordinator in
            #expect(await coordinator.commit(group: "a", by: .simple, [Self.p0: .init(1)]) == .init())
            _ = await Self.member(of: "b", coordinator)
            #expect(await coordinator.join(Self.request("c")).error == .groupMaxSizeReached)
            #expect(
                await coordinator.commit(group: "c", by: .simple, [Self.p0: .init(1)]).error == .groupMaxSizeReached
            )
            #expect(await coordinator.delete("a") == nil)
            #expect(await coordinator.join(Self.request("c")).error == nil)
        }
    }

    @Test func unusedIDsLeaveNoGroupBehind() async throws {
        let manual = ManualClock()
        var settings = Self.settings
        settings.groupsMax = 1
        try await Self.with(settings: settings, clock: manual.clock) { coordinator in
            var request = Self.request("a")
            request.requiresKnownMember = true
            #expect(await coordinator.join(request).error == .memberIDRequired)
            #expect(await coordinator.join(Self.request("b")).error == .groupMaxSizeReached)
            manual.pass(.seconds(31))
            coordinator.fireDeadlines()
            #expect(await coordinator.join(Self.request("b")).error == nil)
        }
    }

    @Test func aThousandMembersInAHundredGroupsSettle() async throws {
        var settings = Self.settings
        settings.initialRebalanceDelay = .milliseconds(300)
        try await Self.with(settings: settings) { coordinator in
            await withTaskGroup(of: Bool.self) { group in
                for number in 0..<1000 {
                    group.addTask { await Self.settle("g\(number % 100)", coordinator) }
                }
                for await isSettled in group { #expect(isSettled) }
            }
            let groups = coordinator.list(states: ["STABLE"])
            #expect(groups.count == 100)
            let counts = try groups.map { try coordinator.describe($0.group)?.members.count }
            #expect(counts.allSatisfy { $0 == 10 })
        }
    }

    /// Joins and comes again until the group has its ten members and an assignment.
    private static func settle(_ group: String, _ coordinator: GroupCoordinator) async -> Bool {
        var memberID = ""
        for _ in 0..<100 {
            let joined = await coordinator.join(request(group, memberID))
            memberID = joined.memberID
            guard joined.error == nil else { return false }
            let synced = await coordinator.sync(
                .init(
                    group: group,
                    generation: joined.generation,
                    memberID: memberID,
                    assignments: joined.members.map {
                        .init(memberID: $0.memberID, bytes: [UInt8(joined.members.count)])
                    }
                )
            )
            if synced.error == .rebalanceInProgress { continue }
            guard synced.error == nil else { return false }
            if synced.assignment == [10] { return true }
            while coordinator.heartbeat(group: group, .init(generation: joined.generation, memberID: memberID)) == nil {
                await Task.yield()
            }
        }
        return false
    }
}
