// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Where a topic's partition stands.
package struct PartitionStatus: Sendable, Codable, Equatable {
    package var partition: Int32
    package var startOffset: Int64
    package var endOffset: Int64
    /// Bytes of records on disk; nil where that is not known.
    package var sizeBytes: Int64?

    package init(partition: Int32, startOffset: Int64, endOffset: Int64, sizeBytes: Int64? = nil) {
        self.partition = partition
        self.startOffset = startOffset
        self.endOffset = endOffset
        self.sizeBytes = sizeBytes
    }
}

/// A setting of a topic under Kafka's name for it.
package struct TopicSetting: Sendable, Codable, Equatable {
    package var name: String
    package var value: String
    /// The value of a topic that sets none.
    package var defaultValue: String
    /// Whether the topic sets it.
    package var isSet: Bool
    /// One sentence for people.
    package var description: String

    package init(name: String, value: String, defaultValue: String, isSet: Bool, description: String) {
        self.name = name
        self.value = value
        self.defaultValue = defaultValue
        self.isSet = isSet
        self.description = description
    }
}

/// Topics.
package protocol TopicServices: ResourceService<TopicSpec> {
    func partitions(_ topic: String) async throws -> [PartitionStatus]
    /// Every setting of a topic, by name.
    func settings(_ topic: String) async throws -> [TopicSetting]
    /// Deletes the records of a partition below an offset and returns the first offset left; on disk on return.
    ///
    /// - Throws: `ServiceError` `.notFound`, `.forbidden` for the engine's own topics, `.invalid` for an offset beyond the end.
    func deleteRecords(_ topic: String, partition: Int32, before offset: Int64) async throws -> Int64
    /// Publishes events; durable on return.
    func publish(_ topic: String, events: [CloudEvent]) async throws -> Int
}

/// Secrets; values go in and never come out of the API.
package protocol SecretServices: ResourceService<SecretSpec> {}
