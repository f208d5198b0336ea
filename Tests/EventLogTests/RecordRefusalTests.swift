// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

/// Batches that are refused for single records.
@Suite(.timeLimit(.minutes(5)))
struct RecordRefusalTests {
    private static func refusal(_ log: LocalLog, _ bytes: [UInt8]) async throws -> EventLogError? {
        if case .failure(let error) = try await log.outcome(bytes) { return error }
        return nil
    }

    private static func times(_ values: Int64...) -> [UInt8] {
        RecordBatchEncoder.encode(values.map { record("x", at: $0) })
    }

    @Test func timestampsTooFarFromNowAreRefused() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let limited = TopicSettings(
            retentionMilliseconds: nil,
            timestampBeforeMilliseconds: 10_000,
            timestampAfterMilliseconds: 2000
        )
        try await withLog(directory, settings: disk.settings) { log async throws in
            let now = disk.now
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(retentionMilliseconds: nil))
            for time in [0, 1, now, now + 1_000_000_000_000, .max - 1] as [Int64] {
                #expect(try await Self.refusal(log, Self.times(time)) == nil, "there is no limit by itself")
            }
            try await log.updateTopic("t", settings: limited)
            for time in [now - 10_000, now, now + 2000, -1] {
                #expect(try await Self.refusal(log, Self.times(time)) == nil, "\(time - now)")
            }
            for time in [now - 10_001, now + 2001, 0, Int64.max] {
                let refused = try #require(try await Self.refusal(log, Self.times(time)), "\(time - now)")
                #expect(refused.code == .invalidTimestamp)
                #expect(refused.records.map(\.index) == [0])
                #expect(refused.message.contains("message.timestamp.after.max.ms"))
            }
            let end = try log.bounds(p0).end
            let some = try #require(
                try await Self.refusal(log, Self.times(now, now + 5000, now, now - 20_000, now + 2001))
            )
            #expect(some.records.map(\.index) == [1, 3, 4])
            #expect(some.records[0].message.contains("\(now + 5000)"))
            #expect(some.message.contains("record 1") && some.message.contains("2 more"))
            #expect(try log.bounds(p0).end == end, "nothing of the batch is kept")
            // By the record, in compressed batches too: here the first of 300 is in time, and the last by the header.
            for name in ["zstd-unsized", "gzip-level-1", "snappy-xerial-32k", "lz4-independent-64k"] {
                var bytes = try compressedBatch(name)
                BigEndian.store(now - 500, to: &bytes, at: 27)
                BigEndian.store(now, to: &bytes, at: 35)
                BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
                let refused = try #require(try await Self.refusal(log, bytes))
                // 10 ms apart: 0 to 250 are within two seconds from now.
                #expect(refused.records.count == 49 && refused.records.first?.index == 251)
            }
            var stamped = limited
            stamped.stampsAppendTime = true
            try await log.updateTopic("t", settings: stamped)
            #expect(try await Self.refusal(log, Self.times(0)) == nil, "the log's own time takes its place")
            // One limit alone.
            let past = TopicSettings(retentionMilliseconds: nil, timestampBeforeMilliseconds: 0)
            try await log.updateTopic("t", settings: past)
            #expect(try await Self.refusal(log, Self.times(.max - 1)) == nil)
            #expect(try await Self.refusal(log, Self.times(now - 1))?.code == .invalidTimestamp)
        }
        // Settings last; those of an older file have no limits.
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(try await Self.refusal(log, Self.times(disk.now - 1))?.code == .invalidTimestamp)
        }
        for name in ["topic.json", "topic.copy.json"] {
            let text = String(decoding: try directory.read("log/topics/t/" + name), as: UTF8.self)
            // The last two of the settings, which are in the order of the alphabet.
            let lines = text.split(separator: "\n").filter { !$0.contains("timestamp") }
            let older = lines.joined(separator: "\n").replacing(#"AppendTime" : false,"#, with: #"AppendTime" : false"#)
            try directory.write(Array(older.utf8), to: "log/topics/t/" + name)
        }
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(log.damage() == [])
            #expect(try await Self.refusal(log, Self.times(0)) == nil)
        }
    }

    @Test func recordsWithoutAKeyAreNamed() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, compaction: TopicSettings.Compaction())
            try await log.createTopic("t", partitions: 1, settings: settings)
            let mixed = RecordBatchEncoder.encode([
                record("a", key: "k"), record("b"), record("c", key: "k"), record("d"),
            ])
            let refused = try #require(try await Self.refusal(log, mixed))
            #expect(refused.code == .invalidRecord)
            #expect(refused.records.map(\.index) == [1, 3])
            #expect(refused.records[1].message.contains("no key"))
            let many = try #require(
                try await Self.refusal(log, RecordBatchEncoder.encode((0..<500).map { record("\($0)") }))
            )
            #expect(many.records.map(\.index) == Array(0..<100), "as many as anybody reads")
            #expect(many.message.contains("499 more"))
        }
    }

    @Test func aRecordThatCannotBeReadIsNamed() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            var bytes = batch(["one", "two", "three"])
            // The length of the second record's value: "two" has four bytes in front, of a record of ten.
            let place = try #require(bytes.firstRange(of: Array("two".utf8))?.lowerBound) - 1
            bytes[place] = 100
            BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
            let refused = try #require(try await Self.refusal(log, bytes))
            #expect(refused.code == .invalidRecord)
            #expect(refused.records.map(\.index) == [1])
            var whole = batch(["one"])
            whole[30] ^= 1
            let damaged = try #require(try await Self.refusal(log, whole))
            #expect(damaged.code == .corruptBatch && damaged.records.isEmpty)
        }
    }

    @Test func aHeaderThatWasReadAlreadyIsCheckedAsAnyOther() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            @Sendable func submit(_ bytes: [UInt8]) async throws -> AppendResult {
                let header = try RecordBatchHeader(parsing: bytes)
                return try await withCheckedThrowingContinuation { continuation in
                    log.submit(bytes, header: header, to: p0) {
                        continuation.resume(with: $0.mapError { $0 as any Error })
                    }
                }
            }
            #expect(try await submit(batch(["one", "two"])).lastOffset == 1)
            var damaged = batch(["three"])
            damaged[damaged.count - 2] ^= 1
            let bytes = damaged
            #expect(await errorCode { _ = try await submit(bytes) } == .corruptBatch)
            #expect(await errorCode { _ = try await submit(batch(["three"]) + [0]) } == .invalidRecord)
            #expect(try await readAll(log, p0).map(\.text) == ["one", "two"])
        }
    }
}
