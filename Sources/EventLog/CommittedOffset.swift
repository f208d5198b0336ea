// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How far a consumer group has come in one partition.
package struct CommittedOffset: Hashable, Sendable {
    /// The most bytes of metadata kept with an offset.
    package static let metadataBytesMax = 256 << 10

    /// The offset of the next record to consume.
    package var offset: Int64
    /// Anything the consumer wants back with the offset, at most 256 KiB of UTF-8.
    package var metadata: String
    /// When it was committed, in milliseconds since 1970.
    package var committedAt: Int64
    /// The leader epoch of the record consumed last, as the consumer said; -1 for none.
    package var leaderEpoch: Int32

    /// Describes a committed offset.
    package init(offset: Int64, metadata: String = "", committedAt: Int64, leaderEpoch: Int32 = -1) {
        self.offset = offset
        self.metadata = metadata
        self.committedAt = committedAt
        self.leaderEpoch = leaderEpoch
    }

    /// About what it takes in memory where it is kept for a partition.
    package func byteCount(of partition: TopicPartition) -> Int {
        128 + partition.topic.utf8.count + metadata.utf8.count
    }
}
