// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Which transactions may begin in which partitions.
///
/// A batch that arrives after its transaction has ended would open another one that nobody ends. So whoever coordinates
/// transactions says which are under way, and partitions ask when a batch would open one. Until ``enforce()`` all may.
package final class TransactionGate: Sendable {
    private struct Entry {
        var epoch: Int16
        var partitions: Set<TopicPartition>
    }

    private struct State {
        var isEnforced = false
        var entries: [Int64: Entry] = [:]
    }

    private let state = Mutex(State())

    /// From now on only what was admitted may begin.
    package func enforce() {
        state.withLock { $0.isEnforced = true }
    }

    /// Lets a producer's transaction of this epoch begin in further partitions.
    package func admit(producerID: Int64, epoch: Int16, to partitions: some Sequence<TopicPartition>) {
        state.withLock { state in
            var entry = state.entries[producerID] ?? Entry(epoch: epoch, partitions: [])
            if entry.epoch != epoch { entry = Entry(epoch: epoch, partitions: []) }
            entry.partitions.formUnion(partitions)
            state.entries[producerID] = entry
        }
    }

    /// Lets no more of the producer's transaction begin: it is about to end.
    package func dismiss(producerID: Int64) {
        state.withLock { $0.entries[producerID] = nil }
    }

    func mayOpen(producerID: Int64, epoch: Int16, in partition: TopicPartition) -> Bool {
        state.withLock { state in
            guard state.isEnforced else { return true }
            guard let entry = state.entries[producerID], entry.epoch == epoch else { return false }
            return entry.partitions.contains(partition)
        }
    }
}
