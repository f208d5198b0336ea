// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
package import EventLog

/// What the coordinator reads of the consumers' own protocol: subscriptions, and who owns which partition.
package enum ConsumerProtocol {
    /// The protocol type of consumers.
    package static let type = "consumer"

    /// The topics a subscription names, sorted; nil where the bytes are none.
    package static func subscribedTopics(_ metadata: [UInt8]) -> [String]? {
        guard let subscription = try? ConsumerProtocolSubscription(bytes: metadata) else { return nil }
        return Set(subscription.topics).sorted()
    }

    /// The partitions an assignment names; nil where the bytes are none.
    package static func assignedPartitions(_ assignment: [UInt8]) -> [TopicPartition]? {
        if assignment.isEmpty { return [] }
        guard let assigned = try? ConsumerProtocolAssignment(bytes: assignment) else { return nil }
        return assigned.assignedPartitions.flatMap { topic in
            topic.partitions.map { TopicPartition(topic: topic.topic, partition: $0) }
        }
    }

    /// An assignment (version 0) of these partitions; no bytes where they do not fit one.
    package static func assignment(of partitions: [TopicPartition]) -> [UInt8] {
        let topics = Dictionary(grouping: partitions, by: \.topic).sorted { $0.key < $1.key }
        let assignment = ConsumerProtocolAssignment(
            assignedPartitions: topics.map { topic, partitions in
                ConsumerProtocolAssignment.TopicPartition(
                    topic: topic,
                    partitions: partitions.map(\.partition).sorted()
                )
            }
        )
        return (try? assignment.bytes(version: 0)) ?? []
    }

    /// A subscription (version 0) to these topics; no bytes where they do not fit one.
    package static func subscription(to topics: [String]) -> [UInt8] {
        (try? ConsumerProtocolSubscription(topics: topics).bytes(version: 0)) ?? []
    }
}
