// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import KafkaCodec

/// Whole batches of a partition, as bytes or as a place in a file.
package struct RecordRange: Sendable {
    /// Where the batches are.
    package enum Content: Sendable {
        /// Recently appended, still in memory; the array is shared, not copied, where it is one append's.
        case bytes([UInt8])
        /// In a file that can be sent without reading it.
        case file(FileRange)
    }

    /// Where the batches are; no bytes when there are none yet.
    package let content: Content
    /// The offset after the last record that may be read.
    package let highWatermark: Int64
    /// The offset of the first record of an open transaction, or the high watermark.
    package let lastStableOffset: Int64
    /// The first offset the partition still holds.
    package let logStartOffset: Int64
    /// The offset to read from next.
    package let nextOffset: Int64
    /// The aborted transactions with records in the batches; empty for readers of uncommitted records.
    package let abortedTransactions: [AbortedTransaction]

    /// The number of bytes, in memory or in the file.
    package var byteCount: Int {
        switch content {
        case .bytes(let bytes): bytes.count
        case .file(let range): range.byteCount
        }
    }

    init(_ result: ReadResult) {
        content = .bytes(result.bytes)
        highWatermark = result.highWatermark
        lastStableOffset = result.lastStableOffset
        logStartOffset = result.logStartOffset
        nextOffset = result.nextOffset
        abortedTransactions = result.abortedTransactions
    }

    init(_ range: FileRange, from offset: Int64, next: Int64, _ bounds: PartitionLog.ReadBounds) {
        content = .file(range)
        highWatermark = bounds.highWatermark
        lastStableOffset = bounds.lastStable
        logStartOffset = bounds.logStart
        nextOffset = next
        abortedTransactions = bounds.abortedTransactions(from: offset, to: next)
    }
}

/// A stretch of an open file; the file stays open, and its bytes as they are, for as long as this value lives.
///
/// Retention may take the file's name away meanwhile, not its content.
package struct FileRange: Sendable {
    private let file: DiskFile
    private let loan: FileLoan
    /// The first byte in the file.
    package let position: Int64
    /// The number of bytes.
    package let byteCount: Int

    /// The file's descriptor, open for reading; not to be closed, nor used after this value is gone.
    package var descriptor: Int32 { file.descriptor }

    init(file: DiskFile, position: Int64, byteCount: Int, loan: FileLoan) {
        self.file = file
        self.loan = loan
        self.position = position
        self.byteCount = byteCount
    }

    /// Reads the bytes; blocks.
    package func read() throws(EventLogError) -> [UInt8] {
        try file.read(at: position, count: byteCount)
    }
}
