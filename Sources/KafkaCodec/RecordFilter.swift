// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Makes batches with fewer records out of stored ones; offsets stay what they are.
package enum RecordFilter {
    private static let lengthAt = 8
    private static let checksumAt = 17
    private static let attributesAt = 21
    private static let lastOffsetDeltaAt = 23
    private static let baseTimestampAt = 27
    private static let maxTimestampAt = 35
    private static let recordCountAt = 57
    private static let codecBits: Int16 = 0x07

    /// Returns one whole batch with only the records that `keep` wants, under the same base and last offset, producer, sequence numbers
    /// and codec; `nil` where all are wanted, so that the batch can stay as it is.
    ///
    /// A batch of which nothing is left has a record count of 0 and no timestamp.
    /// - Throws: for records that cannot be read or compressed again; such a batch should be left alone.
    package static func filter(
        _ batch: [UInt8],
        keeping keep: (RecordView) -> Bool
    ) throws(RecordBatchError) -> [UInt8]? {
        let header = try RecordBatchHeader(parsing: batch)
        guard header.batchByteCount == batch.count else {
            throw RecordBatchError(.truncated, "\(batch.count) bytes where the batch has \(header.batchByteCount)")
        }
        guard let codec = header.codec else {
            throw RecordBatchError(.unsupportedCompression, "codec \(header.attributes & codecBits) does not exist")
        }
        var cursor: RecordCursor
        if codec == .none {
            cursor = RecordCursor(bytes: batch, position: RecordBatchHeader.byteCount, end: batch.count)
        } else {
            let records = try RecordBatch(header: header, range: 0..<batch.count).decompressed(in: batch)
            cursor = RecordCursor(bytes: records, position: 0, end: records.count)
        }
        var kept: [UInt8] = []
        var count: Int32 = 0
        var maxTimestamp = Int64.min
        for _ in 0..<header.recordCount {
            let start = cursor.position
            let record = try RecordView(reading: &cursor, of: header)
            guard keep(record) else { continue }
            kept += cursor.bytes[start..<cursor.position]
            count += 1
            maxTimestamp = max(maxTimestamp, record.timestamp)
        }
        guard cursor.position == cursor.end else {
            throw RecordBatchError(.badCount, "bytes are left after the last of \(header.recordCount) records")
        }
        if count == header.recordCount { return nil }
        if count == 0 { return emptied(batch) }
        guard let records = Compressor.compress(kept, codec) else {
            throw RecordBatchError(.decompressedTooLarge, "\(kept.count) bytes cannot be compressed with \(codec)")
        }
        var made = Array(batch[..<RecordBatchHeader.byteCount])
        made += records
        BigEndian.store(maxTimestamp, to: &made, at: maxTimestampAt)
        BigEndian.store(count, to: &made, at: recordCountAt)
        seal(&made)
        return made
    }

    /// Returns the batch without any record, which still tells of its producer and its offsets.
    package static func emptied(_ batch: [UInt8]) -> [UInt8] {
        var made = Array(batch[..<RecordBatchHeader.byteCount])
        let attributes = BigEndian.load(Int16.self, from: made, at: attributesAt)
        BigEndian.store(attributes & ~codecBits, to: &made, at: attributesAt)
        BigEndian.store(Int64(-1), to: &made, at: baseTimestampAt)
        BigEndian.store(Int64(-1), to: &made, at: maxTimestampAt)
        BigEndian.store(Int32(0), to: &made, at: recordCountAt)
        seal(&made)
        return made
    }

    /// Returns a batch without records and without a producer that takes up these offsets.
    ///
    /// `offsets` are not empty and at most 2^31.
    package static func placeholder(for offsets: Range<Int64>, leaderEpoch: Int32) -> [UInt8] {
        var made = [UInt8](repeating: 0, count: RecordBatchHeader.byteCount)
        made[16] = 2
        BigEndian.store(Int32(offsets.count - 1), to: &made, at: lastOffsetDeltaAt)
        BigEndian.store(Int64(-1), to: &made, at: baseTimestampAt)
        BigEndian.store(Int64(-1), to: &made, at: maxTimestampAt)
        BigEndian.store(Int64(-1), to: &made, at: 43)
        BigEndian.store(Int16(-1), to: &made, at: 51)
        BigEndian.store(Int32(-1), to: &made, at: 53)
        RecordBatchHeader.assign(baseOffset: offsets.lowerBound, leaderEpoch: leaderEpoch, in: &made)
        seal(&made)
        return made
    }

    /// Has the batch take up the offsets in front of `nextOffset` too; its records stay what they are.
    ///
    /// Only for batches without a producer, because its sequence numbers follow from the last offset.
    package static func extend(_ batch: inout [UInt8], to nextOffset: Int64) {
        let base = BigEndian.load(Int64.self, from: batch, at: 0)
        precondition(nextOffset > base && nextOffset - base <= Int64(Int32.max), "a segment spans at most 2^31 offsets")
        BigEndian.store(Int32(nextOffset - base - 1), to: &batch, at: lastOffsetDeltaAt)
        seal(&batch)
    }

    /// Makes `timestamp` the time of every record, as the log's own (`LogAppendTime`), in the batch that begins at `start`.
    package static func stamp(_ timestamp: Int64, in bytes: inout [UInt8], at start: Int, byteCount: Int) {
        let attributes = BigEndian.load(Int16.self, from: bytes, at: start + attributesAt)
        BigEndian.store(attributes | 0x08, to: &bytes, at: start + attributesAt)
        BigEndian.store(timestamp, to: &bytes, at: start + maxTimestampAt)
        let covered = start + RecordBatchHeader.checksummedFrom..<start + byteCount
        BigEndian.store(CRC32C.checksum(bytes, in: covered), to: &bytes, at: start + checksumAt)
    }

    /// Sets length and checksum to what the bytes are.
    private static func seal(_ batch: inout [UInt8]) {
        BigEndian.store(Int32(batch.count - RecordBatchHeader.lengthPrefixByteCount), to: &batch, at: lengthAt)
        let covered = RecordBatchHeader.checksummedFrom..<batch.count
        BigEndian.store(CRC32C.checksum(batch, in: covered), to: &batch, at: checksumAt)
    }
}
