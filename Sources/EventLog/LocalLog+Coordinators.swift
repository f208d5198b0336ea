// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

// What the coordinators of groups and transactions keep. It has the durability of committed offsets, whose file it
// shares; the bytes are the coordinators' own.
extension LocalLog {
    /// The most bytes one group or transaction may keep.
    package static let coordinatorStateBytesMax = 16 << 20

    /// Stores a group's own state, replacing the one before; `nil` forgets it.
    ///
    /// On disk on return, all or nothing. Offsets are apart from it: ``deleteGroup(_:)`` removes both in one step.
    /// - Throws: `.invalidSettings` (name), `.messageTooLarge`, `.diskFull`, `.partitionStopped`, `.overloaded`, `.closed`.
    package func storeGroupState(_ group: String, _ bytes: [UInt8]?) async throws {
        try Self.validate(group: group)
        try Self.validate(stateOf: "group \(group)", bytes)
        try await groupStore.store(.groupState(group: group, state: bytes))
    }

    /// Returns the states stored, by group.
    package func groupStates() -> [String: [UInt8]] {
        groupStore.content().groupStates
    }

    /// Forgets what a group has committed for some partitions, whether or not they still exist; on disk on return.
    ///
    /// - Throws: as ``deleteGroup(_:)``.
    package func deleteOffsets(group: String, of partitions: [TopicPartition]) async throws {
        try Self.validate(group: group)
        if partitions.isEmpty { return }
        try await groupStore.store(.deleteOffsets(group: group, partitions: partitions))
    }

    /// Stores a transaction's state, replacing the one before, and in the same step commits offsets of groups; `nil`
    /// forgets the state.
    ///
    /// On disk on return, all or nothing. Offsets of partitions that are gone are left out.
    /// - Throws: as ``storeGroupState(_:_:)``.
    package func storeTransaction(
        _ id: String,
        _ bytes: [UInt8]?,
        committing offsets: [String: [TopicPartition: CommittedOffset]] = [:]
    ) async throws {
        try Self.validate(stateOf: "transaction \(id)", bytes)
        let topics = registry.withLock { $0.topics.mapValues(\.file) }
        var entries = [CoordinatorEntry.transaction(id: id, state: bytes)]
        for (group, partitions) in offsets {
            try Self.validate(group: group)
            var stored: [TopicPartition: StoredOffset] = [:]
            for (partition, committed) in partitions {
                guard let topic = topics[partition.topic], partition.partition < topic.partitions else { continue }
                stored[partition] = StoredOffset(topicID: topic.id, committed: committed)
            }
            if !stored.isEmpty { entries.append(.commit(group: group, offsets: stored)) }
        }
        try await groupStore.store(entries.count == 1 ? entries[0] : .together(entries))
    }

    /// Returns the states of transactions stored, by transactional id.
    package func transactions() -> [String: [UInt8]] {
        groupStore.content().transactions
    }

    /// Returns a producer id that was never given out before, by this or an earlier process.
    ///
    /// - Throws: `.diskFull`, `.partitionStopped`, `.overloaded`, `.closed`.
    package func newProducerID() async throws -> Int64 {
        try await producerIDs.next { try await groupStore.store(.producerIDs(reservedBelow: $0)) }
    }

    private static func validate(stateOf name: String, _ bytes: [UInt8]?) throws(EventLogError) {
        guard let bytes, bytes.count > coordinatorStateBytesMax else { return }
        throw EventLogError(
            .messageTooLarge,
            "the state of \(name) has \(bytes.count) bytes; at most \(coordinatorStateBytesMax) are kept"
        )
    }
}
