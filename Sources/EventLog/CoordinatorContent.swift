// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What the entries of a coordinators' file come to, in the order they were written.
struct CoordinatorContent: Sendable {
    private(set) var groups: [String: [TopicPartition: StoredOffset]] = [:]
    private(set) var groupStates: [String: [UInt8]] = [:]
    private(set) var transactions: [String: [UInt8]] = [:]
    /// Every producer id below may have been handed out.
    private(set) var producerIDsReserved: Int64 = 0
    /// About what the offsets take in memory.
    private(set) var offsetBytes = 0

    mutating func apply(_ entry: CoordinatorEntry) {
        switch entry {
        case .commit(let group, let offsets):
            for (partition, stored) in offsets {
                let old = groups[group, default: [:]].updateValue(stored, forKey: partition)
                offsetBytes +=
                    stored.committed.byteCount(of: partition) - (old?.committed.byteCount(of: partition) ?? 0)
            }
        case .deleteGroup(let group):
            forgetOffsets(of: group, Array((groups[group] ?? [:]).keys))
            groupStates[group] = nil
        case .deleteTopic(let id):
            for (group, offsets) in groups {
                forgetOffsets(of: group, offsets.filter { $0.value.topicID == id }.map(\.key))
            }
        case .groupState(let group, let state): groupStates[group] = state
        case .producerIDs(let reserved): producerIDsReserved = max(producerIDsReserved, reserved)
        case .transaction(let id, let state): transactions[id] = state
        case .deleteOffsets(let group, let partitions):
            forgetOffsets(of: group, partitions)
        case .together(let entries):
            for entry in entries { apply(entry) }
        case .begin: break
        }
    }

    private mutating func forgetOffsets(of group: String, _ partitions: [TopicPartition]) {
        for partition in partitions {
            let old = groups[group]?.removeValue(forKey: partition)
            offsetBytes -= old?.committed.byteCount(of: partition) ?? 0
        }
        if groups[group]?.isEmpty == true { groups[group] = nil }
    }

    /// Returns entries that come to the same content.
    func entries() -> [CoordinatorEntry] {
        var entries: [CoordinatorEntry] = []
        for (group, offsets) in groups {
            for (partition, stored) in offsets {
                entries.append(.commit(group: group, offsets: [partition: stored]))
            }
        }
        for (group, state) in groupStates { entries.append(.groupState(group: group, state: state)) }
        for (id, state) in transactions { entries.append(.transaction(id: id, state: state)) }
        if producerIDsReserved > 0 { entries.append(.producerIDs(reservedBelow: producerIDsReserved)) }
        return entries
    }
}
