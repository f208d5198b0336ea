// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How a transaction ended in a partition: the one record of a control batch.
///
/// Key: version 0 and outcome, two bytes each. Value: version 0 in two bytes, coordinator epoch in four. It takes one offset.
package struct TransactionMarker: Hashable, Sendable {
    /// What became of the transaction.
    package enum Outcome: Int16, Sendable {
        case abort = 0
        case commit = 1
    }

    /// What became of the transaction.
    package var outcome: Outcome
    /// The epoch of the coordinator that ended it.
    package var coordinatorEpoch: Int32

    /// Creates a marker.
    package init(_ outcome: Outcome, coordinatorEpoch: Int32 = 0) {
        self.outcome = outcome
        self.coordinatorEpoch = coordinatorEpoch
    }

    /// Returns a control batch with the marker and base offset 0; `timestamp` is in milliseconds since 1970.
    package func batch(producerID: Int64, producerEpoch: Int16, timestamp: Int64) -> [UInt8] {
        var key: [UInt8] = []
        BigEndian.append(Int16(0), to: &key)
        BigEndian.append(outcome.rawValue, to: &key)
        var value: [UInt8] = []
        BigEndian.append(Int16(0), to: &value)
        BigEndian.append(coordinatorEpoch, to: &value)
        return RecordBatchEncoder.encode(
            [Record(timestamp: timestamp, key: key, value: value)],
            producerID: producerID,
            producerEpoch: producerEpoch,
            isTransactional: true,
            isControl: true
        )
    }

    /// Reads the marker of a batch that ``RecordBatches/nextBatch()`` returned for `bytes`.
    ///
    /// `nil` for a batch that is no control batch, and for control records of other kinds.
    /// - Throws: `.malformedRecord`, `.badCount`, `.unsupportedCompression`.
    package static func read(_ batch: RecordBatch, in bytes: [UInt8]) throws(RecordBatchError) -> TransactionMarker? {
        guard batch.header.isControl else { return nil }
        guard batch.header.codec == CompressionCodec.none else {
            throw RecordBatchError(.unsupportedCompression, "a control batch is compressed")
        }
        guard batch.header.recordCount == 1 else {
            throw RecordBatchError(.badCount, "a control batch has \(batch.header.recordCount) records instead of one")
        }
        var cursor = RecordCursor(
            bytes: bytes,
            position: batch.range.lowerBound + RecordBatchHeader.byteCount,
            end: batch.range.upperBound
        )
        let record = try RecordView(reading: &cursor, of: batch.header)
        guard let key = record.key.map({ Array($0) }), key.count >= 4, BigEndian.load(Int16.self, from: key, at: 0) >= 0
        else { throw RecordBatchError(.malformedRecord, "a control record has no key with version and type") }
        guard let outcome = Outcome(rawValue: BigEndian.load(Int16.self, from: key, at: 2)) else { return nil }
        guard let value = record.value.map({ Array($0) }), value.count >= 6 else {
            throw RecordBatchError(.malformedRecord, "a transaction marker has no value with version and epoch")
        }
        return TransactionMarker(outcome, coordinatorEpoch: BigEndian.load(Int32.self, from: value, at: 2))
    }
}
