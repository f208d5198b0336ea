// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct RetentionTests {
    @Test func deletesSegmentsBySize() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, retentionBytes: 3000, segmentBytes: 1024)
            try await log.createTopic("t", partitions: 1, settings: settings)
            for number in 0..<200 { _ = try await log.append(batch(["value \(number)"]), to: p0) }
            await log.maintain()
            let start = try log.bounds(p0).start
            #expect(start > 100)
            #expect(await errorCode { _ = try await log.read(p0, from: start - 1, bytesMax: 10) } == .offsetOutOfRange)
            #expect(try await readAll(log, p0, from: start).map(\.offset) == Array(start..<200))
        }
        let kept = try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".log") }
        #expect((3...5).contains(kept.count))
        try await withLog(directory) { log async throws in
            #expect(try log.bounds(p0).end == 200)
            #expect(try log.bounds(p0).start > 100)
        }
    }

    @Test func deletesSegmentsByTimeAndKeepsOffsets() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(retentionMilliseconds: 10_000))
            for _ in 0..<10 { _ = try await log.append(batch(["old"], at: disk.now), to: p0) }
            await log.maintain()
            #expect(try log.bounds(p0) == (0, 10, 10))
            disk.advance(by: 20_000)
            // The last segment holds only expired records: it is rolled and deleted.
            await log.maintain()
            #expect(try log.bounds(p0) == (10, 10, 10))
            #expect(try await log.append(batch(["new"], at: disk.now), to: p0).baseOffset == 10)
            await log.maintain()
            #expect(try await readAll(log, p0, from: 10).map(\.text) == ["new"])
        }
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(try log.bounds(p0) == (10, 11, 11))
        }
    }

    @Test func whatCannotBeNotedIsDeletedByALaterRound() async throws {
        let directory = try TemporaryDirectory()
        let settings = TopicSettings(retentionMilliseconds: nil, retentionBytes: 3000, segmentBytes: 1024)
        func logs() throws -> Int { try directory.names(in: "log/topics/t/0").count { $0.hasSuffix(".log") } }
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: settings)
            for number in 0..<200 { _ = try await log.append(batch(["value \(number)"]), to: p0) }
            let before = try logs()
            // No checkpoint can be written.
            try directory.makeFolder("log/checkpoint.tmp")
            await log.maintain()
            #expect(try log.bounds(p0).start > 100)
            #expect(try logs() == before, "nothing is removed that the next start would miss")
            let held = try log.bounds(p0).start
            try directory.remove("log/checkpoint.tmp")
            await log.maintain()
            #expect(try logs() <= 5)
            let killed = try directory.snapshot()
            try await withLog(killed) { again async throws in
                #expect(again.damage() == [])
                #expect(try again.bounds(p0).start == held)
            }
        }
    }

    @Test func rollsByTime() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let settings = TopicSettings(retentionMilliseconds: nil, segmentMilliseconds: 1000)
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: settings)
            disk.advance(by: 5000)
            _ = try await log.append(batch(["a"]), to: p0)
            await log.maintain()
            #expect(try directory.names(in: "log/topics/t/0").count { $0.hasSuffix(".log") } == 1)
            disk.advance(by: 1000)
            await log.maintain()
            await log.maintain()
            #expect(try directory.names(in: "log/topics/t/0").count { $0.hasSuffix(".log") } == 2)
            _ = try await log.append(batch(["b"]), to: p0)
            #expect(try await readAll(log, p0).map(\.text) == ["a", "b"])
        }
    }

    @Test func findsRecordsByTime() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 20_000)
            try await log.createTopic("t", partitions: 1, settings: settings)
            let padding = String(repeating: "x", count: 300)
            for number in 0..<100 {
                // Three records a batch, one of them out of order.
                let times = [number * 30, number * 30 + 20, number * 30 + 10].map(Int64.init)
                let records = times.map { record("\($0)" + padding, at: $0) }
                _ = try await log.append(RecordBatchEncoder.encode(records), to: p0)
            }
        }
        try await withLog(directory) { log async throws in
            let all = try await readAll(log, p0)
            for timestamp: Int64 in [-5, 0, 1, 10, 15, 20, 21, 500, 1499, 2985, 2990, 2991] + (0..<60).map({ $0 * 53 })
            {
                let expected = all.first { $0.timestamp >= timestamp }
                let found = try await log.offset(p0, atOrAfter: timestamp)
                #expect(found?.offset == expected?.offset, "at \(timestamp)")
                #expect(found?.timestamp == expected?.timestamp, "at \(timestamp)")
            }
        }
    }

    @Test func findsRecordsByTimeInCompressedBatches() async throws {
        let directory = try TemporaryDirectory()
        let base: Int64 = 1_700_000_000_000
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(retentionMilliseconds: nil))
            // 300 records each, 10 ms apart; the first and the last cannot be decompressed.
            let good = ["zstd-unsized", "gzip-level-1", "snappy-xerial-32k", "lz4-independent-64k"]
            for (index, name) in ([good[0]] + good + [good[1]]).enumerated() {
                var bytes = try compressedBatch(name)
                let start = base + 10_000 * Int64(index)
                BigEndian.store(start, to: &bytes, at: 27)
                BigEndian.store(start + 2990, to: &bytes, at: 35)
                if index == 0 || index == 5 { bytes[bytes.count / 2] ^= 1 }
                BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
                _ = try await log.append(bytes, to: p0)
            }
            for index in 1..<5 {
                let (time, offset) = (base + 10_000 * Int64(index), 300 * Int64(index))
                for (asked, step): (Int64, Int64) in [(-5, 0), (0, 0), (1, 1), (1491, 150), (2990, 299)] {
                    let found = try await log.offset(p0, atOrAfter: time + asked)
                    #expect(found?.offset == offset + step, "batch \(index), \(asked) ms")
                    #expect(found?.timestamp == time + step * 10)
                }
            }
            // Where it cannot be known exactly, nothing is missed.
            #expect(try await log.offset(p0, atOrAfter: base + 500)?.offset == 0)
            #expect(try await log.offset(p0, atOrAfter: base + 50_500)?.offset == 1500)
            #expect(try await log.offset(p0, atOrAfter: base + 52_991) == nil)
        }
    }
}
