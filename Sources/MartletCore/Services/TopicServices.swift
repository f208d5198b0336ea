// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Where a topic's partition stands.
package struct PartitionStatus: Sendable, Codable, Equatable {
    package var partition: Int32
    package var startOffset: Int64
    package var endOffset: Int64

    package init(partition: Int32, startOffset: Int64, endOffset: Int64) {
        self.partition = partition
        self.startOffset = startOffset
        self.endOffset = endOffset
    }
}

/// Topics.
package protocol TopicServices: ResourceService<TopicSpec> {
    func partitions(_ topic: String) async throws -> [PartitionStatus]
    /// Publishes events; durable on return.
    func publish(_ topic: String, events: [CloudEvent]) async throws -> Int
}

/// Secrets; values go in and never come out of the API.
package protocol SecretServices: ResourceService<SecretSpec> {}
