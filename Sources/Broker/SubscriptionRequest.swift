// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import KafkaCodec
package import MartletCore

/// Where reading begins.
package enum StartPosition: Sendable, Equatable {
    /// At the first record held.
    case earliest
    /// Behind the last record.
    case latest
    /// At the first record of this time or later, in milliseconds since 1970; behind the last one where there is none.
    case time(Int64)
    /// At these offsets, kept within what the partitions hold; elsewhere behind the last record.
    case offsets([TopicPartition: Int64])

    /// The offset in one partition.
    func offset(in partition: TopicPartition, of log: LocalLog) async throws -> Int64 {
        let bounds = try log.bounds(partition)
        switch self {
        case .earliest: return bounds.start
        case .latest: return bounds.end
        case .time(let time): return try await log.offset(partition, atOrAfter: time)?.offset ?? bounds.end
        case .offsets(let offsets): return min(max(offsets[partition] ?? bounds.end, bounds.start), bounds.end)
        }
    }
}

/// Lets records through whose key is one of these, or begins with one of these.
package struct KeyFilter: Sendable, Equatable {
    /// Whole keys.
    package var keys: Set<[UInt8]>
    /// First bytes of keys.
    package var prefixes: [[UInt8]]

    /// Describes a filter.
    package init(keys: Set<[UInt8]>, prefixes: [[UInt8]]) {
        self.keys = keys
        self.prefixes = prefixes
    }

    /// Whether a record with this key is let through; one without a key is not.
    package func lets(_ key: ArraySlice<UInt8>?) -> Bool {
        guard let key else { return false }
        return prefixes.contains { key.starts(with: $0) } || (!keys.isEmpty && keys.contains(Array(key)))
    }
}

/// What a subscriber of a group asks for.
package struct SubscriptionRequest: Sendable {
    /// The group's name.
    package var group: String
    /// The topics, sorted, each once.
    package var topics: [String]
    /// Where to begin in partitions the group has no offset in.
    package var start: StartPosition
    /// Which records to deliver; nil for all.
    package var filter: KeyFilter?
    /// What the subscriber can take.
    package var limits: SubscriptionState.Limits
    /// Whether it wants to be told what is on disk.
    package var reportsCommits: Bool
    /// The client's address, shown with the group.
    package var peer: String

    /// Describes a subscription.
    package init(
        group: String,
        topics: [String],
        start: StartPosition,
        filter: KeyFilter?,
        limits: SubscriptionState.Limits,
        reportsCommits: Bool,
        peer: String
    ) {
        self.group = group
        self.topics = topics
        self.start = start
        self.filter = filter
        self.limits = limits
        self.reportsCommits = reportsCommits
        self.peer = peer
    }
}

/// Deliveries in the form in which they are sent.
package struct EncodedDeliveries: Sendable {
    /// What is sent.
    package var bytes: [UInt8]
    /// The id of the last delivery in it.
    package var lastID: UInt64

    /// Describes deliveries.
    package init(bytes: [UInt8], lastID: UInt64) {
        self.bytes = bytes
        self.lastID = lastID
    }
}

/// Where a subscriber's deliveries are collected until they are sent.
///
/// Everything but ``ring()`` is called under a lock of the subscription: it must be short and must not call back.
package protocol DeliverySink: Sendable {
    /// Adds a delivery; the record is not to be kept.
    func add(_ record: RecordView, of partition: TopicPartition, id: UInt64, attempt: UInt32)
    /// Takes the oldest deliveries out, up to what one message should hold.
    func takeDeliveries() -> EncodedDeliveries?
    /// Forgets what was not taken.
    func discard()
    /// Adds that these offsets are on disk.
    func add(committed: [TopicPartition: Int64])
    /// The subscription ends with this error.
    func fail(_ error: ServiceError)
    /// There is something to take.
    func ring()
}
