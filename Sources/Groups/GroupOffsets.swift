// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog

/// OffsetCommit, OffsetFetch and OffsetDelete.
package enum GroupOffsets {
    /// An offset to commit.
    package struct Position: Sendable, Equatable {
        /// The offset of the next record to consume.
        package var offset: Int64
        /// Anything the consumer wants back with it.
        package var metadata: String
        /// The leader epoch of the record consumed last; -1 for none.
        package var leaderEpoch: Int32

        /// Describes an offset.
        package init(_ offset: Int64, metadata: String = "", leaderEpoch: Int32 = -1) {
            self.offset = offset
            self.metadata = metadata
            self.leaderEpoch = leaderEpoch
        }
    }

    /// What a commit or a deletion came to; a partition without an error is done and on disk.
    package struct Outcome: Sendable, Equatable {
        /// Why all of it was refused.
        package var error: GroupError?
        /// Why single partitions were refused.
        package var refused: [TopicPartition: GroupError] = [:]

        /// Describes an outcome.
        package init(error: GroupError? = nil, refused: [TopicPartition: GroupError] = [:]) {
            self.error = error
            self.refused = refused
        }

        /// Why this partition was refused; nil for success.
        package func error(for partition: TopicPartition) -> GroupError? { error ?? refused[partition] }
    }

    /// What a group has committed.
    package struct Committed: Sendable, Equatable {
        /// Why nothing can be told.
        package var error: GroupError?
        /// The offsets; a partition that is absent has none, which Kafka writes as -1 without an error.
        package var offsets: [TopicPartition: CommittedOffset] = [:]
        /// Partitions asked for that a transaction has yet to decide on, where stable ones were wanted.
        package var unstable: Set<TopicPartition> = []

        /// Describes what is committed.
        package init(
            error: GroupError? = nil,
            offsets: [TopicPartition: CommittedOffset] = [:],
            unstable: Set<TopicPartition> = []
        ) {
            self.error = error
            self.offsets = offsets
            self.unstable = unstable
        }
    }
}
