// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One whole batch inside fetched bytes.
package struct RecordBatch: Sendable {
    /// The batch's header.
    package let header: RecordBatchHeader
    /// Where the batch stands in the fetched bytes.
    package let range: Range<Int>
}

/// Walks the batches and records of bytes fetched from a log, compressed ones too.
///
/// Records of a compressed batch are slices of one array, which lives as long as one of them.
/// A last batch that is cut off ends the walk without an error, as Kafka's fetch allows. After an error the walk stands
/// behind the offending batch, or at the end where its size cannot be trusted.
package struct RecordBatches: Sendable {
    private let bytes: [UInt8]
    private let verifiesChecksums: Bool
    private var position = 0
    private var current: RecordBatchHeader?
    private var cursor: RecordCursor
    private var recordsLeft: Int32 = 0
    private var previousOffset: Int64 = -1
    private let decompressedBytesMax: Int
    private var decompressedBytes = 0
    private var decompressedBytesHeld = 0
    /// The offset of the batch that the records ended in front of, because more had been decompressed than was wanted.
    package private(set) var pausedAt: Int64?

    /// The bytes in memory for the walk: those walked over, and those of the batch decompressed last.
    package var byteCountHeld: Int { bytes.count + decompressedBytesHeld }

    /// Creates a walk over `bytes`, which begin with a batch.
    ///
    /// Who keeps the records gives `decompressedBytesMax`: the records end in front of a compressed batch once so many bytes have been
    /// decompressed, and ``pausedAt`` says where. At least one batch is read.
    package init(_ bytes: [UInt8], verifiesChecksums: Bool = true, decompressedBytesMax: Int = .max) {
        self.bytes = bytes
        self.verifiesChecksums = verifiesChecksums
        self.decompressedBytesMax = decompressedBytesMax
        cursor = RecordCursor(bytes: bytes, position: 0, end: 0)
    }

    /// Returns the next whole batch, control and compressed ones included, or `nil` at the end.
    package mutating func nextBatch() throws(RecordBatchError) -> RecordBatch? {
        current = nil
        recordsLeft = 0
        let left = bytes.count - position
        guard left >= RecordBatchHeader.lengthPrefixByteCount else { return nil }
        let length = BigEndian.load(Int32.self, from: bytes, at: position + 8)
        guard length >= RecordBatchHeader.lengthMin else {
            position = bytes.count
            throw RecordBatchError(.badLength, "length field is \(length)")
        }
        guard Int(length) <= left - RecordBatchHeader.lengthPrefixByteCount else {
            position = bytes.count
            return nil
        }
        let start = position
        position = start + RecordBatchHeader.lengthPrefixByteCount + Int(length)
        let header = try RecordBatchHeader(parsing: bytes, at: start)
        if verifiesChecksums, !header.hasValidChecksum(in: bytes, at: start) {
            throw RecordBatchError(
                .checksumMismatch,
                "the checksum does not match",
                baseOffset: header.baseOffset,
                nextOffset: header.nextOffset
            )
        }
        return RecordBatch(header: header, range: start..<position)
    }

    /// Returns the next record, stepping over control batches, or `nil` at the end.
    ///
    /// - Throws: what ``RecordBatch/plain(in:bytesMax:)`` does, and for records that cannot be read; the walk goes on behind the
    ///   batch, at ``RecordBatchError/nextOffset``.
    package mutating func nextRecord() throws(RecordBatchError) -> RecordView? {
        while recordsLeft == 0 {
            if let finished = current, cursor.position != cursor.end {
                current = nil
                throw located(finished, .badCount, "bytes are left after the last of \(finished.recordCount) records")
            }
            guard let batch = try nextBatch() else { return nil }
            if batch.header.isControl { continue }
            guard try begin(batch) else { return nil }
        }
        guard let header = current else { return nil }
        recordsLeft -= 1
        do throws(RecordBatchError) {
            let record = try RecordView(reading: &cursor, of: header)
            // Nobody has looked into a compressed batch before.
            guard record.offset > previousOffset else {
                throw RecordBatchError(.malformedRecord, "offset \(record.offset) follows on \(previousOffset)")
            }
            previousOffset = record.offset
            return record
        } catch {
            recordsLeft = 0
            current = nil
            throw located(header, error.code, error.message)
        }
    }

    /// Whether the records of the batch come next; not where enough has been decompressed.
    private mutating func begin(_ batch: RecordBatch) throws(RecordBatchError) -> Bool {
        if batch.header.codec == CompressionCodec.none {
            let start = batch.range.lowerBound + RecordBatchHeader.byteCount
            cursor = RecordCursor(bytes: bytes, position: start, end: batch.range.upperBound)
            decompressedBytesHeld = 0
        } else {
            guard decompressedBytes < decompressedBytesMax else {
                pausedAt = batch.header.baseOffset
                position = bytes.count
                return false
            }
            let records = try batch.decompressed(in: bytes)
            decompressedBytes += records.count
            decompressedBytesHeld = records.count
            cursor = RecordCursor(bytes: records, position: 0, end: records.count)
        }
        current = batch.header
        recordsLeft = batch.header.recordCount
        previousOffset = batch.header.baseOffset - 1
        return true
    }

    /// Returns every record at or after `offset`.
    package static func records(in bytes: [UInt8], from offset: Int64 = 0) throws(RecordBatchError) -> [RecordView] {
        var walk = RecordBatches(bytes)
        var records: [RecordView] = []
        while let record = try walk.nextRecord() {
            if record.offset >= offset { records.append(record) }
        }
        return records
    }

    private func located(
        _ header: RecordBatchHeader,
        _ code: RecordBatchError.Code,
        _ message: String
    ) -> RecordBatchError {
        RecordBatchError(code, message, baseOffset: header.baseOffset, nextOffset: header.nextOffset)
    }
}
