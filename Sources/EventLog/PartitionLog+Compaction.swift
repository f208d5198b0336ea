// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Logging
import Synchronization

// What follows runs on the administrator's thread, as everything that removes files does.
extension PartitionLog {
    /// Marks a file that takes the place of several segments; recovery finishes what a crash cut short.
    static let replacementSuffix = ".replacement"

    static func replacementPath(_ directory: String, _ segment: Segment) -> String {
        "\(directory)/\(Segment.stem(segment.baseOffset))-\(Segment.stem(segment.nextOffset))\(replacementSuffix)"
    }

    /// Puts a compacted file in the place of its sources; false where they are not what they were.
    ///
    /// Readers that have a source open go on reading it. A crash leaves the sources or the new file, whole.
    func install(_ outcome: Compactor.Outcome) throws(EventLogError) -> Bool {
        let isCurrent = state.withLock { state in
            guard case .running = state.status, let first = outcome.sources.first else { return false }
            // A deletion that was taken back since would otherwise be done after all.
            guard state.logStartOffset >= outcome.logStart else { return false }
            let place = state.segmentIndex(of: first.baseOffset)
            guard place + outcome.sources.count < state.segments.count else { return false }
            return zip(state.segments[place...], outcome.sources).allSatisfy {
                $0.baseOffset == $1.baseOffset && $0.byteCount == $1.byteCount && $0.generation == $1.generation
            }
        }
        guard isCurrent else {
            try Disk.remove(outcome.temporary)
            return false
        }
        let folder: OpenDirectory
        do throws(EventLogError) {
            folder = try OpenDirectory(directory, closing: environment.openFiles)
        } catch {
            try? Disk.remove(outcome.temporary)  // Else the next start removes it.
            throw error
        }
        var ready = outcome.temporary
        if outcome.sources.count > 1 {
            let replacement = Self.replacementPath(directory, outcome.segment)
            do throws(EventLogError) {
                try Disk.rename(outcome.temporary, to: replacement)
                // From here on the new file counts: see PartitionRecovery. A later round must not leave it behind to be found.
                try folder.synchronize()
            } catch {
                giveUpCompaction(error)
                throw error
            }
            ready = replacement
        }
        state.withLock { $0.swaps += 1 }
        defer { state.withLock { $0.swaps += 1 } }
        do throws(EventLogError) {
            try Self.replaceSources(in: directory, bases: outcome.sources.map(\.baseOffset), by: ready, folder)
        } catch {
            giveUpCompaction(error)
            throw error
        }
        state.withLock { state in
            let place = state.segmentIndex(of: outcome.segment.baseOffset)
            var segment = outcome.segment
            segment.generation = state.swaps
            segment.verified = 0..<0
            state.segments.replaceSubrange(place..<place + outcome.sources.count, with: [segment])
            state.changedSinceCheckpoint = true
        }
        do throws(EventLogError) {
            try folder.synchronize()
        } catch {
            giveUpCompaction(error)
            throw error
        }
        // It can be rebuilt from the segment.
        try? SegmentPaths(directory: directory, baseOffset: outcome.segment.baseOffset).store(outcome.index)
        return true
    }

    /// Removes segments that one file replaces, and gives it the first one's name; durable once the directory is flushed.
    static func replaceSources(
        in directory: String,
        bases: [Int64],
        by path: String,
        _ folder: borrowing OpenDirectory
    ) throws(EventLogError) {
        guard let first = bases.first else { return }
        for base in bases.dropFirst() { try SegmentPaths(directory: directory, baseOffset: base).remove() }
        let paths = SegmentPaths(directory: directory, baseOffset: first)
        // One that tells of other bytes must not be found beside them.
        try Disk.remove(paths.index)
        try Disk.remove(paths.timeIndex)
        if bases.count > 1 { try folder.synchronize() }
        try Disk.rename(path, to: paths.log)
    }

    /// Notes that everything in front of `end` is compacted; durable on return.
    func finishCompaction(_ plan: CompactionPlan, end: Int64, leftovers: Int) throws(EventLogError) {
        // A topic of the same name may have taken the place of one that was deleted meanwhile.
        let isRunning = state.withLock { if case .running = $0.status { true } else { false } }
        guard isRunning else { return }
        var progress = plan.progress
        progress.advance(
            to: end,
            at: plan.now,
            leftovers: leftovers,
            retention: plan.compaction.deleteRetentionMilliseconds
        )
        try progress.store(in: directory)
        let reached = progress
        state.withLock { state in
            state.compaction = reached
            // The records of these are gone, on disk; memory may have them still.
            if state.producers.forgetAborted(below: reached.end) { state.producersChanged = true }
            state.recent.removeAll { $0.baseOffset < reached.end }
            state.recentBytes = state.recent.reduce(0) { $0 + $1.bytes.count }
            state.changedSinceCheckpoint = true
        }
    }

    /// Leaves the partition as it is until the log is opened again.
    func giveUpCompaction(_ error: EventLogError) {
        state.withLock { $0.cannotCompact = true }
        environment.logger.error(
            "a partition is not compacted any more until the engine is started again",
            metadata: ["topic": "\(id.topic)", "partition": "\(id.partition)", "error": "\(error)"]
        )
    }
}
