// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization

extension LocalLog {
    /// What compaction has done since the log was opened.
    package struct CompactionTotals: Sendable, Equatable {
        /// Rounds over a partition.
        package var rounds = 0
        /// Bytes of segments that were written anew.
        package var bytesBefore: Int64 = 0
        /// What became of them.
        package var bytesAfter: Int64 = 0
    }

    /// Compacts every partition where it is due, the one with the most to do first.
    ///
    /// Goes on while keys do not fit the memory there is for them. What cannot be compacted is logged and left as it is.
    package func compact() async {
        let now = environment.settings.now()
        let due = allPartitions().compactMap { _, partition -> (PartitionLog, Int64)? in
            partition.compactionPlan(at: now).map { (partition, $0.dirtyBytes) }
        }
        for (partition, _) in due.sorted(by: { $0.1 > $1.1 }) {
            do {
                while let plan = partition.compactionPlan(at: environment.settings.now()) {
                    let end = try await compact(partition, plan)
                    // Where nothing was gained another round would not gain anything either.
                    if end <= plan.progress.end || end == plan.segments.last?.nextOffset { break }
                }
            } catch let error as EventLogError {
                switch error.code {
                case .closed: return
                case .damaged:
                    partition.giveUpCompaction(error)
                    // So that whoever asks what is damaged is told which records; the error of this has been logged above.
                    if let path = error.path {
                        try? await clean { () throws(EventLogError) in try partition.verify(only: path) }
                    }
                default: report(error, partition)
                }
            } catch {
                return
            }
        }
    }

    private func report(_ error: EventLogError, _ partition: PartitionLog) {
        // Deleted meanwhile.
        guard (try? partition.bounds()) != nil else { return }
        environment.logger.warning(
            "compacting failed and is tried again",
            metadata: ["partition": "\(partition.id)", "error": "\(error)"]
        )
    }

    /// One round: returns the offset that everything is compacted up to.
    private func compact(_ partition: PartitionLog, _ plan: CompactionPlan) async throws -> Int64 {
        let settings = environment.settings
        let compactor = Compactor(
            id: partition.id,
            directory: partition.directory,
            plan: plan,
            pace: compactionPace,
            synchronize: settings.synchronize
        )
        let (keys, end) = try await clean { () throws(EventLogError) in
            try compactor.readKeys(bytesMax: settings.compactionBytesMax)
        }
        var leftovers = 0
        var totals = CompactionTotals(rounds: 1)
        // Up to where the keys reach; with none, for tombstones alone, everything compacted before.
        for group in compactor.groups(upTo: max(end, plan.progress.end)) {
            let (outcome, left) = try await clean { () throws(EventLogError) in try compactor.rewrite(group, keys) }
            leftovers += left
            guard let outcome else { continue }
            let isInstalled = try await administrate { () throws(EventLogError) in try partition.install(outcome) }
            // The partition has changed below; what is left is done by another round.
            guard isInstalled else { return plan.progress.end }
            totals.bytesBefore += outcome.sources.reduce(0) { $0 + $1.byteCount }
            totals.bytesAfter += outcome.segment.byteCount
        }
        let (reached, kept) = (end, leftovers)
        try await administrate { () throws(EventLogError) in
            try partition.finishCompaction(plan, end: reached, leftovers: kept)
        }
        let added = totals
        compactionTotals.withLock { sum in
            sum.rounds += added.rounds
            sum.bytesBefore += added.bytesBefore
            sum.bytesAfter += added.bytesAfter
        }
        environment.logger.info(
            "compacted a partition",
            metadata: [
                "topic": "\(partition.id.topic)", "partition": "\(partition.id.partition)", "offset": "\(end)",
                "keys": "\(keys.count)", "bytes_before": "\(added.bytesBefore)", "bytes_after": "\(added.bytesAfter)",
            ]
        )
        return end
    }

    /// Runs `work` on the thread that compacts.
    private func clean<Value: Sendable>(
        _ work: @escaping @Sendable () throws(EventLogError) -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Value, any Error>) in
            let accepted = cleaner.submit {
                do {
                    continuation.resume(returning: try work())
                } catch {
                    continuation.resume(throwing: error)
                }
            }
            if accepted != true {
                continuation.resume(throwing: EventLogError(.closed, "the event log is closed"))
            }
        }
    }

    /// What compaction has done since the log was opened.
    package var compactions: CompactionTotals { compactionTotals.withLock { $0 } }
}
