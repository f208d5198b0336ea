// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct RecordProducerTests {
    @Test func sendsKeysWhereKafkaWouldAndAnswersInOrder() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 4, settings: TopicSettings())
            let producer = RecordProducer(log: log)
            let records = (0..<50).map { record("value \($0)", key: "key \($0)") }
            let positions = try await producer.send(records, topic: "t")
            #expect(Set(positions.map(\.partition)).count == 4)
            var stored: [Int32: [RecordView]] = [:]
            for number: Int32 in 0..<4 {
                stored[number] = try await readAll(log, TopicPartition(topic: "t", partition: number))
            }
            for (record, position) in zip(records, positions) {
                let key = try #require(record.key)
                #expect(position.partition == Partitioner.partition(forKey: key, of: 4))
                #expect(stored[position.partition]?[Int(position.offset)].record() == record)
            }
        }
    }

    @Test func recordsThatNameTheirPartitionKeepTheirOrderAmongThoseOfItsKeys() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 4, settings: TopicSettings())
            let producer = RecordProducer(log: log)
            let wanted = Partitioner.partition(forKey: Array("key".utf8), of: 4)
            let records = (0..<40).map { record("\($0)", key: $0 % 2 == 0 ? "key" : nil) }
            let partitions = (0..<40).map { $0 % 2 == 0 ? nil : wanted }
            let positions = try await producer.send(records, topic: "t", partitions: partitions)
            #expect(positions.map(\.partition) == Array(repeating: wanted, count: 40))
            #expect(positions.map(\.offset) == Array(0..<40))
        }
    }

    @Test func spreadsKeylessRecords() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 3, settings: TopicSettings())
            let producer = RecordProducer(log: log)
            var used: [Int32] = []
            for number in 0..<6 {
                let positions = try await producer.send([record("\(number)"), record("more")], topic: "t")
                #expect(Set(positions.map(\.partition)).count == 1)
                used.append(positions[0].partition)
            }
            #expect(used == [0, 1, 2, 0, 1, 2])
        }
    }

    @Test func splitsWhatDoesNotFitOneBatch() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(messageBytesMax: 1000))
            let producer = RecordProducer(log: log)
            let records = (0..<50).map { record("\($0) " + String(repeating: "x", count: $0 * 15)) }
            let positions = try await producer.send(records, topic: "t")
            #expect(positions.map(\.offset) == Array(0..<50))
            #expect(try await readAll(log, p0).map { $0.record() } == records)
            let large = [record("fits"), record(String(repeating: "x", count: 1000))]
            #expect(await errorCode { _ = try await producer.send(large, topic: "t") } == .messageTooLarge)
            #expect(try log.bounds(p0).end == 50)
            #expect(await errorCode { _ = try await producer.send(records, topic: "none") } == .unknownTopic)
            #expect(try await producer.send([], topic: "t").isEmpty)
        }
    }

    @Test func passesAFailureToEverySend() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let producer = RecordProducer(log: log)
            disk.fail(with: 5)
            let codes = await withTaskGroup(of: EventLogError.Code?.self) { group in
                for _ in 0..<50 {
                    group.addTask { await errorCode { _ = try await producer.send([record("a")], topic: "t") } }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(codes.count == 50)
            #expect(codes.allSatisfy { $0 == .partitionStopped })
        }
    }

    @Test func refusesMoreThanItMayHold() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let producer = RecordProducer(log: log, pendingBytesMax: 500)
            let codes = await withTaskGroup(of: EventLogError.Code?.self) { group in
                for _ in 0..<200 {
                    group.addTask { await errorCode { _ = try await producer.send([record("abc")], topic: "t") } }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(codes.allSatisfy { $0 == nil || $0 == .overloaded })
            #expect(codes.contains(.overloaded))
            #expect(try await readAll(log, p0).count == codes.count { $0 == nil })
        }
    }
}
