// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What the entries of a coordinators' file come to, in the order they were written.
struct CoordinatorContent: Sendable {
    private(set) var groups: [String: [TopicPartition: StoredOffset]] = [:]
    private(set) var groupStates: [String: [UInt8]] = [:]
    private(set) var transactions: [String: [UInt8]] = [:]
    /// Every producer id below may have been handed out.
    private(set) var producerIDsReserved: Int64 = 0

    mutating func apply(_ entry: CoordinatorEntry) {
        switch entry {
        case .commit(let group, let offsets): groups[group, default: [:]].merge(offsets) { $1 }
        case .deleteGroup(let group):
            groups[group] = nil
            groupStates[group] = nil
        case .deleteTopic(let id):
            for (group, offsets) in groups {
                let kept = offsets.filter { $0.value.topicID != id }
                groups[group] = kept.isEmpty ? nil : kept
            }
        case .groupState(let group, let state): groupStates[group] = state
        case .producerIDs(let reserved): producerIDsReserved = max(producerIDsReserved, reserved)
        case .transaction(let id, let state): transactions[id] = state
        case .deleteOffsets(let group, let partitions):
            for partition in partitions { groups[group]?[partition] = nil }
            if groups[group]?.isEmpty == true { groups[group] = nil }
        case .together(let entries):
            for entry in entries { apply(entry) }
        }
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
