// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A topic as people see it; the event log holds its partitions.
package struct TopicSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.topics

    package var partitions: Int32
    /// Nil keeps records for ever.
    package var retentionMilliseconds: Int64?
    /// Per partition; nil is no limit.
    package var retentionBytes: Int64?
    /// Events of triggers without a topic of their own go here.
    package var isDefault: Bool
    /// Events that could not be processed go here.
    package var isDeadLetter: Bool
    /// Made by the engine for a link of a pipeline.
    package var isInternal: Bool
    /// Further settings by Kafka's names for them; only those that have been set.
    package var configs: [String: String]?
    /// The id Kafka's clients know the topic by, as their tools write it; filled in for who asks, and not stored.
    package var kafkaTopicId: String?

    package init(
        partitions: Int32,
        retentionMilliseconds: Int64? = 7 * 86_400_000,
        retentionBytes: Int64? = nil,
        isDefault: Bool = false,
        isDeadLetter: Bool = false,
        isInternal: Bool = false,
        configs: [String: String]? = nil
    ) {
        self.partitions = partitions
        self.retentionMilliseconds = retentionMilliseconds
        self.retentionBytes = retentionBytes
        self.isDefault = isDefault
        self.isDeadLetter = isDeadLetter
        self.isInternal = isInternal
        self.configs = configs
    }
}

/// A named set of key-value pairs, sealed in the catalog; values never leave it but to workers.
package struct SecretSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.secrets

    /// Names of the entries, sorted.
    package var keys: [String]

    package init(keys: [String]) {
        self.keys = keys
    }
}
