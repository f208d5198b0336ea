// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Synchronization

/// What of a partition is to be compacted, and what is known of it.
struct CompactionPlan: Sendable {
    /// Closed segments that may be written anew, from the oldest on.
    let segments: [Segment]
    let settings: TopicSettings
    let compaction: TopicSettings.Compaction
    let progress: CompactionState
    let logStart: Int64
    /// The first offset whose keys count.
    let start: Int64
    /// The aborted transactions, by producer.
    let aborted: [Int64: [AbortedSpan]]
    /// Where their markers are.
    let abortMarkers: Set<Int64>
    /// The base offset of the last batch of each producer: it tells what comes next, and stays without its records.
    let lastBatches: [Int64: Int64]
    /// Bytes that have not been compacted.
    let dirtyBytes: Int64
    let now: Int64

    /// Whether an offset belongs to a transaction that was aborted.
    func isAborted(_ header: RecordBatchHeader) -> Bool {
        guard header.isTransactional, !header.isControl else { return false }
        return aborted[header.producerID]?.contains {
            $0.firstOffset <= header.baseOffset && header.baseOffset < $0.markerOffset
        } ?? false
    }

    /// Whether a tombstone or marker at this offset has been there for long enough.
    func hasExpired(_ offset: Int64) -> Bool {
        guard let at = progress.compactedAt(offset) else { return false }
        return at == .min || now - compaction.deleteRetentionMilliseconds >= at
    }
}

extension PartitionLog {
    /// Says what is to be compacted now; `nil` when nothing is due.
    func compactionPlan(at now: Int64) -> CompactionPlan? {
        state.withLock { state in
            guard case .running = state.status, let compaction = state.settings.compaction, !state.cannotCompact else {
                return nil
            }
            let segments = cleanable(state, compaction, now)
            guard let first = segments.first else { return nil }
            let start = max(state.compaction.end, state.logStartOffset, first.baseOffset)
            let dirty = segments.filter { $0.nextOffset > start }
            let dirtyBytes = dirty.reduce(0) { $0 + $1.byteCount }
            let total = segments.reduce(0) { $0 + $1.byteCount }
            let isOverdue = dirty.first.map { now - $0.createdAt > compaction.lagMillisecondsMax } ?? false
            let isDirty = dirtyBytes > 0 && Double(dirtyBytes) >= compaction.dirtyRatio * Double(total)
            let hasExpired = state.compaction.hasExpired(at: now, retention: compaction.deleteRetentionMilliseconds)
            guard isOverdue || isDirty || hasExpired else { return nil }
            return CompactionPlan(
                segments: segments,
                settings: state.settings,
                compaction: compaction,
                progress: state.compaction,
                logStart: state.logStartOffset,
                start: start,
                aborted: Dictionary(grouping: state.producers.aborted, by: \.producerID),
                abortMarkers: Set(state.producers.aborted.map(\.markerOffset)),
                lastBatches: state.producers.producers.compactMapValues { $0.batches.last?.baseOffset },
                dirtyBytes: dirtyBytes,
                now: now
            )
        }
    }

    /// Closed segments in front of the first open transaction, of damage, and of records that are too young.
    private func cleanable(
        _ state: PartitionState,
        _ compaction: TopicSettings.Compaction,
        _ now: Int64
    ) -> [Segment] {
        let stable = state.lastStableOffset
        let damaged = Set(state.damage.map(\.file))
        let sealed = state.segments.dropLast().drop { $0.nextOffset <= state.logStartOffset }
        return Array(
            sealed.prefix { segment in
                let isOld =
                    compaction.lagMillisecondsMin == 0
                    || segment.maxTimestamp <= now - compaction.lagMillisecondsMin
                return segment.nextOffset <= stable && isOld
                    && !damaged.contains(SegmentPaths(directory: directory, baseOffset: segment.baseOffset).log)
            }
        )
    }
}
