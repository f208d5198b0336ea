// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ConcurrencyTests {
    /// Producers, tailing readers and housekeeping at once: every reader sees every record once, in order, and each
    /// producer's records in the order it sent them.
    @Test func readersSeeEverythingOnceAndInOrder() async throws {
        var generator = SeededGenerator.announced("readersSeeEverythingOnceAndInOrder")
        let directory = try TemporaryDirectory()
        let perProducer = 150
        let seeds = (0..<6).map { _ in generator.next() }
        let readerLimits = (0..<4).map { _ in Int.random(in: 50...20_000, using: &generator) }
        try await withLog(directory, settings: LocalLogSettings(recentBytesMax: 20_000)) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 16 << 10)
            try await log.createTopic("t", partitions: 2, settings: settings)
            let producer = RecordProducer(log: log, batchBytesMax: 4096)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (number, seed) in seeds.enumerated() {
                    group.addTask {
                        try await Self.produce(number, count: perProducer, seed: seed, with: producer)
                    }
                }
                for limit in readerLimits {
                    group.addTask { try await Self.follow(log, total: perProducer * 6, bytesMax: limit) }
                }
                group.addTask {
                    for _ in 0..<20 {
                        await log.maintain()
                        await Task.yield()
                    }
                }
                try await group.waitForAll()
            }
            #expect(log.damage().isEmpty)
        }
    }

    private static func produce(_ number: Int, count: Int, seed: UInt64, with producer: RecordProducer) async throws {
        var generator = SeededGenerator(seed: seed)
        var sent = 0
        while sent < count {
            let size = min(count - sent, Int.random(in: 1...8, using: &generator))
            let records = (sent..<sent + size).map { index in
                let padding = String(repeating: "x", count: Int.random(in: 0...500, using: &generator))
                return record("\(number)/\(index)/\(padding)", at: Int64(index), key: "\(number)")
            }
            let positions = try await producer.send(records, topic: "t")
            #expect(Set(positions.map(\.partition)).count == 1)
            #expect(zip(positions, positions.dropFirst()).allSatisfy { $0.offset + 1 == $1.offset })
            sent += size
        }
    }

    private static func follow(_ log: LocalLog, total: Int, bytesMax: Int) async throws {
        var next: [Int64] = [0, 0]
        var lastIndex: [String: Int] = [:]
        var seen = 0
        while seen < total {
            for partition in 0..<2 {
                let id = TopicPartition(topic: "t", partition: Int32(partition))
                let result = try await log.read(id, from: next[partition], bytesMax: bytesMax, wait: .milliseconds(2))
                for record in try RecordBatches.records(in: result.bytes, from: next[partition]) {
                    try #require(record.offset == next[partition])
                    next[partition] += 1
                    let parts = record.text.split(separator: "/", omittingEmptySubsequences: false)
                    let index = try #require(Int(parts[1]))
                    try #require(index == lastIndex[String(parts[0]), default: -1] + 1)
                    lastIndex[String(parts[0])] = index
                    seen += 1
                }
            }
        }
    }

    @Test func wakesManyReadersAtOnce() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await withThrowingTaskGroup(of: Int64.self) { group in
                for _ in 0..<100 {
                    group.addTask { try await log.read(p0, from: 0, bytesMax: 100, wait: .seconds(30)).nextOffset }
                }
                _ = try await log.append(batch(["x"]), to: p0)
                for try await next in group { #expect(next == 1) }
            }
        }
    }

    @Test func endsAWaitingReadWhenCancelled() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        do {
                            _ = try await log.read(p0, from: 0, bytesMax: 100, wait: .seconds(3600))
                            return false
                        } catch {
                            return error is CancellationError
                        }
                    }
                }
                await Task.yield()
                group.cancelAll()
                for await wasCancelled in group { #expect(wasCancelled) }
            }
        }
    }

    @Test func closingEndsWaitingReads() async throws {
        let directory = try TemporaryDirectory()
        let log = try await LocalLog.open(directory: directory.path, logger: quietLogger)
        try await log.createTopic("t", partitions: 1, settings: TopicSettings())
        async let waiting = errorCode { _ = try await log.read(p0, from: 0, bytesMax: 10, wait: .seconds(3600)) }
        await log.close()
        #expect(await waiting == .closed)
    }
}
