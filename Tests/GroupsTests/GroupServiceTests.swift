// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import Groups
import KafkaCodec
import MartletCore
import Testing

/// The coordinator and the service over the real log.
@Suite(.timeLimit(.minutes(5)))
struct GroupServiceTests {
    private let p0 = TopicPartition(topic: "t", partition: 0)
    private let p1 = TopicPartition(topic: "t", partition: 1)
    private let p2 = TopicPartition(topic: "t", partition: 2)

    /// What a test works with.
    private struct Stand: Sendable {
        let log: LocalLog
        let coordinator: GroupCoordinator
        let service: GroupService
    }

    private static func withStand<Result: Sendable>(
        _ directory: String,
        now milliseconds: Int64? = nil,
        _ body: @Sendable (Stand) async throws -> Result
    ) async throws -> Result {
        let log = try await LocalLog.open(directory: directory, logger: quietLogger)
        let clock = milliseconds.map { milliseconds in
            GroupClock { GroupTime(instant: .now, wallMilliseconds: milliseconds) }
        }
        let coordinator = GroupCoordinator(
            store: LogGroupStore(log: log),
            settings: CoordinatorTests.settings,
            clock: clock ?? .system,
            logger: quietLogger
        )
        let service = GroupService(coordinator: coordinator, log: log, clock: clock ?? .system)
        do {
            let result = try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await coordinator.run() }
                defer { group.cancelAll() }
                return try await body(Stand(log: log, coordinator: coordinator, service: service))
            }
            await log.close()
            return result
        } catch {
            await log.close()
            throw error
        }
    }

    private static func withDirectory(_ body: (String) async throws -> Void) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/martlet-groups-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try await body(path)
    }

    /// Ten records, one a second from second 1000 on, in batches of one.
    private static func fill(_ log: LocalLog) async throws {
        try await log.createTopic("t", partitions: 3, settings: TopicSettings())
        for second in 0..<10 {
            let record = Record(timestamp: Int64(1000 + second) * 1000, value: [UInt8(second)])
            _ = try await log.append(
                RecordBatchEncoder.encode([record]),
                to: TopicPartition(topic: "t", partition: 0)
            )
        }
    }

    @Test func lagIsToldInRecordsAndSeconds() async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory, now: 1_020_000) { [p0, p1] stand in
                try await Self.fill(stand.log)
                _ = await stand.coordinator.commit(
                    group: "g",
                    by: .simple,
                    [p0: .init(4, metadata: "note"), p1: .init(0)]
                )
                let group = try await stand.service.get("g")
                #expect(group.summary.lagRecords == 6)
                #expect(group.summary.lagSeconds == 16)
                #expect(group.summary.topics == ["t"])
                #expect(group.summary.state == "Empty")
                #expect(group.partitions.map(\.committedOffset) == [4, 0])
                #expect(group.partitions.map(\.endOffset) == [10, 0])
                #expect(group.partitions.map(\.lagRecords) == [6, 0])
                #expect(group.partitions.map(\.lagSeconds) == [16, 0])
                #expect(group.partitions[0].metadata == "note")
                #expect(try await stand.service.list() == [group.summary])
            }
        }
    }

    /// Clients choose the time of a record; nanoseconds are a usual mistake.
    @Test(
        arguments: [(.max, 0), (1_700_000_000_000_000_000, 0), (-1, 1020.001), (.min, 62_135_597_820)]
            as [(Int64, Double)]
    )
    func recordsOfAnyTimeHaveAnAge(milliseconds: Int64, age: Double) async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory, now: 1_020_000) { [p0] stand in
                try await stand.log.createTopic("t", partitions: 3, settings: TopicSettings())
                let record = Record(timestamp: milliseconds, value: [1])
                _ = try await stand.log.append(RecordBatchEncoder.encode([record]), to: p0)
                _ = await stand.coordinator.commit(group: "g", by: .simple, [p0: .init(0)])
                #expect(try await stand.service.get("g").summary.lagSeconds == age)
                let reset = GroupReset(.time(milliseconds: milliseconds))
                #expect(try await stand.service.reset("g", reset).map(\.newOffset) == [0])
            }
        }
    }

    @Test func membersAreShownWithTheirPartitions() async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory) { [p0] stand in
                try await Self.fill(stand.log)
                let member = await CoordinatorTests.member(of: "g", stand.coordinator)
                let group = try await stand.service.get("g")
                #expect(group.members.map(\.memberId) == [member.memberID])
                #expect(group.members.map(\.partitionCount) == [1])
                #expect(group.partitions.map(\.memberId) == [member.memberID])
                #expect(group.partitions.map(\.committedOffset) == [nil])
                #expect(group.summary.lagRecords == 10)
                #expect(group.protocolName == "range")
                #expect(group.partitions.first?.partition == p0.partition)
            }
        }
    }

    @Test func aResetNamesEachPartitionOnceAndNotWithoutEnd() async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory) { [p0] stand in
                try await Self.fill(stand.log)
                func reset(_ partitions: [Int32], topics: [String] = ["t"]) async throws -> [Int32] {
                    let reset = GroupReset(.latest, topics: topics, partitions: partitions, isDryRun: true)
                    return try await stand.service.reset("g", reset).map(\.partition)
                }
                #expect(try await reset(Array(repeating: 1, count: 5000) + [0]) == [0, 1])
                #expect(try await reset([0], topics: ["t", "t"]) == [p0.partition])
                func refused(_ partitions: [Int32], topics: [String] = ["t"]) async throws -> [String] {
                    do {
                        return try await reset(partitions, topics: topics).map { "\($0)" }
                    } catch let error as ServiceError {
                        return error.fields.map(\.field)
                    }
                }
                #expect(try await refused([0, 3]) == ["partitions"])
                #expect(try await refused(Array(repeating: 1, count: 10_001)) == ["partitions"])
                #expect(try await refused([0], topics: Array(repeating: "t", count: 10_001)) == ["topics"])
            }
        }
    }

    @Test(arguments: [
        (GroupReset.Target.earliest, Int64(0)), (.latest, 10), (.offset(7), 7), (.offset(99), 10), (.by(2), 6),
        (.by(-3), 1), (.by(-9), 0), (.by(.max), 10), (.time(milliseconds: 1_003_500), 4),
        (.time(milliseconds: 5_000_000), 10), (.time(milliseconds: .max), 10), (.time(milliseconds: .min), 0),
    ])
    func offsetsAreReset(target: GroupReset.Target, expected: Int64) async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory) { [p0, p1] stand in
                try await Self.fill(stand.log)
                _ = await stand.coordinator.commit(group: "g", by: .simple, [p0: .init(4), p1: .init(0)])
                let dry = try await stand.service.reset("g", GroupReset(target, isDryRun: true))
                #expect(dry.first == GroupResetOutcome(topic: "t", partition: 0, oldOffset: 4, newOffset: expected))
                #expect(stand.log.committed(group: "g")[p0]?.offset == 4)
                #expect(try await stand.service.reset("g", GroupReset(target)) == dry)
                #expect(stand.log.committed(group: "g")[p0]?.offset == expected)
                #expect(stand.log.committed(group: "g")[p1]?.offset == 0)
            }
        }
    }

    @Test func resetsCanBeNarrowedAndCanBeginAGroup() async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory) { [p0, p1, p2] stand in
                try await Self.fill(stand.log)
                let reset = GroupReset(.latest, topics: ["t"], partitions: [0, 2])
                #expect(try await stand.service.reset("new", reset).map(\.newOffset) == [10, 0])
                #expect(Set(stand.log.committed(group: "new").keys) == [p0, p2])
                _ = p1
                await #expect(throws: ServiceError.self) {
                    try await stand.service.reset("new", GroupReset(.latest, topics: ["none"]))
                }
                await #expect(throws: ServiceError.self) {
                    try await stand.service.reset("new", GroupReset(.latest, partitions: [7]))
                }
            }
        }
    }

    @Test func groupsInUseAndTheEnginesOwnAreLeftAlone() async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory) { [p0] stand in
                try await Self.fill(stand.log)
                let own = [p0: CommittedOffset(offset: 1, committedAt: 0)]
                try await stand.log.commit(group: "__table.t", offsets: own)
                let member = await CoordinatorTests.member(of: "g", stand.coordinator)
                _ = await stand.coordinator.commit(group: "g", by: member, [p0: .init(1)])
                func code(_ body: () async throws -> Void) async -> ServiceError.Code? {
                    do {
                        try await body()
                        return nil
                    } catch {
                        return (error as? ServiceError)?.code
                    }
                }
                let service = stand.service
                #expect(await code { _ = try await service.reset("g", GroupReset(.earliest)) } == .inUse)
                #expect(await code { try await service.delete("g") } == .inUse)
                #expect(await code { _ = try await service.reset("__table.t", GroupReset(.earliest)) } == .forbidden)
                #expect(await code { try await service.delete("__table.t") } == .forbidden)
                #expect(await code { _ = try await service.get("none") } == .notFound)
                #expect(await code { _ = try await service.reset("none", GroupReset(.earliest)) } == .notFound)
                #expect(await code { try await service.delete("none") } == .notFound)
                #expect(await code { try await service.delete("") } == .invalid)
                #expect(try await service.list().map(\.name) == ["__table.t", "g"])
                #expect(try await service.get("__table.t").summary.isInternal)
                _ = stand.coordinator.leave(group: "g", [.init(memberID: member.memberID)])
                #expect(await code { try await service.delete("g") } == nil)
                #expect(stand.log.groups() == ["__table.t"])
            }
        }
    }

    @Test func membersAndOffsetsAreThereAfterTheLogWasClosedAndOpened() async throws {
        try await Self.withDirectory { directory in
            let member = try await Self.withStand(directory) { [p0] stand in
                try await Self.fill(stand.log)
                let member = await CoordinatorTests.member(of: "g", stand.coordinator)
                _ = await stand.coordinator.commit(group: "g", by: member, [p0: .init(3, metadata: "m")])
                return member
            }
            try await Self.withStand(directory) { [p0] stand in
                #expect(stand.coordinator.heartbeat(group: "g", member) == nil)
                #expect(await stand.coordinator.commit(group: "g", by: member, [p0: .init(4)]) == .init())
                let joined = await stand.coordinator.join(CoordinatorTests.request("g", member.memberID))
                #expect(joined.generation > member.generation)
            }
        }
    }

    @Test func offsetsOfATopicThatWasDeletedAreRefused() async throws {
        try await Self.withDirectory { directory in
            try await Self.withStand(directory) { [p0] stand in
                try await Self.fill(stand.log)
                _ = await stand.coordinator.commit(group: "g", by: .simple, [p0: .init(3)])
                try await stand.log.deleteTopic("t")
                #expect(await stand.coordinator.committed(group: "g").offsets.isEmpty)
                let outcome = await stand.coordinator.commit(group: "g", by: .simple, [p0: .init(3)])
                #expect(outcome.error(for: p0) == .unknownTopicOrPartition)
            }
        }
    }
}
