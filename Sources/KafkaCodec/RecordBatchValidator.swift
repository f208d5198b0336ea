// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Checks what a producer sends before it reaches a log.
package enum RecordBatchValidator {
    /// The smallest record: length, attributes, two deltas, no key, no value, no headers, in a byte each.
    static let recordBytesMin = 7

    /// Checks that `bytes` are exactly one well-formed batch and returns its header.
    ///
    /// Length, magic, CRC-32C and count are checked, the checksum before anything it covers; the records of an uncompressed batch are
    /// also walked, so that no consumer meets one that cannot be read. The record count must be the last offset delta plus one, and of a
    /// compressed batch no more than may come out of it: what it says decides how many offsets it gets. A compressed batch whose format shows
    /// that too much would come out of it is refused, too.
    ///
    /// Who has read the header gives it as `parsed`.
    package static func validate(
        _ bytes: [UInt8],
        _ parsed: RecordBatchHeader? = nil
    ) throws(RecordBatchError) -> RecordBatchHeader {
        let header: RecordBatchHeader
        do throws(RecordBatchError) {
            if let parsed { header = parsed } else { header = try RecordBatchHeader(parsing: bytes) }
        } catch {
            // A count that makes no sense is the producer's fault only where its bytes arrived as they were sent.
            if error.code == .badCount, !RecordBatchHeader.isIntact(bytes) { throw damaged(bytes) }
            throw error
        }
        guard header.batchByteCount == bytes.count else {
            throw RecordBatchError(
                header.batchByteCount > bytes.count ? .truncated : .badLength,
                "the batch says it has \(header.batchByteCount) bytes, \(bytes.count) were given"
            )
        }
        guard header.hasValidChecksum(in: bytes) else { throw damaged(bytes) }
        guard header.recordCount > 0, Int64(header.recordCount) == Int64(header.lastOffsetDelta) + 1 else {
            throw RecordBatchError(
                .badCount,
                "\(header.recordCount) records with last offset delta \(header.lastOffsetDelta)"
            )
        }
        guard let codec = header.codec else {
            throw RecordBatchError(.unsupportedCompression, "codec \(header.attributes & 0x07) does not exist")
        }
        guard Int(header.recordCount) <= RecordBatch.decompressedBytesMax(of: bytes.count) / recordBytesMin else {
            throw RecordBatchError(
                .badCount,
                "\(header.recordCount) records do not fit what \(bytes.count) bytes may become"
            )
        }
        guard codec == .none else {
            try RecordBatch(header: header, range: 0..<bytes.count).checkSize(in: bytes)
            return header
        }
        var cursor = RecordCursor(bytes: bytes, position: RecordBatchHeader.byteCount, end: bytes.count)
        for index in 0..<Int64(header.recordCount) {
            do throws(RecordBatchError) {
                let record = try RecordView(reading: &cursor, of: header)
                guard record.offset == header.baseOffset + index else {
                    throw RecordBatchError(.malformedRecord, "record \(index) has the offset delta of another one")
                }
            } catch {
                var located = error
                located.recordIndex = Int32(index)
                throw located
            }
        }
        guard cursor.position == cursor.end else {
            throw RecordBatchError(.badCount, "bytes are left after the last of \(header.recordCount) records")
        }
        return header
    }

    private static func damaged(_ bytes: [UInt8]) -> RecordBatchError {
        RecordBatchError(.checksumMismatch, "the CRC-32C of \(bytes.count) bytes does not match")
    }
}
