// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec

/// An offset to commit, as OffsetCommit and TxnOffsetCommit both have it.
protocol CommitPartition {
    var partitionIndex: Int32 { get }
    var committedOffset: Int64 { get }
    var committedLeaderEpoch: Int32 { get }
    var committedMetadata: String? { get }
}

/// The offsets to commit of one topic.
protocol CommitTopic {
    associatedtype Partition: CommitPartition
    var name: String { get }
    var partitions: [Partition] { get }
}

extension OffsetCommitRequest.OffsetCommitRequestPartition: CommitPartition {}
extension OffsetCommitRequest.OffsetCommitRequestTopic: CommitTopic {}
extension TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition: CommitPartition {}
extension TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic: CommitTopic {}

extension Sequence where Element: CommitTopic {
    /// The offsets in the groups' words.
    var positions: [TopicPartition: GroupOffsets.Position] {
        var positions: [TopicPartition: GroupOffsets.Position] = [:]
        for topic in self {
            for partition in topic.partitions {
                let id = TopicPartition(topic: topic.name, partition: partition.partitionIndex)
                positions[id] = GroupOffsets.Position(
                    partition.committedOffset,
                    metadata: partition.committedMetadata ?? "",
                    leaderEpoch: partition.committedLeaderEpoch
                )
            }
        }
        return positions
    }

    /// An answer for each offset, in the order of the request.
    func outcomes<Topic, Partition>(
        _ code: (TopicPartition) -> KafkaErrorCode,
        partition: (Int32, KafkaErrorCode) -> Partition,
        topic: (String, [Partition]) -> Topic
    ) -> [Topic] {
        map { asked in
            topic(
                asked.name,
                asked.partitions.map { one in
                    partition(
                        one.partitionIndex,
                        code(TopicPartition(topic: asked.name, partition: one.partitionIndex))
                    )
                }
            )
        }
    }
}
