// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
import KafkaCodec
package import MartletCore

/// Records of topics for callers that use no broker protocol.
package struct RecordService: RecordServices {
    /// What compressed batches may become at once.
    private static let decompressedBytesMax = 4 << 20

    private let topics: TopicService
    private let log: LocalLog
    private let producer: RecordProducer

    package init(topics: TopicService, log: LocalLog, producer: RecordProducer) {
        self.topics = topics
        self.log = log
        self.producer = producer
    }

    package func append(_ id: String, _ records: [NewRecord]) async throws -> [RecordPlace] {
        let topic = try await topic(id)
        try EngineTopic.refuseRecords(topic.name)
        let now = Timestamp.nowMicroseconds() / 1000
        for (index, record) in records.enumerated() {
            if let partition = record.partition { try Self.check(partition, of: topic, record: index) }
        }
        // All in one: those that name a partition and those whose key gives the same one keep their order.
        let positions = try await producer.send(
            records.map { Self.record($0, now) },
            topic: topic.name,
            partitions: records.map(\.partition)
        )
        return positions.map { RecordPlace(partition: $0.partition, offset: $0.offset) }
    }

    package func start(_ id: String, partitions: [Int32]?, at start: RecordStart) async throws -> TopicPosition {
        let topic = try await topic(id)
        let numbers = partitions ?? Array(0..<topic.partitions)
        var offsets: [Int32: Int64] = [:]
        for number in numbers {
            try Self.check(number, of: topic, record: nil)
            let partition = TopicPartition(topic: topic.name, partition: number)
            let bounds = try log.bounds(partition)
            switch start {
            case .earliest: offsets[number] = bounds.start
            case .latest: offsets[number] = bounds.stable
            case .last(let count): offsets[number] = max(bounds.start, bounds.stable - min(count, bounds.stable))
            case .offset(let offset):
                try Self.check(offset, in: partition, bounds.end)
                offsets[number] = offset
            case .timestamp(let time):
                offsets[number] = try await log.offset(partition, atOrAfter: time)?.offset ?? bounds.stable
            }
        }
        return TopicPosition(offsets)
    }

    package func completed(_ cursor: TopicPosition, _ id: String) async throws -> TopicPosition {
        let topic = try await topic(id)
        for (number, offset) in cursor.offsets {
            try Self.check(number, of: topic, record: nil)
            let partition = TopicPartition(topic: topic.name, partition: number)
            try Self.check(offset, in: partition, log.bounds(partition).end)
        }
        var all = cursor
        for number in 0..<topic.partitions where all.offsets[number] == nil { all.offsets[number] = 0 }
        return all
    }

    package func read(
        _ id: String,
        from cursor: TopicPosition,
        limit: Int,
        bytesMax: Int
    ) async throws -> RecordPage {
        let topic = try await topic(id)
        var page = RecordPage(records: [], next: cursor, ends: [:])
        var bytesLeft = bytesMax
        // Whoever is further behind comes first, so that no partition keeps the others waiting for ever.
        var waiting: [(partition: Int32, offset: Int64, left: Int64)] = []
        for (number, offset) in cursor.offsets {
            try Self.check(number, of: topic, record: nil)
            let bounds = try log.bounds(TopicPartition(topic: topic.name, partition: number))
            try Self.check(offset, in: TopicPartition(topic: topic.name, partition: number), bounds.end)
            let from = max(offset, bounds.start)
            page.next.offsets[number] = from
            page.ends[number] = bounds.stable
            if from < bounds.stable { waiting.append((number, from, bounds.stable - from)) }
        }
        waiting.sort { ($1.left, $0.partition) < ($0.left, $1.partition) }
        for (number, offset, _) in waiting {
            guard page.records.count < limit, bytesLeft > 0 else { break }
            page.next.offsets[number] = try await read(
                TopicPartition(topic: topic.name, partition: number),
                from: offset,
                limit: limit,
                bytesLeft: &bytesLeft,
                into: &page.records
            )
        }
        return page
    }

    package func wait(_ id: String, behind cursor: TopicPosition, atMost duration: Duration) async throws -> Bool {
        let name = try await topic(id).name
        let ends = cursor.offsets.map { (TopicPartition(topic: name, partition: $0.key), $0.value) }
        return try await log.waitForRecords(behind: ends, atMost: duration, isolation: .committed)
    }

    // MARK: Pieces

    private func topic(_ id: String) async throws -> TopicDescription {
        // The engine's own topics are in the log alone.
        if let found = log.topic(id) { return found }
        let name = try await topics.get(id).name
        guard let found = log.topic(name) else { throw ServiceError.notFound(.topics, name) }
        return found
    }

    private static func check(_ partition: Int32, of topic: TopicDescription, record: Int?) throws(ServiceError) {
        guard partition < 0 || partition >= topic.partitions else { return }
        throw .invalid(
            field: record.map { "records[\($0)].partition" } ?? "partition",
            "\(partition) is no partition of topic '\(topic.name)'",
            fix: topic.partitions == 1 ? "it has one, 0" : "it has 0 to \(topic.partitions - 1)"
        )
    }

    private static func check(_ offset: Int64, in partition: TopicPartition, _ end: Int64) throws(ServiceError) {
        guard offset > end else { return }
        throw .invalid(
            field: "offset",
            "\(offset) is beyond the end of partition \(partition.partition) of topic '\(partition.topic)', which is \(end)",
            fix: "use an offset up to \(end), earliest or latest, or name the partition that has this one"
        )
    }

    /// Reads one partition and returns where to go on.
    private func read(
        _ id: TopicPartition,
        from offset: Int64,
        limit: Int,
        bytesLeft: inout Int,
        into records: inout [TopicRecord]
    ) async throws -> Int64 {
        let found = try await log.read(id, from: offset, bytesMax: min(max(bytesLeft, 1), 1 << 20))
        var walk = RecordBatches(
            found.bytes,
            verifiesChecksums: false,
            decompressedBytesMax: Self.decompressedBytesMax
        )
        let countBefore = records.count
        do throws(RecordBatchError) {
            while let record = try walk.nextRecord() {
                if record.offset < offset { continue }
                guard records.count < limit, bytesLeft > 0 else { return record.offset }
                let copied = Self.record(record, in: id.partition)
                bytesLeft -= copied.byteCount
                records.append(copied)
            }
        } catch {
            // What was read in front of it is given first.
            if records.count > countBefore { return (records.last?.offset ?? offset) + 1 }
            let next = error.nextOffset ?? found.nextOffset
            throw ServiceError(
                .failedPrecondition,
                "the batch at offset \(error.baseOffset ?? offset) of partition \(id.partition) of topic '\(id.topic)' "
                    + "cannot be read: \(error.message)",
                fix: "go on at offset \(next)"
            )
        }
        return walk.pausedAt ?? found.nextOffset
    }

    private static func record(_ record: RecordView, in partition: Int32) -> TopicRecord {
        TopicRecord(
            partition: partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map { Array($0) },
            value: record.value.map { Array($0) },
            headers: record.headers.map { header in
                .init(name: String(decoding: header.name, as: UTF8.self), value: header.value.map { Array($0) })
            }
        )
    }

    private static func record(_ record: NewRecord, _ now: Int64) -> Record {
        Record(
            timestamp: record.timestamp ?? now,
            key: record.key,
            value: record.value,
            headers: record.headers.map { RecordHeader(key: $0.name, value: $0.value) }
        )
    }
}

extension TopicRecord {
    /// What it counts for in limits.
    fileprivate var byteCount: Int {
        headers.reduce(64 + (key?.count ?? 0) + (value?.count ?? 0)) { sum, header in
            sum + header.name.utf8.count + (header.value?.count ?? 0) + 16
        }
    }
}
