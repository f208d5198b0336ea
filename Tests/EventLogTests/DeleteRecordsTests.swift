// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct DeleteRecordsTests {
    /// 20 records of about 300 bytes, three or so a segment.
    private static func fill(_ log: LocalLog) async throws {
        let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 1024)
        try await log.createTopic("t", partitions: 2, settings: settings)
        for number in 0..<20 {
            _ = try await log.append(batch(["\(number)/" + String(repeating: "x", count: 250)]), to: p0)
        }
    }

    private static func segments(_ directory: TemporaryDirectory) throws -> [String] {
        try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".log") }
    }

    @Test func raisesTheStartForGood() async throws {
        let directory = try TemporaryDirectory()
        let killed = try await withLog(directory) { log async throws in
            try await Self.fill(log)
            #expect(try await log.deleteRecords(p0, before: 10) == 10)
            #expect(try log.bounds(p0) == (10, 20, 20))
            #expect(await errorCode { _ = try await log.read(p0, from: 9, bytesMax: 1) } == .offsetOutOfRange)
            #expect(try await readAll(log, p0, from: 10).map(\.offset) == Array(10..<20))
            #expect(try await log.deleteRecords(p0, before: 5) == 10, "the start is never lowered")
            return try directory.snapshot()
        }
        #expect(try Self.segments(killed).count < 5)
        try await withLog(killed) { log async throws in
            #expect(try log.bounds(p0) == (10, 20, 20))
            #expect(log.damage() == [])
            #expect(try await log.deleteRecords(p0, before: -1) == 20)
            #expect(try await readAll(log, p0, from: 20).isEmpty)
            await log.maintain()
            #expect(try Self.segments(killed) == ["00000000000000000020.log"])
            #expect(try await log.append(batch(["next"]), to: p0).baseOffset == 20)
        }
        try await withLog(killed) { log async throws in #expect(try log.bounds(p0) == (20, 21, 21)) }
    }

    @Test func answersEachPartitionApart() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await Self.fill(log)
            let empty = TopicPartition(topic: "t", partition: 1)
            let missing = TopicPartition(topic: "u", partition: 0)
            let found = try await log.deleteRecords(before: [p0: 4, empty: 1, missing: 0])
            #expect(try found[p0]?.get() == 4)
            #expect(throws: EventLogError.self) { try found[empty]?.get() }
            #expect(throws: EventLogError.self) { try found[missing]?.get() }
            #expect(await errorCode { _ = try await log.deleteRecords(p0, before: 21) } == .offsetOutOfRange)
            #expect(await errorCode { _ = try await log.deleteRecords(p0, before: -2) } == .offsetOutOfRange)
        }
    }

    @Test func deletesNothingWhenTheStartCannotBeStored() async throws {
        let directory = try TemporaryDirectory()
        let log = try await LocalLog.open(directory: directory.path, logger: quietLogger)
        try await Self.fill(log)
        // A folder in its place: the checkpoint cannot be replaced.
        let temporary = "\(directory.path)/log/checkpoint.tmp"
        try #require(mkdir(temporary, 0o755) == 0)
        let before = try Self.segments(directory)
        #expect(await errorCode { _ = try await log.deleteRecords(p0, before: 10) } != nil)
        #expect(try log.bounds(p0).start == 0)
        #expect(try Self.segments(directory) == before)
        #expect(try await readAll(log, p0).count == 20)
        try #require(rmdir(temporary) == 0)
        #expect(try await log.deleteRecords(p0, before: 10) == 10)
        await log.close()
    }

    @Test func wakesAReaderWhoWaitsForADeletedTransaction() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            _ = try await log.append(batch(["a"], producer: 1, sequence: 0, isTransactional: true), to: p0)
            #expect(try log.bounds(p0) == (0, 1, 0))
            async let waiting = log.read(p0, from: 0, bytesMax: 1 << 20, wait: .seconds(40))
            #expect(try await log.deleteRecords(p0, before: -1) == 1)
            do {
                #expect(try await waiting.nextOffset == 0)
                Issue.record("a deleted offset was read")
            } catch let error as EventLogError {
                #expect(error.code == .offsetOutOfRange)
            }
            #expect(try log.bounds(p0) == (1, 1, 1))
        }
    }
}
