// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct LocalLogTests {
    @Test func appendsAndReadsBack() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let first = try await log.append(batch(["a", "b", "c"]), to: p0)
            #expect(first == AppendResult(baseOffset: 0, lastOffset: 2, logStartOffset: 0))
            let second = try await log.append(batch(["d"]), to: p0)
            #expect(second.baseOffset == 3)
            #expect(try await readAll(log, p0).map(\.text) == ["a", "b", "c", "d"])
            #expect(try await readAll(log, p0, from: 2).map(\.text) == ["c", "d"])
            #expect(try await readAll(log, p0, from: 3).map(\.text) == ["d"])
            #expect(try log.bounds(p0) == (0, 4, 4))
        }
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).map(\.text) == ["a", "b", "c", "d"])
            #expect(try await log.append(batch(["e"]), to: p0).baseOffset == 4)
            #expect(try await readAll(log, p0, bytesMax: 1).map(\.text) == ["a", "b", "c", "d", "e"])
            #expect(log.damage().isEmpty)
        }
    }

    @Test func wakesAWaitingReader() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            async let result = log.read(p0, from: 0, bytesMax: 1000, wait: .seconds(30))
            _ = try await log.append(batch(["x"]), to: p0)
            let read = try await result
            #expect(read.nextOffset == 1)
            #expect(try RecordBatches.records(in: read.bytes).map(\.text) == ["x"])
        }
    }

    @Test func returnsEmptyWhenTheWaitIsOver() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let read = try await log.read(p0, from: 0, bytesMax: 1000, wait: .milliseconds(5))
            #expect(read.bytes.isEmpty)
            #expect(read.nextOffset == 0)
        }
    }

    @Test func rollsSegmentsAndReadsAcrossThem() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(segmentBytes: 1024))
            for number in 0..<100 { _ = try await log.append(batch(["value \(number)"]), to: p0) }
        }
        #expect(try directory.names(in: "log/topics/t/0").count { $0.hasSuffix(".log") } > 5)
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).map(\.text) == (0..<100).map { "value \($0)" })
            #expect(try await readAll(log, p0).map(\.offset) == Array(0..<100))
        }
    }

    @Test func keepsCommittedOffsets() async throws {
        let directory = try TemporaryDirectory()
        let committed = CommittedOffset(offset: 7, metadata: "häß", committedAt: 12)
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.commit(group: "g", offsets: [p0: committed])
            #expect(log.committed(group: "g") == [p0: committed])
        }
        try await withLog(directory) { log async throws in
            #expect(log.committed(group: "g") == [p0: committed])
            #expect(log.groups() == ["g"])
            try await log.deleteGroup("g")
            #expect(log.groups() == [])
        }
    }

    @Test func joinsConcurrentSends() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let producer = RecordProducer(log: log)
            let offsets = try await withThrowingTaskGroup(of: (Int, Int64).self) { group in
                for number in 0..<1000 {
                    group.addTask { (number, try await producer.send([record("\(number)")], topic: "t")[0].offset) }
                }
                return try await group.reduce(into: [Int: Int64]()) { $0[$1.0] = $1.1 }
            }
            let records = try await readAll(log, p0)
            #expect(records.count == 1000)
            for offset: Int64 in [1, 17, 500, 999] {
                #expect(try await readAll(log, p0, from: offset).count == 1000 - Int(offset))
            }
            for (number, offset) in offsets { #expect(records[Int(offset)].text == "\(number)") }
            var walk = RecordBatches(try await log.read(p0, from: 0, bytesMax: 1 << 24).bytes)
            var batches = 0
            while try walk.nextBatch() != nil { batches += 1 }
            #expect(batches < 300)
        }
    }
}
