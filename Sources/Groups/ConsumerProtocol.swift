// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
package import EventLog

/// What the coordinator reads of the consumers' own protocol: subscriptions, and who owns which partition.
///
/// Source: Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, whose first fields are the same in
/// every version.
package enum ConsumerProtocol {
    /// The protocol type of consumers.
    package static let type = "consumer"

    /// The topics a subscription names, sorted; nil where the bytes are none.
    package static func subscribedTopics(_ metadata: [UInt8]) -> [String]? {
        var reader = Reader(bytes: metadata)
        guard let version = reader.integer(Int16.self), version >= 0, let count = reader.integer(Int32.self), count >= 0
        else { return nil }
        var topics: Set<String> = []
        for _ in 0..<count {
            guard let topic = reader.text() else { return nil }
            topics.insert(topic)
        }
        return topics.sorted()
    }

    /// The partitions an assignment names; nil where the bytes are none.
    package static func assignedPartitions(_ assignment: [UInt8]) -> [TopicPartition]? {
        if assignment.isEmpty { return [] }
        var reader = Reader(bytes: assignment)
        guard let version = reader.integer(Int16.self), version >= 0, let count = reader.integer(Int32.self), count >= 0
        else { return nil }
        var partitions: [TopicPartition] = []
        for _ in 0..<count {
            guard let topic = reader.text(), let numbers = reader.integer(Int32.self), numbers >= 0 else { return nil }
            for _ in 0..<numbers {
                guard let number = reader.integer(Int32.self) else { return nil }
                partitions.append(TopicPartition(topic: topic, partition: number))
            }
        }
        return partitions
    }

    /// An assignment (version 0) of these partitions.
    package static func assignment(of partitions: [TopicPartition]) -> [UInt8] {
        var bytes: [UInt8] = []
        BigEndian.append(Int16(0), to: &bytes)
        let topics = Dictionary(grouping: partitions, by: \.topic).sorted { $0.key < $1.key }
        BigEndian.append(Int32(topics.count), to: &bytes)
        for (topic, partitions) in topics {
            append(topic, to: &bytes)
            BigEndian.append(Int32(partitions.count), to: &bytes)
            for partition in partitions.map(\.partition).sorted() { BigEndian.append(partition, to: &bytes) }
        }
        BigEndian.append(Int32(-1), to: &bytes)
        return bytes
    }

    /// A subscription (version 0) to these topics.
    package static func subscription(to topics: [String]) -> [UInt8] {
        var bytes: [UInt8] = []
        BigEndian.append(Int16(0), to: &bytes)
        BigEndian.append(Int32(topics.count), to: &bytes)
        for topic in topics { append(topic, to: &bytes) }
        BigEndian.append(Int32(-1), to: &bytes)
        return bytes
    }

    private static func append(_ topic: String, to bytes: inout [UInt8]) {
        // Names of topics have at most 249 bytes.
        BigEndian.append(Int16(clamping: topic.utf8.count), to: &bytes)
        bytes += topic.utf8
    }

    private struct Reader {
        let bytes: [UInt8]
        var position = 0

        mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value? {
            guard bytes.count - position >= MemoryLayout<Value>.size else { return nil }
            defer { position += MemoryLayout<Value>.size }
            return BigEndian.load(type, from: bytes, at: position)
        }

        mutating func text() -> String? {
            guard let length = integer(Int16.self), length >= 0, Int(length) <= bytes.count - position else {
                return nil
            }
            defer { position += Int(length) }
            return String(validating: bytes[position..<position + Int(length)], as: UTF8.self)
        }
    }
}
