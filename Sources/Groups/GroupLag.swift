// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import KafkaCodec
import MartletCore

/// How far behind committed offsets are, in records and in time.
struct GroupLag: Sendable {
    /// Reads that are tried until one has a record: what is in between are markers of transactions.
    private static let readsMax = 16

    let log: any EventLog

    /// Where a partition stands; nil when there is no such partition.
    func status(
        _ partition: TopicPartition,
        _ committed: CommittedOffset?,
        nowMilliseconds: Int64
    ) async -> GroupPartitionStatus? {
        guard let bounds = try? log.bounds(partition) else { return nil }
        var status = GroupPartitionStatus(
            topic: partition.topic,
            partition: partition.partition,
            startOffset: bounds.start,
            endOffset: bounds.end
        )
        let next = max(committed?.offset ?? bounds.start, bounds.start)
        status.lagRecords = max(0, bounds.end - next)
        if let committed {
            status.committedOffset = committed.offset
            status.metadata = committed.metadata
            status.committedAt = .init(timeIntervalSince1970: Double(committed.committedAt) / 1000)
        }
        if status.lagRecords > 0, let time = await time(of: partition, at: next) {
            status.lagSeconds = Timestamp.age(
                milliseconds: time,
                nowMicroseconds: Timestamp.microseconds(milliseconds: nowMilliseconds)
            )
        }
        return status
    }

    /// When the first record from an offset on was made, in milliseconds since 1970; of a compressed batch its first one.
    private func time(of partition: TopicPartition, at offset: Int64) async -> Int64? {
        var position = offset
        for _ in 0..<Self.readsMax {
            // What cannot be read has no age; whoever consumes it hears of the damage.
            guard let found = try? await log.read(partition, from: position, bytesMax: 1), !found.bytes.isEmpty else {
                return nil
            }
            if let time = Self.time(in: found.bytes, from: offset) { return time }
            guard found.nextOffset > position else { return nil }
            position = found.nextOffset
        }
        return nil
    }

    private static func time(in bytes: [UInt8], from offset: Int64) -> Int64? {
        var records = RecordBatches(bytes, verifiesChecksums: false)
        do {
            while let record = try records.nextRecord() {
                if record.offset >= offset { return record.timestamp }
            }
            return nil
        } catch {
            var batches = RecordBatches(bytes, verifiesChecksums: false)
            // The log checks what it hands out, so an error can only be of a batch it does not know how to read.
            while let batch = try? batches.nextBatch() {
                if !batch.header.isControl, batch.header.nextOffset > offset { return batch.header.baseTimestamp }
            }
            return nil
        }
    }
}
