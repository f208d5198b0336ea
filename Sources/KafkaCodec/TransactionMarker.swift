// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The end of a producer's transaction in one partition: the one record of a control batch.
///
/// Key: version (16 bits, 0), type (16 bits, 0 abort, 1 commit). Value: version (16 bits, 0), coordinator epoch (32 bits).
package struct TransactionMarker: Hashable, Sendable {
    /// Whether the transaction's records count.
    package let isCommit: Bool
    /// The epoch of the coordinator that ended the transaction.
    package let coordinatorEpoch: Int32

    /// Describes a marker.
    package init(isCommit: Bool, coordinatorEpoch: Int32) {
        self.isCommit = isCommit
        self.coordinatorEpoch = coordinatorEpoch
    }

    /// Reads the control batch at `position`; `nil` for any other batch and for control records of other kinds.
    package init?(reading bytes: [UInt8], at position: Int, header: RecordBatchHeader) {
        guard header.isControl, header.recordCount > 0, header.batchByteCount <= bytes.count - position else {
            return nil
        }
        var cursor = RecordCursor(
            bytes: bytes,
            position: position + RecordBatchHeader.byteCount,
            end: position + header.batchByteCount
        )
        // A control record that cannot be read is none that is known here.
        guard let record = try? RecordView(reading: &cursor, of: header), let key = record.key.map({ Array($0) }),
            key.count >= 4
        else { return nil }
        let type = BigEndian.load(Int16.self, from: key, at: 2)
        guard type == 0 || type == 1 else { return nil }
        isCommit = type == 1
        let value = record.value.map { Array($0) } ?? []
        coordinatorEpoch = value.count >= 6 ? BigEndian.load(Int32.self, from: value, at: 2) : 0
    }

    /// Returns the control batch, with base offset 0.
    package func batch(producerID: Int64, producerEpoch: Int16, timestamp: Int64) -> [UInt8] {
        var key: [UInt8] = []
        BigEndian.append(Int16(0), to: &key)
        BigEndian.append(Int16(isCommit ? 1 : 0), to: &key)
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
}

/// A transaction whose records, from an offset on, were aborted.
package struct AbortedTransaction: Hashable, Sendable {
    /// The producer's id.
    package let producerID: Int64
    /// The offset of the transaction's first record in the partition.
    package let firstOffset: Int64

    /// Describes an aborted transaction.
    package init(producerID: Int64, firstOffset: Int64) {
        self.producerID = producerID
        self.firstOffset = firstOffset
    }
}

extension RecordBatches {
    /// Returns the batches of `bytes` without those of aborted transactions; the very array when there are none.
    ///
    /// `aborted` are all aborted transactions with records in `bytes`, in any order. Markers stay.
    package static func removing(_ aborted: [AbortedTransaction], from bytes: [UInt8]) -> [UInt8] {
        if aborted.isEmpty { return bytes }
        var coming = aborted.sorted { $0.firstOffset > $1.firstOffset }
        var active: Set<Int64> = []
        var kept: [Range<Int>] = []
        var position = 0
        var hasRemoved = false
        // The log has checked what it returns; a last batch that is cut off is not there for readers anyway.
        while let header = try? RecordBatchHeader(parsing: bytes, at: position),
            header.batchByteCount <= bytes.count - position
        {
            let end = position + header.batchByteCount
            while let next = coming.last, next.firstOffset <= header.lastOffset {
                active.insert(next.producerID)
                coming.removeLast()
            }
            if header.isControl {
                let marker = TransactionMarker(reading: bytes, at: position, header: header)
                if marker?.isCommit == false { active.remove(header.producerID) }
            }
            if header.isTransactional, !header.isControl, active.contains(header.producerID) {
                hasRemoved = true
            } else if let last = kept.last, last.upperBound == position {
                kept[kept.count - 1] = last.lowerBound..<end
            } else {
                kept.append(position..<end)
            }
            position = end
        }
        return hasRemoved ? kept.reduce(into: []) { $0 += bytes[$1] } : bytes
    }
}
