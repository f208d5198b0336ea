// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What a read found.
package struct ReadResult: Sendable {
    /// Whole batches as stored, back to back; empty when nothing came in time.
    ///
    /// The first batch is the one that holds the wanted offset, so it may begin with earlier records: skip those.
    package let bytes: [UInt8]
    /// The offset after the last record that may be read.
    package let highWatermark: Int64
    /// The first offset the partition still holds.
    package let logStartOffset: Int64
    /// The offset to read from next: after the last batch returned, or the wanted offset when there is none.
    package let nextOffset: Int64

    /// Describes the outcome of a read.
    package init(bytes: [UInt8], highWatermark: Int64, logStartOffset: Int64, nextOffset: Int64) {
        self.bytes = bytes
        self.highWatermark = highWatermark
        self.logStartOffset = logStartOffset
        self.nextOffset = nextOffset
    }
}
