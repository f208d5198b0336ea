// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Where an appended batch stands.
package struct AppendResult: Hashable, Sendable {
    /// The offset of the first record.
    package let baseOffset: Int64
    /// The offset of the last record.
    package let lastOffset: Int64
    /// The first offset the partition still holds.
    package let logStartOffset: Int64
    /// The time that the records got from the log; `nil` where they keep the producer's.
    package let appendTime: Int64?

    /// Describes an appended batch.
    package init(baseOffset: Int64, lastOffset: Int64, logStartOffset: Int64, appendTime: Int64? = nil) {
        self.baseOffset = baseOffset
        self.lastOffset = lastOffset
        self.logStartOffset = logStartOffset
        self.appendTime = appendTime
    }
}
