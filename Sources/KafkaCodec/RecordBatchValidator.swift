// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Checks what a producer sends before it reaches a log.
package enum RecordBatchValidator {
    /// Checks that `bytes` are exactly one well-formed batch and returns its header.
    ///
    /// Length, magic, CRC-32C and count are checked; the records of an uncompressed batch are also walked, so that no
    /// consumer meets one that cannot be read. The record count must be the last offset delta plus one.
    package static func validate(_ bytes: [UInt8]) throws(RecordBatchError) -> RecordBatchHeader {
        let header = try RecordBatchHeader(parsing: bytes)
        guard header.batchByteCount == bytes.count else {
            throw RecordBatchError(
                header.batchByteCount > bytes.count ? .truncated : .badLength,
                "the batch says it has \(header.batchByteCount) bytes, \(bytes.count) were given"
            )
        }
        guard header.recordCount > 0, Int64(header.recordCount) == Int64(header.lastOffsetDelta) + 1 else {
            throw RecordBatchError(
                .badCount,
                "\(header.recordCount) records with last offset delta \(header.lastOffsetDelta)"
            )
        }
        guard let codec = header.codec else {
            throw RecordBatchError(.unsupportedCompression, "codec \(header.attributes & 0x07) does not exist")
        }
        guard header.hasValidChecksum(in: bytes) else {
            throw RecordBatchError(.checksumMismatch, "the CRC-32C of \(bytes.count) bytes does not match")
        }
        guard codec == .none else { return header }
        var cursor = RecordCursor(bytes: bytes, position: RecordBatchHeader.byteCount, end: bytes.count)
        for index in 0..<Int64(header.recordCount) {
            let record = try RecordView(reading: &cursor, of: header)
            guard record.offset == header.baseOffset + index else {
                throw RecordBatchError(.malformedRecord, "record \(index) has the offset delta of another one")
            }
        }
        guard cursor.position == cursor.end else {
            throw RecordBatchError(.badCount, "bytes are left after the last of \(header.recordCount) records")
        }
        return header
    }
}
