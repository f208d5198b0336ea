// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// A consumer group in a list.
package struct GroupSummary: Sendable, Codable, Equatable {
    /// The group's name.
    package var name: String
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`, as Kafka's tools write it.
    package var state: String
    /// `consumer` for consumers; empty where nobody has joined.
    package var protocolType: String
    /// The number of members.
    package var memberCount: Int
    /// The topics it has offsets in, sorted.
    package var topics: [String]
    /// Records after the committed offsets, over all partitions.
    package var lagRecords: Int64
    /// Age of the oldest of those records, in seconds; 0 where there is none.
    package var lagSeconds: Double
    /// Whether the engine uses it for itself: then it cannot be reset or deleted here.
    package var isInternal: Bool

    /// Describes a group.
    package init(
        name: String,
        state: String,
        protocolType: String,
        memberCount: Int,
        topics: [String],
        lagRecords: Int64,
        lagSeconds: Double,
        isInternal: Bool
    ) {
        self.name = name
        self.state = state
        self.protocolType = protocolType
        self.memberCount = memberCount
        self.topics = topics
        self.lagRecords = lagRecords
        self.lagSeconds = lagSeconds
        self.isInternal = isInternal
    }
}

/// A member of a consumer group.
package struct GroupMemberStatus: Sendable, Codable, Equatable {
    /// The member's id.
    package var memberId: String
    /// `group.instance.id` of a static member.
    package var instanceId: String?
    /// The client's id.
    package var clientId: String
    /// The client's address.
    package var clientHost: String
    /// How many partitions it reads.
    package var partitionCount: Int

    /// Describes a member.
    package init(
        memberId: String,
        instanceId: String?,
        clientId: String,
        clientHost: String,
        partitionCount: Int
    ) {
        self.memberId = memberId
        self.instanceId = instanceId
        self.clientId = clientId
        self.clientHost = clientHost
        self.partitionCount = partitionCount
    }
}

/// How far a group has come in one partition.
package struct GroupPartitionStatus: Sendable, Codable, Equatable {
    /// The topic.
    package var topic: String
    /// The partition's number.
    package var partition: Int32
    /// The offset of the next record to consume; nil where nothing was committed.
    package var committedOffset: Int64?
    /// The first offset still held.
    package var startOffset: Int64
    /// The offset the next record will get.
    package var endOffset: Int64
    /// Records still to consume; all that are held where nothing was committed.
    package var lagRecords: Int64
    /// Age of the record at the committed offset, in seconds; 0 where there is nothing to consume.
    package var lagSeconds: Double
    /// What the consumer stored with its offset.
    package var metadata: String?
    /// When the offset was committed.
    package var committedAt: Date?
    /// The id of the member that reads it.
    package var memberId: String?

    /// Describes a partition.
    package init(topic: String, partition: Int32, startOffset: Int64, endOffset: Int64) {
        self.topic = topic
        self.partition = partition
        self.startOffset = startOffset
        self.endOffset = endOffset
        lagRecords = endOffset - startOffset
        lagSeconds = 0
    }
}

/// A consumer group with members and partitions; encoded, the summary's fields stand beside its own.
package struct GroupStatus: Sendable, Codable, Equatable {
    private enum CodingKeys: String, CodingKey {
        case generation
        case protocolName
        case members
        case partitions
    }

    /// What a list shows.
    package var summary: GroupSummary
    /// The number of the current assignment.
    package var generation: Int32
    /// How partitions are assigned, such as `range`; empty while that is not settled.
    package var protocolName: String
    /// The members.
    package var members: [GroupMemberStatus]
    /// Every partition with an offset or a reader, by topic and number.
    package var partitions: [GroupPartitionStatus]

    /// Describes a group.
    package init(
        summary: GroupSummary,
        generation: Int32,
        protocolName: String,
        members: [GroupMemberStatus],
        partitions: [GroupPartitionStatus]
    ) {
        self.summary = summary
        self.generation = generation
        self.protocolName = protocolName
        self.members = members
        self.partitions = partitions
    }

    package init(from decoder: any Decoder) throws {
        summary = try GroupSummary(from: decoder)
        let container = try decoder.container(keyedBy: CodingKeys.self)
        generation = try container.decode(Int32.self, forKey: .generation)
        protocolName = try container.decode(String.self, forKey: .protocolName)
        members = try container.decode([GroupMemberStatus].self, forKey: .members)
        partitions = try container.decode([GroupPartitionStatus].self, forKey: .partitions)
    }

    package func encode(to encoder: any Encoder) throws {
        try summary.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(generation, forKey: .generation)
        try container.encode(protocolName, forKey: .protocolName)
        try container.encode(members, forKey: .members)
        try container.encode(partitions, forKey: .partitions)
    }
}

/// Where a group is to go on.
package struct GroupReset: Sendable, Equatable {
    /// What the new offset is reckoned from.
    package enum Target: Sendable, Equatable {
        /// The first record held.
        case earliest
        /// Behind the last record.
        case latest
        /// The first record of this time, in milliseconds since 1970, or later; behind the last one where there is none.
        case time(milliseconds: Int64)
        /// This offset.
        case offset(Int64)
        /// So many records on; back where negative.
        case by(Int64)
    }

    /// What the new offset is reckoned from; results are kept within what the partition holds.
    package var target: Target
    /// Only these topics, also such that the group has no offset in; nil for all it has offsets in.
    package var topics: [String]?
    /// Only these partitions of the topics; nil for all.
    package var partitions: [Int32]?
    /// Whether to say only what would be done.
    package var isDryRun: Bool

    /// Describes a reset.
    package init(
        _ target: Target,
        topics: [String]? = nil,
        partitions: [Int32]? = nil,
        isDryRun: Bool = false
    ) {
        self.target = target
        self.topics = topics
        self.partitions = partitions
        self.isDryRun = isDryRun
    }
}

/// One partition's part of a reset.
package struct GroupResetOutcome: Sendable, Codable, Equatable {
    /// The topic.
    package var topic: String
    /// The partition's number.
    package var partition: Int32
    /// The offset before; nil where nothing was committed.
    package var oldOffset: Int64?
    /// The offset now.
    package var newOffset: Int64

    /// Describes an outcome.
    package init(topic: String, partition: Int32, oldOffset: Int64?, newOffset: Int64) {
        self.topic = topic
        self.partition = partition
        self.oldOffset = oldOffset
        self.newOffset = newOffset
    }
}

/// Consumer groups, as people manage them.
package protocol GroupServices: Sendable {
    /// Returns every group, by name.
    func list() async throws -> [GroupSummary]
    /// Returns one group.
    ///
    /// - Throws: `ServiceError.notFound`.
    func get(_ name: String) async throws -> GroupStatus
    /// Moves a group's offsets; on disk on return, all or nothing.
    ///
    /// - Throws: `ServiceError`: `.notFound`, `.inUse` while the group has members, `.forbidden` for the engine's own,
    ///   `.invalid`.
    func reset(_ name: String, _ reset: GroupReset) async throws -> [GroupResetOutcome]
    /// Deletes a group with its offsets; on disk on return.
    ///
    /// - Throws: `ServiceError`: `.notFound`, `.inUse` while the group has members, `.forbidden` for the engine's own.
    func delete(_ name: String) async throws
}
