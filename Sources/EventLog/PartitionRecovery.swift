// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Logging

/// Brings a partition's directory back into service.
///
/// Only a torn tail is ever cut: bytes at the end of the last segment that form no whole batch, behind what the
/// checkpoint knows to have been flushed. Everything else that cannot be read is reported and left alone.
struct PartitionRecovery {
    /// What a scan of one segment found.
    struct Scan {
        var index: SegmentIndex
        var damage: [DamageReport] = []
        /// The end of the last whole batch.
        var validBytes: Int64 = 0
    }

    let id: TopicPartition
    let directory: String
    let settings: TopicSettings
    let checkpoint: CheckpointEntry?
    let logSettings: LocalLogSettings
    let logger: Logger
    private(set) var segments: [Segment] = []
    private(set) var compaction = CompactionState()
    private var damage: [DamageReport] = []
    /// What is known to have been flushed, by the checkpoint or an index.
    private var knownEnd: Int64 = 0
    /// Whether nothing happened since the checkpoint was written.
    private var isAsCheckpointed = false

    init(
        id: TopicPartition,
        directory: String,
        settings: TopicSettings,
        checkpoint: CheckpointEntry?,
        logSettings: LocalLogSettings,
        logger: Logger
    ) {
        self.id = id
        self.directory = directory
        self.settings = settings
        self.checkpoint = checkpoint
        self.logSettings = logSettings
        self.logger = logger
    }

    /// Reads the directory and returns the partition's state; blocks.
    mutating func recover() throws(EventLogError) -> sending PartitionState {
        try Disk.makeDirectories(directory)
        var names = try Disk.names(in: directory)
        if try finishReplacements(among: names) { names = try Disk.names(in: directory) }
        knownEnd = max(checkpoint?.nextOffset ?? 0, try indexedEnd(among: names))
        compaction = CompactionState.load(from: directory)
        let bases = names.compactMap(Segment.baseOffset(ofFileNamed:)).sorted()
        for name in names where name.hasSuffix(".tmp") { try Disk.remove("\(directory)/\(name)") }
        for (number, base) in bases.enumerated() {
            if number + 1 < bases.count {
                try recoverSealed(base, nextOffset: bases[number + 1])
            } else {
                try recoverLast(base)
            }
        }
        if segments.isEmpty {
            // There has always been one: a partition is made with its first segment.
            let lost = (checkpoint?.logStartOffset ?? 0)..<max(knownEnd, checkpoint?.logStartOffset ?? 0)
            addDamage(
                lost,
                file: directory,
                bytes: 0..<0,
                "all segment files are missing" + (lost.isEmpty ? "; how many records were in them is not known" : "")
            )
            segments = [
                try PartitionLog.createSegment(
                    directory: directory,
                    baseOffset: lost.upperBound,
                    createdAt: logSettings.now()
                )
            ]
        } else if let checkpoint, checkpoint.logStartOffset < segments[0].baseOffset {
            addDamage(
                checkpoint.logStartOffset..<segments[0].baseOffset,
                file: directory,
                bytes: 0..<0,
                "the segment files with the first records are missing"
            )
        }
        let end = segments[segments.count - 1].nextOffset
        if compaction.end > end { try forgetCompaction() }
        let firstOffset = segments[0].baseOffset
        var logStart = max(checkpoint?.logStartOffset ?? 0, firstOffset)
        logStart = min(logStart, end)
        var state = PartitionState(
            settings: settings,
            segments: segments,
            logStartOffset: logStart,
            highWatermark: end,
            syncedBytes: segments[segments.count - 1].byteCount,
            syncedOffset: end
        )
        let recovered = try recoverProducers(among: names, from: logStart, to: end)
        state.producers = recovered.table
        state.snapshots = recovered.snapshots
        state.producersChanged = recovered.isNewer
        state.damage = damage + recovered.damage
        // What is missing in front is told once: the checkpoint then begins behind it.
        state.changedSinceCheckpoint = !isAsCheckpointed || !damage.isEmpty
        state.compaction = compaction
        // Whoever writes or reads next opens it again: most partitions of many are idle.
        state.segments[state.segments.count - 1].file = nil
        return state
    }

    /// The end of what indexes know to have been flushed, also of segments whose own files are missing.
    private func indexedEnd(among names: [String]) throws(EventLogError) -> Int64 {
        let bases = Set(names.compactMap(Segment.baseOffset(ofFileNamed:)))
        var end: Int64 = 0
        for name in names where name.hasSuffix(".index") {
            guard let base = Segment.baseOffset(ofFileNamed: name.dropLast(".index".count) + ".log"),
                !bases.contains(base), bases.allSatisfy({ $0 < base }),
                let summary = SegmentPaths(directory: directory, baseOffset: base).loadSummary(),
                summary.baseOffset == base
            else { continue }
            end = max(end, summary.nextOffset)
        }
        return end
    }

    /// Forgets how far compaction has come: it tells of records that are not those that are there.
    private mutating func forgetCompaction() throws(EventLogError) {
        logger.warning(
            "the log ends in front of what was compacted; everything is compacted again",
            metadata: ["topic": "\(id.topic)", "partition": "\(id.partition)", "offset": "\(compaction.end)"]
        )
        compaction = CompactionState()
        // Left there, it would be believed at the next start, when other records have these offsets.
        try Disk.remove("\(directory)/\(CompactionState.fileName)")
        try Disk.synchronizeDirectory(directory)
    }

    /// Puts compacted files in their places where a crash came between; true where there were any.
    ///
    /// What a crash leaves is whole. One that is not was damaged since, and must not take the place of what is.
    private mutating func finishReplacements(among names: [String]) throws(EventLogError) -> Bool {
        var hasFinished = false
        for name in names where name.hasSuffix(PartitionLog.replacementSuffix) {
            let offsets = name.dropLast(PartitionLog.replacementSuffix.count).split(separator: "-").map { Int64($0) }
            guard offsets.count == 2, let first = offsets[0], let end = offsets[1] else { continue }
            let bases = names.compactMap(Segment.baseOffset(ofFileNamed:)).filter { $0 > first && $0 < end }
            hasFinished = true
            let path = "\(directory)/\(name)"
            if let checkpoint, end <= checkpoint.logStartOffset, bases.isEmpty,
                !names.contains(Segment.stem(first) + ".log")
            {
                // Compaction stopped in front of its last step, and what it was to replace has expired since.
                try Disk.remove(path)
                continue
            }
            if let reason = try Self.fault(ofReplacement: path, from: first, to: end) {
                let aside = "\(path).damaged-\(logSettings.now())"
                try Disk.rename(path, to: aside)
                try Disk.synchronizeDirectory(directory)
                addDamage(
                    0..<0,
                    file: aside,
                    bytes: 0..<0,
                    "a compacted file is damaged (\(reason)) and was set aside; the segments it was to replace stay as they are"
                )
                continue
            }
            // The first one may have been removed already; its name is what counts.
            let folder = try OpenDirectory(directory)
            try PartitionLog.replaceSources(in: directory, bases: [first] + bases, by: path, folder)
            try folder.synchronize()
            logger.notice(
                "finished a compaction",
                metadata: ["topic": "\(id.topic)", "partition": "\(id.partition)", "file": "\(name)"]
            )
        }
        return hasFinished
    }

    /// What is wrong with a compacted file, which must have a sound batch for every offset of its range; nil for nothing.
    private static func fault(
        ofReplacement path: String,
        from first: Int64,
        to end: Int64
    ) throws(EventLogError) -> String? {
        let file = try DiskFile(path: path, flags: O_RDONLY)
        guard end > first, first >= 0 else { return "its name gives no range of offsets" }
        var scanner = SegmentScanner(file: file, from: 0, expecting: first, end: try file.size())
        while true {
            switch try scanner.next() {
            case .batch: continue
            case .invalid(let position, let reason): return "at byte \(position): \(reason)"
            case .end:
                guard scanner.expectedOffset != end else { return nil }
                return "it ends at offset \(scanner.expectedOffset) instead of \(end)"
            }
        }
    }

    private mutating func recoverSealed(_ base: Int64, nextOffset: Int64) throws(EventLogError) {
        let paths = SegmentPaths(directory: directory, baseOffset: base)
        let file = try DiskFile(path: paths.log, flags: O_RDONLY)
        let size = try file.size()
        let modified = try file.modifiedMilliseconds()
        let isOld = checkpoint.map { base < $0.segmentBase } ?? false
        if isOld, let summary = paths.loadSummary(), summary.baseOffset == base, summary.coveredBytes == size,
            summary.nextOffset == nextOffset, !summary.hasGap
        {
            segments.append(
                Segment(
                    baseOffset: base,
                    nextOffset: nextOffset,
                    byteCount: size,
                    maxTimestamp: summary.maxTimestamp,
                    createdAt: summary.createdAt
                )
            )
            return
        }
        let scan = try Self.scan(
            file: file,
            index: SegmentIndex(baseOffset: base, createdAt: modified),
            byteCount: size,
            nextOffset: nextOffset,
            id: id
        )
        damage += scan.damage
        let end = scan.index.coveredBytes
        if end < size { try DiskFile(path: paths.log, flags: O_RDWR).truncate(to: end) }
        try paths.store(scan.index)
        segments.append(
            Segment(
                baseOffset: base,
                nextOffset: nextOffset,
                byteCount: end,
                maxTimestamp: scan.index.maxTimestamp,
                createdAt: modified
            )
        )
    }

    private mutating func recoverLast(_ base: Int64) throws(EventLogError) {
        let paths = SegmentPaths(directory: directory, baseOffset: base)
        let file = try DiskFile(path: paths.log, flags: O_RDWR)
        let known = checkpoint.flatMap { $0.segmentBase == base ? $0 : nil }
        // Where the checkpoint tells of a later segment, this one was closed, and flushed in full.
        let wasSealed = checkpoint.map { $0.segmentBase > base } ?? false
        let knownBytes = wasSealed ? try file.size() : known?.syncedBytes ?? 0
        // What a killed process had reserved behind its last record reads as zeros.
        var size = try file.writtenEnd(from: knownBytes)
        if size > knownBytes, try file.isZero(knownBytes..<size) { size = knownBytes }
        var index = SegmentIndex(baseOffset: base, createdAt: try file.modifiedMilliseconds())
        if let old = paths.loadIndex(), old.baseOffset == base, !old.hasGap,
            old.coveredBytes <= min(knownBytes, size)
        {
            index = old
            isAsCheckpointed = knownBytes == size && old.coveredBytes == size && known?.nextOffset == old.nextOffset
        }
        if size == 0, let known, known.syncedBytes == 0, known.nextOffset == base { isAsCheckpointed = true }
        let scan = try scanEnd(of: file, index, &size)
        index = scan.index
        damage += scan.damage
        var end = scan.validBytes
        if end < size, end >= knownBytes, try file.isZero(end..<size) { size = end }
        let isTorn = end < size && end >= knownBytes
        if isTorn { noteTornTail(of: paths.log, bytes: size - end, at: index.nextOffset) }
        // Gives back what was reserved, too.
        try file.truncate(to: isTorn ? end : size)
        if end > knownBytes || end < size {
            // What a killed process wrote may be in the page cache only. Readers will see it, so it has to last.
            let number = logSettings.synchronize(file.descriptor)
            guard number == 0 else { throw Disk.error(number, "cannot flush", file.path) }
        }
        let nextOffset = max(index.nextOffset, knownEnd)
        let isDamagedAtEnd = end < knownBytes || nextOffset > index.nextOffset
        if isDamagedAtEnd {
            end = size
            addDamage(
                index.nextOffset..<nextOffset,
                file: paths.log,
                bytes: scan.validBytes..<max(size, knownBytes),
                "records that had been flushed are missing or unreadable at the end of the segment"
            )
            index.skip(toPosition: size, nextOffset: nextOffset)
        }
        segments.append(
            Segment(
                baseOffset: base,
                nextOffset: nextOffset,
                byteCount: end,
                maxTimestamp: index.maxTimestamp,
                createdAt: index.createdAt,
                file: file,
                index: index,
                verified: end..<end
            )
        )
        if isDamagedAtEnd, nextOffset > base {
            // The damaged file stays as it is; new records go to a new one.
            try paths.store(index)
            segments.append(
                try PartitionLog.createSegment(
                    directory: directory,
                    baseOffset: nextOffset,
                    createdAt: logSettings.now()
                )
            )
        }
    }

    /// Reads the last segment up to `size`, or further where a batch goes on behind it; `size` is then where it was read to.
    private func scanEnd(of file: DiskFile, _ index: SegmentIndex, _ size: inout Int64) throws(EventLogError) -> Scan {
        let scan = try Self.scan(file: file, index: index, byteCount: size, nextOffset: nil, id: id)
        let fileSize = try file.size()
        guard scan.validBytes < size, size < fileSize, try !file.isZero(scan.validBytes..<size) else { return scan }
        // A file system may keep zeros that were written as if nothing had been.
        size = fileSize
        return try Self.scan(file: file, index: index, byteCount: size, nextOffset: nil, id: id)
    }

    private func noteTornTail(of path: String, bytes: Int64, at offset: Int64) {
        logger.notice(
            "cut a torn tail",
            metadata: [
                "topic": "\(id.topic)", "partition": "\(id.partition)", "file": "\(path)", "bytes": "\(bytes)",
                "offset": "\(offset)",
            ]
        )
    }

    private mutating func addDamage(_ offsets: Range<Int64>, file: String, bytes: Range<Int64>, _ reason: String) {
        let report = DamageReport(
            topic: id.topic,
            partition: id.partition,
            offsets: offsets,
            file: file,
            bytes: bytes,
            reason: reason
        )
        damage.append(report)
    }

    /// Reads a segment from where `index` ends, adding to it.
    ///
    /// With `nextOffset` the segment is sealed and everything up to that offset is expected; the index then covers the whole
    /// file, save room that was reserved and never written. Without, unreadable bytes
    /// at the very end are not reported: the caller decides whether they are a torn tail.
    static func scan(
        file: DiskFile,
        index: SegmentIndex,
        byteCount: Int64,
        nextOffset: Int64?,
        id: TopicPartition
    ) throws(EventLogError) -> Scan {
        var result = Scan(index: index)
        result.validBytes = index.coveredBytes
        var scanner = SegmentScanner(
            file: file,
            from: min(index.coveredBytes, byteCount),
            expecting: index.nextOffset,
            end: byteCount
        )
        func damage(_ offsets: Range<Int64>, _ bytes: Range<Int64>, _ reason: String) -> DamageReport {
            DamageReport(
                topic: id.topic,
                partition: id.partition,
                offsets: offsets,
                file: file.path,
                bytes: bytes,
                reason: reason
            )
        }
        var reason = "the segment ends early"
        while true {
            switch try scanner.next() {
            case .batch(let header, let position):
                result.index.add(header, at: position)
                result.validBytes = scanner.position
                continue
            case .invalid(let position, let why):
                let expected = scanner.expectedOffset
                if try scanner.resynchronize(), scanner.expectedOffset <= nextOffset ?? .max {
                    result.damage.append(
                        damage(expected..<scanner.expectedOffset, position..<scanner.position, why)
                    )
                    result.index.skip(toPosition: scanner.position, nextOffset: scanner.expectedOffset)
                    continue
                }
                reason = why
            case .end: break
            }
            break
        }
        guard let nextOffset else { return result }
        if result.index.nextOffset < nextOffset {
            result.damage.append(
                damage(result.index.nextOffset..<nextOffset, result.validBytes..<byteCount, reason)
            )
        } else if result.validBytes < byteCount, try file.isZero(result.validBytes..<byteCount) {
            // Reserved room: it was given back when the segment was closed, but a crash of the machine kept it.
            return result
        }
        result.index.skip(toPosition: byteCount, nextOffset: nextOffset)
        return result
    }
}
