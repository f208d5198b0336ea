// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog

/// Where the coordinator keeps what must survive the engine: offsets, and the state of each group.
package protocol GroupStore: Sendable {
    /// Records how far a group has come; on disk on return, all or nothing.
    func commit(group: String, offsets: [TopicPartition: CommittedOffset]) async throws

    /// Returns what a group has committed; empty for an unknown group.
    func committed(group: String) -> [TopicPartition: CommittedOffset]

    /// Forgets what a group has committed for some partitions; on disk on return.
    func deleteOffsets(group: String, of partitions: [TopicPartition]) async throws

    /// Stores a group's state, replacing the one before; `nil` forgets it. On disk on return, all or nothing.
    func storeState(_ group: String, _ bytes: [UInt8]?) async throws

    /// Returns the states stored, by group; the store has checked that they are what was stored.
    func states() -> [String: [UInt8]]

    /// Forgets a group's offsets and its state; no error when there is nothing.
    func deleteGroup(_ group: String) async throws

    /// Returns the names of all groups that have committed offsets, ordered.
    func groups() -> [String]

    /// Returns the groups for which a transaction that is not finished has offsets.
    func unfinishedGroups() -> Set<String>

    /// How many groups have offsets, and about what the offsets of all groups take in memory, as ``CommittedOffset/byteCount(of:)`` counts.
    var offsetUsage: (groups: Int, bytes: Int) { get }

    /// Whether there is such a partition.
    func exists(_ partition: TopicPartition) -> Bool

    /// Returns the partitions whose offsets are part of a transaction that is not finished.
    func unstableOffsets(group: String) -> Set<TopicPartition>
}

/// Groups kept in the event log's directory.
package struct LogGroupStore: GroupStore {
    private let log: LocalLog
    private let unstable: @Sendable (String) -> Set<TopicPartition>
    private let unfinished: @Sendable () -> Set<String>

    /// Keeps groups in `log`; `unstable` and `unfinished` ask the coordinator of transactions.
    package init(
        log: LocalLog,
        unstable: @escaping @Sendable (_ group: String) -> Set<TopicPartition> = { _ in [] },
        unfinished: @escaping @Sendable () -> Set<String> = { [] }
    ) {
        self.log = log
        self.unstable = unstable
        self.unfinished = unfinished
    }

    package func commit(group: String, offsets: [TopicPartition: CommittedOffset]) async throws {
        try await log.commit(group: group, offsets: offsets)
    }

    package func committed(group: String) -> [TopicPartition: CommittedOffset] { log.committed(group: group) }

    package func deleteOffsets(group: String, of partitions: [TopicPartition]) async throws {
        try await log.deleteOffsets(group: group, of: partitions)
    }

    package func storeState(_ group: String, _ bytes: [UInt8]?) async throws {
        try await log.storeGroupState(group, bytes)
    }

    package func states() -> [String: [UInt8]] { log.groupStates() }

    package func deleteGroup(_ group: String) async throws { try await log.deleteGroup(group) }

    package func groups() -> [String] { log.groups() }

    package func unfinishedGroups() -> Set<String> { unfinished() }

    package var offsetUsage: (groups: Int, bytes: Int) { log.offsetUsage }

    package func exists(_ partition: TopicPartition) -> Bool {
        guard let topic = log.topic(partition.topic) else { return false }
        return (0..<topic.partitions).contains(partition.partition)
    }

    package func unstableOffsets(group: String) -> Set<TopicPartition> { unstable(group) }
}
