// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import EventLog
import FoundationEssentials
import KafkaCodec
import Logging
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct BatchPublisherTests {
    /// Gives a log with topics `one` (1 partition) and `four` (4) to the body.
    private func withPublisher(
        messageBytesMax: Int32 = 1 << 20,
        _ body: (BatchPublisher, LocalLog) async throws -> Void
    ) async throws {
        let path = FileManager.default.temporaryDirectory.path + "/martlet-broker-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let log = try await LocalLog.open(directory: path, settings: LocalLogSettings(), logger: logger)
        var settings = TopicSettings(retentionMilliseconds: nil)
        settings.messageBytesMax = messageBytesMax
        do {
            try await log.createTopic("one", partitions: 1, settings: settings)
            try await log.createTopic("four", partitions: 4, settings: settings)
            try await body(BatchPublisher(log: log, explain: { ServiceError(.unavailable, "\($0)") }), log)
        } catch {
            await log.close()
            throw error
        }
        await log.close()
    }

    private struct Sent {
        var topic = "one"
        var key: String?
        var value: [UInt8]
        var partition: Int32?
    }

    private func records(_ all: [Sent]) -> EncodedRecords {
        var writer = RecordBodyWriter(capacity: 100)
        var topics: [String] = []
        var items: [EncodedRecords.Item] = []
        for one in all {
            if !topics.contains(one.topic) { topics.append(one.topic) }
            let start = writer.bytes.count
            let key = one.key.map { Array($0.utf8) }
            if let key { key.withUnsafeBytes { writer.putField($0) } } else { writer.putField(nil) }
            one.value.withUnsafeBytes { writer.putField($0) }
            writer.putHeaderCount(1)
            one.value.prefix(3).withUnsafeBytes { writer.putHeader("ce_id", $0) }
            items.append(
                EncodedRecords.Item(
                    body: start..<writer.bytes.count,
                    topic: topics.firstIndex(of: one.topic) ?? 0,
                    keyHash: key.map { Partitioner.murmur2($0) },
                    partition: one.partition
                )
            )
        }
        return EncodedRecords(bodies: writer.bytes, topics: topics, items: items)
    }

    private func stored(_ log: LocalLog, _ topic: String, _ partition: Int32) async throws -> [RecordView] {
        var all: [RecordView] = []
        var next: Int64 = 0
        let id = TopicPartition(topic: topic, partition: partition)
        while next < (try log.bounds(id).end) {
            let found = try await log.read(id, from: next, bytesMax: 1 << 20)
            all += try RecordBatches.records(in: found.bytes, from: next)
            next = found.nextOffset
        }
        return all
    }

    @Test func recordsAreWhereTheOutcomeSays() async throws {
        try await withPublisher { publisher, log in
            let sent = (0..<200).map { Sent(topic: "four", key: "k\($0 % 17)", value: Array("value \($0)".utf8)) }
            let outcomes = await publisher.publish(records(sent))
            for (one, outcome) in zip(sent, outcomes) {
                #expect(outcome.error == nil)
                let wanted = Partitioner.partition(forKey: Array((one.key ?? "").utf8), of: 4)
                #expect(outcome.partition == wanted)
                let found = try await stored(log, "four", outcome.partition)[Int(outcome.offset)]
                #expect(found.value.map { Array($0) } == one.value)
                #expect(found.key.map { String(decoding: $0, as: UTF8.self) } == one.key)
                #expect(found.header("ce_id").map { Array($0) } == Array(one.value.prefix(3)))
            }
        }
    }

    @Test func aPartitionsRecordsOfOneRequestAreOneBatch() async throws {
        try await withPublisher { publisher, log in
            let sent = (0..<100).map { Sent(value: Array(repeating: UInt8($0), count: 1024)) }
            let outcomes = await publisher.publish(records(sent))
            #expect(outcomes.map(\.offset) == Array(0..<100))
            let found = try await log.read(TopicPartition(topic: "one", partition: 0), from: 0, bytesMax: 1 << 20)
            var batches = RecordBatches(found.bytes)
            #expect(try batches.nextBatch()?.header.recordCount == 100)
            #expect(try batches.nextBatch() == nil)
        }
    }

    @Test func aRefusedRecordDoesNotHarmTheOthers() async throws {
        try await withPublisher(messageBytesMax: 4096) { publisher, log in
            var bad = records([
                Sent(value: [1]), Sent(value: Array(repeating: 2, count: 5000)), Sent(topic: "none", value: [3]),
                Sent(value: [4], partition: 9), Sent(value: [5]), Sent(topic: "__own", value: [6]), Sent(value: [7]),
            ])
            bad.items[4].fault = .invalid(field: "type", "is missing")
            let outcomes = await publisher.publish(bad)
            #expect(
                outcomes.map(\.error?.code) == [nil, .tooLarge, .notFound, .invalid, .invalid, .forbidden, nil]
            )
            #expect(outcomes[0].offset == 0)
            #expect(outcomes[6].offset == 1)
            let values = try await stored(log, "one", 0).map { $0.value.map { Array($0) } }
            #expect(values == [[1], [7]])
        }
    }

    @Test func largeRequestsBecomeSeveralBatches() async throws {
        try await withPublisher(messageBytesMax: 20_000) { publisher, log in
            let sent = (0..<100).map { Sent(value: Array(repeating: UInt8($0), count: 1500)) }
            let outcomes = await publisher.publish(records(sent))
            #expect(outcomes.map(\.offset) == Array(0..<100))
            let found = try await stored(log, "one", 0)
            #expect(found.map { $0.value?.first } == (0..<100).map { UInt8($0) })
        }
    }

    @Test func callsKeepTheirOrderWhateverTheirSize() async throws {
        try await withPublisher { publisher, log in
            let answers = AsyncStream.makeStream(of: [PublishOutcome].self)
            let sizes = [3, 100_000, 10, 70_000, 2000, 1]
            let count = 300
            for number in 0..<count {
                var value = Array(repeating: UInt8(0), count: sizes[number % sizes.count] + 2)
                value[0] = UInt8(number & 0xFF)
                value[1] = UInt8(number >> 8)
                publisher.publish(records([Sent(value: value)])) { answers.continuation.yield($0) }
            }
            var left = count
            for await outcomes in answers.stream {
                #expect(outcomes[0].error == nil)
                left -= 1
                if left == 0 { break }
            }
            let found = try await stored(log, "one", 0).compactMap { $0.value.map { Array($0.prefix(2)) } }
            #expect(found.map { Int($0[0]) | Int($0[1]) << 8 } == Array(0..<count))
        }
    }

    /// A stream's message has its topic from the message before, and its events may name the same one.
    @Test func aTopicThatIsNamedTwiceKeepsItsOrder() async throws {
        try await withPublisher { publisher, log in
            for round in 0..<20 {
                var twice = records(
                    (0..<9).map { Sent(topic: $0 % 3 == 1 ? "four" : "one", key: "k", value: [UInt8($0)]) }
                )
                #expect(twice.topics == ["one", "four"])
                twice.topics.append("one")
                for index in twice.items.indices where index % 3 == 2 { twice.items[index].topic = 2 }
                let outcomes = await publisher.publish(twice)
                #expect(outcomes.allSatisfy { $0.error == nil })
                let values = try await stored(log, "one", 0).suffix(6).map { $0.value.map { Array($0) } }
                #expect(values == [[0], [2], [3], [5], [6], [8]], "round \(round)")
            }
        }
    }

    @Test func smallCallsAtOnceShareBatches() async throws {
        try await withPublisher { publisher, log in
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<2000 {
                    group.addTask {
                        let outcomes = await publisher.publish(self.records([Sent(value: [UInt8(number & 0xFF)])]))
                        #expect(outcomes.allSatisfy { $0.error == nil })
                    }
                }
            }
            var batches = 0
            var next: Int64 = 0
            let id = TopicPartition(topic: "one", partition: 0)
            while next < (try log.bounds(id).end) {
                let found = try await log.read(id, from: next, bytesMax: 1 << 20)
                var walk = RecordBatches(found.bytes)
                while try walk.nextBatch() != nil { batches += 1 }
                next = found.nextOffset
            }
            #expect(next == 2000)
            #expect(batches < 1500, "\(batches) batches")
        }
    }
}
