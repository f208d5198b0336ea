// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import EventLog
import Foundation
import Glibc
import Groups
import KafkaCodec
import Logging
import MartletCore
import Synchronization
import Testing

/// Readers of groups that ask request by request, over a real log.
@Suite(.timeLimit(.minutes(3)))
struct GroupReadersTests {
    private static let partition = TopicPartition(topic: "t", partition: 0)

    private final class Flag: Sendable {
        private let value = Atomic(false)

        var isSet: Bool { value.load(ordering: .sequentiallyConsistent) }

        func set() { value.store(true, ordering: .sequentiallyConsistent) }
    }

    /// What a test works with.
    private struct Stand: Sendable {
        let readers: GroupReaders
        let log: LocalLog
        /// Whether offsets cannot be flushed any more.
        let failsToStore: Flag
    }

    private func withReaders(_ body: (Stand) async throws -> Void) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/martlet-readers-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let fails = Flag()
        let settings = LocalLogSettings(synchronize: { descriptor in
            let link = "/proc/self/fd/\(descriptor)"
            let file = (try? FileManager.default.destinationOfSymbolicLink(atPath: link)) ?? ""
            return fails.isSet && file.contains("offsets") ? EIO : fdatasync(descriptor) == 0 ? 0 : errno
        })
        let log = try await LocalLog.open(directory: path, settings: settings, logger: logger)
        let groups = GroupCoordinator(store: LogGroupStore(log: log), logger: logger)
        let hub = SubscriptionHub(
            log: log,
            coordinator: groups,
            explain: { $0 as? ServiceError ?? ServiceError(.unavailable, "\($0)") },
            logger: logger
        )
        let readers = GroupReaders(hub: hub, log: log, topicName: { $0 })
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await groups.run() }
                group.addTask { await hub.run() }
                group.addTask { await readers.run() }
                try await body(Stand(readers: readers, log: log, failsToStore: fails))
                group.cancelAll()
            }
        } catch {
            await log.close()
            throw error
        }
        await log.close()
    }

    private func fill(_ log: LocalLog, _ count: Int) async throws {
        try await log.createTopic("t", partitions: 1, settings: TopicSettings())
        let records = (0..<count).map { Record(timestamp: 0, value: Array("\($0)".utf8)) }
        _ = try await log.append(RecordBatchEncoder.encode(records), to: Self.partition)
    }

    private func begin(_ stand: Stand) async throws -> String {
        try await stand.readers.begin(GroupReaderRequest(group: "g", topic: "t", start: .earliest))
    }

    private func read(_ stand: Stand, _ id: String, mark: UInt64, limit: Int, stopsAtEnd: Bool = false) async throws
        -> GroupRecords
    {
        let next = GroupReadRequest(mark: mark, limit: limit, wait: .seconds(60), stopsAtEnd: stopsAtEnd)
        return try await stand.readers.read("g", id, next)
    }

    @Test func anAnswerThatIsNotAcknowledgedIsGivenAgain() async throws {
        try await withReaders { stand in
            try await fill(stand.log, 10)
            let id = try await begin(stand)
            let lost = try await read(stand, id, mark: 0, limit: 4)
            #expect(lost.records.map(\.offset) == [0, 1, 2, 3])
            // The answer got lost, so the next request does not know its mark.
            let again = try await read(stand, id, mark: 0, limit: 6)
            #expect(again.records.map(\.offset) == Array(0..<6))
            #expect(again.mark > lost.mark)
            let rest = try await read(stand, id, mark: again.mark, limit: 100)
            #expect(rest.records.map(\.offset) == Array(6..<10))
            try await stand.readers.end("g", id, through: rest.mark)
            #expect(stand.log.committed(group: "g")[Self.partition]?.offset == 10)
        }
    }

    @Test func acknowledgingAnAnswerSaysNothingOfRecordsThatOnlyALostOneHad() async throws {
        try await withReaders { stand in
            try await fill(stand.log, 10)
            let id = try await begin(stand)
            #expect(try await read(stand, id, mark: 0, limit: 8).records.count == 8)
            let seen = try await read(stand, id, mark: 0, limit: 3)
            #expect(seen.records.map(\.offset) == [0, 1, 2])
            try await stand.readers.end("g", id, through: seen.mark)
            #expect(stand.log.committed(group: "g")[Self.partition]?.offset == 3)
        }
    }

    @Test func aCallerThatHasGoneTakesNothing() async throws {
        try await withReaders { stand in
            try await stand.log.createTopic("t", partitions: 1, settings: TopicSettings())
            let id = try await begin(stand)
            await withTaskGroup(of: GroupRecords?.self) { group in
                group.addTask { try? await read(stand, id, mark: 0, limit: 10) }
                await Task.yield()
                group.cancelAll()
                for await answer in group { #expect(answer?.records.isEmpty != false) }
            }
            let value = RecordBatchEncoder.encode([Record(timestamp: 0, value: [7])])
            _ = try await stand.log.append(value, to: Self.partition)
            #expect(try await read(stand, id, mark: 0, limit: 10).records.map(\.offset) == [0])
        }
    }

    @Test func whatCannotBeStoredIsNotCalledStored() async throws {
        try await withReaders { stand in
            try await fill(stand.log, 2)
            let id = try await begin(stand)
            let page = try await read(stand, id, mark: 0, limit: 10)
            #expect(page.records.count == 2)
            stand.failsToStore.set()
            await #expect(throws: ServiceError.self) {
                try await read(stand, id, mark: page.mark, limit: 10, stopsAtEnd: true)
            }
            // It is there still, and says the same.
            for _ in 0..<2 {
                do {
                    try await stand.readers.end("g", id, through: page.mark)
                    Issue.record("the offsets are not on disk")
                } catch let error as ServiceError {
                    #expect(error.code == .unavailable)
                    #expect(error.message.contains("stored"))
                }
            }
            #expect(stand.log.committed(group: "g")[Self.partition]?.offset == 0)
        }
    }

    @Test func anAnswerIsNotLargerForWhatStandsInHeaders() async throws {
        try await withReaders { stand in
            let header = 256 << 10
            let count = 64
            try await stand.log.createTopic(
                "t",
                partitions: 1,
                settings: TopicSettings(messageBytesMax: 64 << 20)
            )
            let records = (0..<count).map { _ in
                Record(
                    timestamp: 0,
                    key: nil,
                    value: nil,
                    headers: [RecordHeader(key: "h", value: Array(repeating: 1, count: header))]
                )
            }
            _ = try await stand.log.append(RecordBatchEncoder.encode(records), to: Self.partition)
            let id = try await begin(stand)
            var mark: UInt64 = 0
            var seen = 0
            while seen < count {
                let page = try await read(stand, id, mark: mark, limit: 5000)
                #expect(page.records.count * header <= (2 << 20) + header)
                seen += page.records.count
                mark = page.mark
            }
            #expect(seen == count)
        }
    }

    @Test func noMoreReadersBeginAtOnceThanThereMayBe() async throws {
        try await withReaders { stand in
            try await fill(stand.log, 1)
            let begun = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<2 * GroupReaderLimits.readersMax {
                    group.addTask { (try? await begin(stand)) != nil }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(begun == GroupReaderLimits.readersMax)
        }
    }
}
