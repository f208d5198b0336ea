// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore

/// Reads what a trigger wrote to its topic after a checkpoint.
struct TopicTail {
    let log: any EventLog

    /// The offsets the next records of a topic's partitions will get.
    func ends(_ topic: String) async throws -> [Int32: Int64] {
        guard let description = try await log.topic(topic) else {
            throw EventLogError(.unknownTopic, "there is no topic \(topic)", topic: topic)
        }
        var ends: [Int32: Int64] = [:]
        for partition in 0..<description.partitions {
            ends[partition] = try log.bounds(TopicPartition(topic: topic, partition: partition)).end
        }
        return ends
    }

    /// Calls `body` with every event of a trigger from the checkpoints to the end, partition by partition, and returns the ends.
    ///
    /// A partition without a checkpoint is read from its start; damaged stretches are stepped over.
    func forEach(
        _ topic: String,
        trigger guid: String,
        from checkpoints: [Int32: Int64],
        _ body: (CloudEvent) throws -> Void
    ) async throws -> [Int32: Int64] {
        let ends = try await ends(topic)
        let suffix = ".\(guid)"
        for (partition, end) in ends.sorted(by: { $0.key < $1.key }) {
            let id = TopicPartition(topic: topic, partition: partition)
            let start = try log.bounds(id).start
            var offset = checkpoints[partition] ?? start
            if offset < start || offset > end { offset = start }
            while offset < end {
                guard let result = try await read(id, from: &offset) else { continue }
                guard result.nextOffset > offset else { break }
                try Self.read(result.bytes, from: offset, suffix: suffix, body)
                offset = result.nextOffset
            }
        }
        return ends
    }

    private static func read(
        _ bytes: [UInt8],
        from offset: Int64,
        suffix: String,
        _ body: (CloudEvent) throws -> Void
    ) throws {
        var walk = RecordBatches(bytes)
        while let step = try next(&walk) {
            guard case .record(let record) = step, record.offset >= offset, let source = record.header("ce_source"),
                source.reversed().starts(with: suffix.utf8.reversed()),
                // What is no event is not ours.
                let event = try? CloudEvent(record: record)
            else { continue }
            try body(event)
        }
    }

    private enum Step {
        case record(RecordView)
        /// A batch that cannot be read: a trigger's own can, so it is somebody else's.
        case skipped
    }

    private static func next(_ walk: inout RecordBatches) throws -> Step? {
        do {
            return try walk.nextRecord().map { .record($0) }
        } catch {
            guard error.nextOffset != nil else { throw error }
            return .skipped
        }
    }

    /// One read from `offset` on; nil where it is damaged, with `offset` moved behind the damage.
    private func read(_ id: TopicPartition, from offset: inout Int64) async throws -> ReadResult? {
        do {
            // The trigger's own events are in no transaction, and must not wait for those of others.
            return try await log.read(id, from: offset, bytesMax: 1 << 20, wait: .zero, isolation: .uncommitted)
        } catch let error as EventLogError {
            guard error.code == .damaged, let next = error.nextReadableOffset, next > offset else { throw error }
            offset = next
            return nil
        }
    }
}
