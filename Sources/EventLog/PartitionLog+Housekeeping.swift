// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import KafkaCodec
import Logging
import Synchronization

extension PartitionLog {
    var hasUnflushed: Bool {
        state.withLock { state in state.syncedBytes < state.segments[state.segments.count - 1].byteCount }
    }

    /// Whether the last segment is old enough to be closed, or holds only what retention no longer covers.
    func isRollDue(at now: Int64) -> Bool {
        state.withLock { state in
            guard case .running = state.status, let active = state.segments.last, active.byteCount > 0 else {
                return false
            }
            let lagMax = state.settings.compaction?.lagMillisecondsMax ?? .max
            if now - active.createdAt >= min(state.settings.segmentMilliseconds, lagMax) { return true }
            // All of it was deleted.
            if active.nextOffset <= state.logStartOffset { return true }
            guard state.settings.deletes, let limit = state.settings.retentionMilliseconds else { return false }
            return active.maxTimestamp >= 0 && active.maxTimestamp < now - limit && now - active.createdAt > limit
        }
    }

    /// Takes sealed segments out of service, from the oldest on, while retention allows, whatever became of their compaction, and
    /// returns their base offsets with those whose files are left from before; blocks.
    ///
    /// Their files are for ``removeSegments(_:)``, once the checkpoint has the new start. With `onlyDeleted` only those go that are in front
    /// of the start already. A segment expires with its newest record. Where that has no timestamp, or one in the future, the time the file
    /// was last written counts.
    func expireSegments(at now: Int64, onlyDeleted: Bool = false) throws(EventLogError) -> [Int64] {
        while let base = try expiredSegment(at: now, onlyDeleted: onlyDeleted) {
            let isRemoved = state.withLock { state in
                guard state.segments.count > 1, state.segments[0].baseOffset == base else { return false }
                state.segments.removeFirst()
                state.logStartOffset = max(state.logStartOffset, state.segments[0].baseOffset)
                state.dropBelowStart()
                state.changedSinceCheckpoint = true
                state.unremoved.append(base)
                return true
            }
            guard isRemoved else { break }
        }
        return state.withLock { $0.unremoved }
    }

    /// Deletes the files of segments that are out of service; blocks.
    func removeSegments(_ bases: [Int64]) throws(EventLogError) {
        for base in bases {
            try SegmentPaths(directory: directory, baseOffset: base).remove()
            state.withLock { state in state.unremoved.removeAll { $0 == base } }
            environment.logger.info(
                "deleted an expired segment",
                metadata: ["topic": "\(id.topic)", "partition": "\(id.partition)", "offset": "\(base)"]
            )
        }
    }

    private func expiredSegment(at now: Int64, onlyDeleted: Bool) throws(EventLogError) -> Int64? {
        let (first, settings, total, start) = state.withLock { state -> (Segment?, TopicSettings, Int64, Int64) in
            guard state.segments.count > 1 else { return (nil, state.settings, 0, 0) }
            let total = state.segments.reduce(0) { $0 + $1.byteCount }
            return (state.segments[0], state.settings, total, state.logStartOffset)
        }
        guard let first else { return nil }
        if first.nextOffset <= start { return first.baseOffset }
        guard settings.deletes, !onlyDeleted else { return nil }
        if let limit = settings.retentionBytes, total - first.byteCount >= limit { return first.baseOffset }
        guard let limit = settings.retentionMilliseconds else { return nil }
        var newest = first.maxTimestamp
        if newest > now || newest < 0 {
            let path = SegmentPaths(directory: directory, baseOffset: first.baseOffset).log
            // Of a file that somebody has taken away, or that cannot be opened, the time it was begun is as much as is known.
            let modified = (try? DiskFile(path: path, flags: O_RDONLY).modifiedMilliseconds()) ?? first.createdAt
            newest = newest < 0 ? modified : min(newest, modified)
        }
        // Subtracted in this order, the smallest timestamp cannot overflow.
        return newest < now - limit ? first.baseOffset : nil
    }

    /// Closes sealed segments' files and forgets their indexes; the next read opens them again.
    func releaseSealedFiles() {
        state.withLock { state in
            state.releaseSealedFiles()
        }
    }

    /// Stores the last segment's index and what is known of producers, and returns the partition's line of the checkpoint; blocks.
    func checkpoint(topicID: UUID) -> (CheckpointEntry, hasChanged: Bool) {
        // Without producers nothing in front of this offset will have to be read for them.
        let emptyBelow = state.withLock { state in
            state.producers.isEmpty && state.snapshots.isEmpty ? state.highWatermark : state.logStartOffset
        }
        do throws(EventLogError) {
            try storeProducers()
        } catch {
            // The entry says which snapshot there is; those of others are not to wait for this one's.
            environment.logger.warning(
                "what is known of producers was not stored; a start reads it from the records",
                metadata: ["partition": "\(id)", "error": "\(error)"]
            )
        }
        let (entry, index, hasChanged) = state.withLock { state in
            let active = state.segments[state.segments.count - 1]
            let snapshot = state.snapshots.last
            let entry = CheckpointEntry(
                topicID: topicID,
                partition: id.partition,
                logStartOffset: state.logStartOffset,
                segmentBase: active.baseOffset,
                syncedBytes: state.syncedBytes,
                nextOffset: state.syncedOffset,
                producersAt: snapshot ?? -1,
                producersFrom: state.producersChanged ? snapshot ?? emptyBelow : state.syncedOffset
            )
            defer { state.changedSinceCheckpoint = false }
            // An index that covers bytes not yet flushed would vouch for them.
            let isFlushed = state.syncedBytes == active.byteCount
            return (entry, isFlushed ? active.index : nil, state.changedSinceCheckpoint)
        }
        if hasChanged, let index, index.coveredBytes > 0 {
            // It can be rebuilt from the segment.
            try? SegmentPaths(directory: directory, baseOffset: index.baseOffset).store(index)
        }
        return (entry, hasChanged)
    }

    /// Reads every segment in full, or the one in the file given, remembering the damage found; blocks.
    func verify(only path: String? = nil) throws(EventLogError) {
        let segments = state.withLock { $0.segments }
        for (number, segment) in segments.enumerated() {
            guard path == nil || path == SegmentPaths(directory: directory, baseOffset: segment.baseOffset).log else {
                continue
            }
            let file: DiskFile
            do throws(EventLogError) {
                if let open = segment.file {
                    file = open
                } else {
                    // One that was replaced has just been read and written in full.
                    guard let opened = try open(segmentAt: segment.baseOffset, generation: segment.generation) else {
                        continue
                    }
                    file = opened
                }
            } catch {
                // Retention may have deleted it meanwhile.
                if number < segments.count - 1, error.systemError == ENOENT, isDeleted(segment.baseOffset) { continue }
                throw error
            }
            let scan = try PartitionRecovery.scan(
                file: file,
                index: SegmentIndex(baseOffset: segment.baseOffset, createdAt: 0),
                byteCount: segment.byteCount,
                nextOffset: segment.nextOffset,
                id: id
            )
            for found in scan.damage { report(found) }
        }
    }

    /// Whether retention has taken the segment away.
    func isDeleted(_ base: Int64) -> Bool {
        state.withLock { state in !state.segments.contains { $0.baseOffset == base } }
    }
}
