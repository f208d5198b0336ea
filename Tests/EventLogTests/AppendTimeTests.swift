// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct AppendTimeTests {
    @Test func recordsGetTheTimeOfTheLogWhereTheTopicSaysSo() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(stampsAppendTime: true))
            let first = disk.now
            #expect(try await log.append(batch(["a", "b"], at: 5), to: p0).appendTime == first)
            _ = try await log.append(try compressedBatch("kafka-python-gzip"), to: p0)
            disk.advance(by: 1000)
            _ = try await log.append(batch(["c"], at: 7), to: p0)
            let records = try await readAll(log, p0)
            #expect(records.map(\.timestamp) == [Int64](repeating: first, count: 12) + [first + 1000])
            #expect(try await log.offset(p0, atOrAfter: first + 1)?.offset == 12)
            #expect(try await log.verify() == [])
            try await log.updateTopic("t", settings: TopicSettings())
            #expect(try await log.append(batch(["d"], at: 9), to: p0).appendTime == nil)
            #expect(try await readAll(log, p0, from: 13).map(\.timestamp) == [9])
        }
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(log.damage() == [])
            #expect(try await log.offset(p0, atOrAfter: disk.now)?.offset == 12)
        }
    }
}
