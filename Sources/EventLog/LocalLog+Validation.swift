// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// A record for which a batch was refused.
package struct RecordRefusal: Hashable, Sendable {
    /// The record's place in the batch, from 0 on.
    package let index: Int32
    /// What is wrong with it.
    package let message: String
}

// What producers send is checked on their threads, before it waits for a writer.
extension LocalLog {
    /// The most records that a refusal names; it tells how many there are.
    private static let recordRefusalsMax = 100

    /// Checks a batch against the rules for all topics and those of its own; returns its header.
    static func validated(
        _ batch: [UInt8],
        _ parsed: RecordBatchHeader?,
        for id: TopicPartition,
        _ settings: TopicSettings,
        at now: () -> Int64
    ) throws(EventLogError) -> RecordBatchHeader {
        guard batch.count <= Int(settings.messageBytesMax) else {
            throw EventLogError(
                .messageTooLarge,
                "a batch of \(batch.count) bytes is larger than the topic's limit of \(settings.messageBytesMax); "
                    + "send less at once"
            ).at(id)
        }
        let header: RecordBatchHeader
        do throws(RecordBatchError) {
            header = try RecordBatchValidator.validate(batch, parsed)
        } catch {
            // Only what was damaged on its way can succeed when it is sent again.
            let code: EventLogError.Code =
                switch error.code {
                case .checksumMismatch: .corruptBatch
                // Clients of Kafka's own make smaller batches then.
                case .decompressedTooLarge: .messageTooLarge
                default: .invalidRecord
                }
            var refusal = EventLogError(code, error.description).at(id)
            if let index = error.recordIndex { refusal.records = [RecordRefusal(index: index, message: error.message)] }
            throw refusal
        }
        if settings.compaction != nil || settings.limitsTimestamps {
            try checkRecords(batch, id, settings, settings.limitsTimestamps ? now() : 0)
        }
        if header.producerID < 0 && !header.isTransactional && !header.isControl { return header }
        guard !header.isControl else {
            throw EventLogError(.invalidRecord, "a producer sent a control batch, which only the log makes").at(id)
        }
        guard header.producerID >= 0, header.producerEpoch >= 0, header.baseSequence >= 0 else {
            throw EventLogError(
                .invalidRecord,
                "producer id \(header.producerID), epoch \(header.producerEpoch) and sequence number "
                    + "\(header.baseSequence) do not go together"
            ).at(id)
        }
        return header
    }

    /// Refuses a batch with records that break a rule of the topic: in a compacted one, those without a key, of which nobody could say
    /// which is the last; those whose time is too far from now.
    private static func checkRecords(
        _ batch: [UInt8],
        _ id: TopicPartition,
        _ settings: TopicSettings,
        _ now: Int64
    ) throws(EventLogError) {
        let times = settings.limitsTimestamps ? settings.timestamps(at: now) : Int64.min...Int64.max
        var walk = RecordBatches(batch, verifiesChecksums: false)
        var index: Int32 = 0
        var refused: [RecordRefusal] = []
        var keyless = 0
        var untimely = 0
        func refuse(_ message: String) {
            if refused.count < recordRefusalsMax { refused.append(RecordRefusal(index: index, message: message)) }
        }
        do throws(RecordBatchError) {
            while let record = try walk.nextRecord() {
                if settings.compaction != nil, record.key == nil {
                    keyless += 1
                    refuse("it has no key, and topic \(id.topic) is compacted")
                } else if !times.contains(record.timestamp), record.timestamp != Self.noTimestamp {
                    untimely += 1
                    refuse(
                        "its timestamp \(record.timestamp) is outside \(times.lowerBound) to \(times.upperBound), "
                            + "which topic \(id.topic) takes now"
                    )
                }
                index += 1
            }
        } catch {
            throw EventLogError(
                .invalidRecord,
                "record \(index) cannot be read: \(error.message)",
                records: [RecordRefusal(index: index, message: error.message)]
            ).at(id)
        }
        guard let first = refused.first else { return }
        let others = keyless + untimely - 1
        let advice =
            untimely > 0
            ? "see message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic"
            : "it keeps the last record of each key: send every record with a key, or set cleanup.policy to delete"
        throw EventLogError(
            untimely > 0 ? .invalidTimestamp : .invalidRecord,
            "record \(first.index) was refused\(others > 0 ? ", and \(others) more" : ""): \(first.message); \(advice)",
            records: refused
        ).at(id)
    }

    /// Kafka's sign for a record without a time.
    private static let noTimestamp: Int64 = -1
}
