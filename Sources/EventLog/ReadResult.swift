// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import KafkaCodec

/// What a read found.
package struct ReadResult: Sendable {
    /// Whole batches as stored, back to back; empty when nothing came in time.
    ///
    /// The first batch is the one that holds the wanted offset, so it may begin with earlier records: skip those. Where compaction has
    /// removed that record it may be a later one.
    package let bytes: [UInt8]
    /// The offset after the last record that may be read.
    package let highWatermark: Int64
    /// The first offset the partition still holds.
    package let logStartOffset: Int64
    /// The offset to read from next: after the last batch returned, or the wanted offset when there is none.
    package let nextOffset: Int64

    /// The offset of the first record of an open transaction, or the high watermark.
    package let lastStableOffset: Int64
    /// The aborted transactions with records in ``bytes``, in the order of their first offsets; empty for readers of
    /// uncommitted records.
    package let abortedTransactions: [AbortedTransaction]

    /// Describes the outcome of a read.
    package init(
        bytes: [UInt8],
        highWatermark: Int64,
        lastStableOffset: Int64? = nil,
        logStartOffset: Int64,
        nextOffset: Int64,
        abortedTransactions: [AbortedTransaction] = []
    ) {
        self.bytes = bytes
        self.highWatermark = highWatermark
        self.lastStableOffset = lastStableOffset ?? highWatermark
        self.abortedTransactions = abortedTransactions
        self.logStartOffset = logStartOffset
        self.nextOffset = nextOffset
    }

    /// The same without the records of aborted transactions.
    package func removingAborted() -> ReadResult {
        if abortedTransactions.isEmpty { return self }
        return ReadResult(
            bytes: RecordBatches.removing(abortedTransactions, from: bytes),
            highWatermark: highWatermark,
            lastStableOffset: lastStableOffset,
            logStartOffset: logStartOffset,
            nextOffset: nextOffset
        )
    }
}
