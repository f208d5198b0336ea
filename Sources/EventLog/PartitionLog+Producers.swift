// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Logging
import Synchronization

/// Which of the batches that wait are to be written.
struct ProducerAdmission {
    var appends: [PendingAppend]
    /// Batches that repeat one of `appends`, answered together with it.
    var repeats: [(append: PendingAppend, original: ProducerState.Batch)] = []
    /// What the producers' states come to once `appends` are on disk; `nil` when no idempotent producer is concerned.
    var changes: ProducerChanges?
}

extension PartitionLog {
    /// Sorts out what idempotent producers sent again or out of order, and answers what is not written; on the writer
    /// thread.
    func admit(_ appends: ArraySlice<PendingAppend>, at start: Int64) -> ProducerAdmission {
        guard appends.contains(where: { $0.header.producerID >= 0 }) else {
            return ProducerAdmission(appends: Array(appends))
        }
        let (known, logStart) = state.withLock { state in
            var known: [Int64: ProducerState] = [:]
            for append in appends {
                let id = append.header.producerID
                if id >= 0, known[id] == nil { known[id] = state.producers[id] }
            }
            return (known, state.logStartOffset)
        }
        var changes = ProducerChanges(known: known)
        var admission = ProducerAdmission(appends: [])
        var offset = start
        let now = environment.settings.now()
        for append in appends {
            switch judge(append, at: offset, now: now, &changes) {
            case .append:
                admission.appends.append(append)
                offset += Int64(append.header.lastOffsetDelta) + 1
            case .duplicate(let original):
                if original.baseOffset >= start {
                    admission.repeats.append((append, original))
                } else {
                    answer(append, as: original, logStart)
                }
            case .nothingOpen:
                append.completion(.success(AppendResult(baseOffset: -1, lastOffset: -1, logStartOffset: logStart)))
            case .refused(let error): append.completion(.failure(error.at(id)))
            }
        }
        admission.changes = changes
        return admission
    }

    private func judge(
        _ append: PendingAppend,
        at offset: Int64,
        now: Int64,
        _ changes: inout ProducerChanges
    ) -> ProducerChanges.Verdict {
        let header = append.header
        if let marker = append.marker { return changes.judge(marker, header, at: offset, now: now) }
        return changes.judge(header, at: offset, now: now) {
            environment.transactionGate.mayOpen(
                producerID: header.producerID,
                epoch: header.producerEpoch,
                in: id
            )
        }
    }

    func answer(_ append: PendingAppend, as original: ProducerState.Batch, _ logStart: Int64) {
        append.completion(
            .success(
                AppendResult(
                    baseOffset: original.baseOffset,
                    lastOffset: original.lastOffset,
                    logStartOffset: logStart
                )
            )
        )
    }

    /// The largest producer id known, or -1.
    var largestProducerID: Int64 { state.withLock { $0.producers.producers.keys.max() ?? -1 } }

    /// Forgets idle producers.
    func expireProducers(at now: Int64) {
        let settings = environment.settings
        let oldest = now - settings.producerExpirationMilliseconds
        state.withLock { state in
            guard !state.producers.isEmpty else { return }
            if state.producers.expire(before: oldest, countMax: settings.producersPerPartitionMax) {
                state.producersChanged = true
                state.changedSinceCheckpoint = true
            }
        }
    }

    /// Stores what is known of producers, where it changed and all of it is flushed; blocks.
    ///
    /// Two snapshots are kept: a power failure may take the newer one's name, which is not flushed by itself.
    func storeProducers() throws(EventLogError) {
        let found = state.withLock { state -> (ProducerTable, Int64)? in
            guard state.producersChanged else { return nil }
            if state.syncedOffset == state.highWatermark { return (state.producers, state.syncedOffset) }
            guard let synced = state.syncedProducers, synced.offset == state.syncedOffset else { return nil }
            return (synced.table, synced.offset)
        }
        guard let (table, offset) = found else { return }
        let path = ProducerSnapshot.path(in: directory, at: offset)
        try Disk.replaceUnlisted(path, with: ProducerSnapshot(offset: offset, table: table).encoded())
        let outdated = state.withLock { state -> [Int64] in
            state.snapshots.removeAll { $0 == offset }
            state.snapshots.append(offset)
            if state.syncedOffset == offset, state.highWatermark == offset { state.producersChanged = false }
            let count = max(0, state.snapshots.count - 2)
            defer { state.snapshots.removeFirst(count) }
            return Array(state.snapshots[..<count])
        }
        for offset in outdated { try Disk.remove(ProducerSnapshot.path(in: directory, at: offset)) }
    }

    /// Describes the producers known, ordered by id.
    func producerDescriptions() -> [ProducerDescription] {
        let producers = state.withLock { $0.producers.producers }
        return producers.map { id, state in
            ProducerDescription(
                producerID: id,
                epoch: state.epoch,
                lastSequence: state.batches.last?.lastSequence,
                lastTimestamp: state.usedAt,
                coordinatorEpoch: state.coordinatorEpoch,
                transactionStart: state.transactionStart
            )
        }.sorted { $0.producerID < $1.producerID }
    }
}
