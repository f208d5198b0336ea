// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Synchronization

/// Writes closed segments of one partition anew, with the last record of each key only.
///
/// Everything here blocks and belongs on the thread for it. Offsets stay what they are. What is removed leaves no gap between batches: a
/// batch without a producer takes up the offsets behind it, else an empty batch does, so a segment is read as any other one.
struct Compactor: Sendable {
    /// A file that may take the place of segments.
    struct Outcome: Sendable {
        let sources: [Segment]
        let temporary: String
        let segment: Segment
        let index: SegmentIndex
        let leftovers: Int
        /// What lies in front of this was left out.
        let logStart: Int64
    }

    /// Stops the work where the log is closed, and keeps it from taking all of the disk.
    final class Pace: Sendable {
        private let bytesPerSecond: Int
        private let isStopped = Atomic<Bool>(false)

        init(bytesPerSecond: Int) {
            self.bytesPerSecond = max(1 << 20, bytesPerSecond)
        }

        func stop() { isStopped.store(true, ordering: .relaxed) }

        /// Waits as long as this many bytes may take.
        func spend(_ bytes: Int) throws(EventLogError) {
            guard !isStopped.load(ordering: .relaxed) else {
                throw EventLogError(.closed, "the event log is being closed")
            }
            usleep(UInt32(min(1_000_000, bytes * 1_000_000 / bytesPerSecond)))
        }
    }

    private static let stepBytes = 1 << 20

    let id: TopicPartition
    let directory: String
    let plan: CompactionPlan
    let pace: Pace
    let synchronize: @Sendable (Int32) -> Int32

    // MARK: Keys

    /// Reads the keys behind what has been compacted; returns them and the offset they reach to.
    func readKeys(bytesMax: Int) throws(EventLogError) -> (keys: KeyOffsets, end: Int64) {
        var keys = KeyOffsets(bytesMax: bytesMax)
        var end = plan.segments.last?.nextOffset ?? plan.start
        for segment in plan.segments where segment.nextOffset > plan.start {
            var isFull = false
            try forEachBatch(in: segment) { (header, bytes) throws(EventLogError) in
                guard header.nextOffset > plan.start, !header.isControl, !plan.isAborted(header) else { return true }
                guard keys.fits(Int(header.recordCount)) else {
                    end = header.baseOffset
                    isFull = true
                    return false
                }
                var walk = RecordBatches(bytes, verifiesChecksums: false)
                // A batch that cannot be read is kept as it is.
                while let record = try? walk.nextRecord() {
                    if record.offset >= plan.start, let key = record.key { keys.set(key, to: record.offset) }
                }
                return true
            }
            if isFull { break }
        }
        return (keys, end)
    }

    // MARK: Segments

    /// The segments to be written into one each, up to the offset the keys reach to.
    func groups(upTo end: Int64) -> [[Segment]] {
        var groups: [[Segment]] = []
        var bytes: Int64 = 0
        for segment in plan.segments where segment.baseOffset < end {
            bytes += segment.byteCount
            let first = groups.last?.first
            let span = segment.nextOffset - (first?.baseOffset ?? segment.baseOffset)
            if first != nil, bytes <= plan.settings.segmentBytes, span <= Int64(Int32.max) {
                groups[groups.count - 1].append(segment)
            } else {
                groups.append([segment])
                bytes = segment.byteCount
            }
        }
        return groups
    }

    /// Writes a group of segments anew; `nil` where it can stay as it is, with the number of tombstones and markers in it.
    func rewrite(_ group: [Segment], _ keys: KeyOffsets) throws(EventLogError) -> (outcome: Outcome?, leftovers: Int) {
        var leftovers = 0
        if group.count == 1 {
            var isChanged = false
            try forEachBatch(in: group[0]) { (header, bytes) throws(EventLogError) in
                switch verdict(header, bytes, keys, &leftovers) {
                case .keep: return true
                case .drop, .replace:
                    isChanged = true
                    return false
                }
            }
            guard isChanged else { return (nil, leftovers) }
            leftovers = 0
        }
        let writer = try SegmentWriter(directory: directory, group: group)
        do throws(EventLogError) {
            for segment in group {
                try forEachBatch(in: segment) { (header, bytes) throws(EventLogError) in
                    switch verdict(header, bytes, keys, &leftovers) {
                    case .keep: try writer.add(bytes, header)
                    case .replace(let made, let changed): try writer.add(made, changed)
                    case .drop: break
                    }
                    return true
                }
            }
            try writer.finish(synchronize)
        } catch {
            unlink(writer.path)
            throw error
        }
        let outcome = Outcome(
            sources: group,
            temporary: writer.path,
            segment: writer.segment,
            index: writer.index,
            leftovers: leftovers,
            logStart: plan.logStart
        )
        return (outcome, leftovers)
    }

    private enum Verdict {
        case keep
        case drop
        case replace([UInt8], RecordBatchHeader)
    }

    private func verdict(
        _ header: RecordBatchHeader,
        _ bytes: [UInt8],
        _ keys: KeyOffsets,
        _ leftovers: inout Int
    ) -> Verdict {
        if header.nextOffset <= plan.logStart { return .drop }
        // The log ends with a record, or readers that are to stop at the end would not learn that they are there.
        let isEnd = header.nextOffset == plan.segments.last?.nextOffset
        if header.isControl {
            // A marker that readers are told of by its offset stays until they are not.
            if !isEnd, plan.hasExpired(header.baseOffset), !plan.abortMarkers.contains(header.baseOffset) {
                return .drop
            }
            leftovers += 1
            return .keep
        }
        let isLast = header.producerID >= 0 && plan.lastBatches[header.producerID] == header.baseOffset
        if header.recordCount == 0 { return isLast ? .keep : .drop }
        var tombstones = 0
        let made: [UInt8]?
        if plan.isAborted(header) {
            made = RecordFilter.emptied(bytes)
        } else {
            do throws(RecordBatchError) {
                made = try RecordFilter.filter(bytes) { record in
                    // Refused today; they may be older than the setting.
                    guard let key = record.key else { return false }
                    if let last = keys.offset(of: key), last > record.offset { return false }
                    guard record.value == nil else { return true }
                    if !isEnd, plan.hasExpired(record.offset) { return false }
                    tombstones += 1
                    return true
                }
            } catch {
                // Who reads them may know more than we do.
                return .keep
            }
        }
        leftovers += tombstones
        guard let made else { return .keep }
        guard let changed = try? RecordBatchHeader(parsing: made) else { return .keep }
        if changed.recordCount == 0, !isLast { return .drop }
        return .replace(made, changed)
    }

    /// Hands over each batch with its bytes until the body wants no more.
    private func forEachBatch(
        in segment: Segment,
        _ body: (RecordBatchHeader, [UInt8]) throws(EventLogError) -> Bool
    ) throws(EventLogError) {
        let path = SegmentPaths(directory: directory, baseOffset: segment.baseOffset).log
        let file = try DiskFile(path: path, flags: O_RDONLY)
        guard try file.size() >= segment.byteCount else {
            throw damaged(path, segment.baseOffset, "it is shorter than it was")
        }
        var scanner = SegmentScanner(file: file, from: 0, expecting: segment.baseOffset, end: segment.byteCount)
        var paid: Int64 = 0
        while true {
            switch try scanner.next() {
            case .batch(let header, let position):
                guard try body(header, scanner.bytes(of: header, at: position)) else { return }
                if scanner.position - paid >= Int64(Self.stepBytes) {
                    try pace.spend(Int(scanner.position - paid))
                    paid = scanner.position
                }
            case .invalid(_, let reason): throw damaged(path, scanner.expectedOffset, reason)
            case .end:
                guard scanner.expectedOffset == segment.nextOffset else {
                    // The writer would take up these offsets, and nobody would miss the records any more.
                    let reason = "records up to offset \(segment.nextOffset) are missing"
                    throw damaged(path, scanner.expectedOffset, reason)
                }
                return
            }
        }
    }

    private func damaged(_ path: String, _ offset: Int64, _ reason: String) -> EventLogError {
        EventLogError(
            .damaged,
            "\(path) cannot be compacted at offset \(offset): \(reason)",
            offset: offset,
            path: path
        )
        .at(id)
    }
}

/// Writes batches into a new segment file, back to back in their offsets.
final class SegmentWriter {
    private static let bufferBytes = 1 << 20

    let path: String
    private(set) var segment: Segment
    private(set) var index: SegmentIndex
    private let file: DiskFile
    private let end: Int64
    private let modified: Int64
    private var buffer: [UInt8] = []
    private var position: Int64 = 0
    /// The offset after the last batch added.
    private var next: Int64
    /// The last batch added, which may have to take up offsets behind it.
    private var last: (bytes: [UInt8], header: RecordBatchHeader)?

    init(directory: String, group: [Segment]) throws(EventLogError) {
        let base = group[0].baseOffset
        path = "\(directory)/\(Segment.stem(base)).compacting.tmp"
        file = try DiskFile(path: path, flags: O_RDWR | O_CREAT | O_TRUNC)
        end = group[group.count - 1].nextOffset
        next = base
        let newest = SegmentPaths(directory: directory, baseOffset: group[group.count - 1].baseOffset).log
        modified = try DiskFile(path: newest, flags: O_RDONLY).modifiedMilliseconds()
        index = SegmentIndex(baseOffset: base, createdAt: group[0].createdAt)
        segment = Segment(
            baseOffset: base,
            nextOffset: end,
            byteCount: 0,
            maxTimestamp: .min,
            createdAt: group[0].createdAt
        )
    }

    func add(_ bytes: [UInt8], _ header: RecordBatchHeader) throws(EventLogError) {
        try fill(to: header.baseOffset)
        try flushLast()
        last = (bytes, header)
        next = header.nextOffset
    }

    /// Takes up the offsets to the end and flushes the file.
    func finish(_ synchronize: (Int32) -> Int32) throws(EventLogError) {
        try fill(to: end)
        try flushLast()
        try flushBuffer()
        let number = synchronize(file.descriptor)
        guard number == 0 else { throw Disk.error(number, "cannot flush", path) }
        // Retention goes by the time of the last write where records have none.
        var times = [timespec(), timespec()]
        for place in times.indices {
            times[place].tv_sec = Int(modified / 1000)
            times[place].tv_nsec = Int(modified % 1000) * 1_000_000
        }
        futimens(file.descriptor, times)
        segment.byteCount = position
        segment.maxTimestamp = index.maxTimestamp
    }

    private func fill(to offset: Int64) throws(EventLogError) {
        guard offset > next else { return }
        if var (bytes, header) = last, header.producerID < 0, !header.isControl {
            RecordFilter.extend(&bytes, to: offset)
            header.lastOffsetDelta = Int32(offset - header.baseOffset - 1)
            last = (bytes, header)
        } else {
            try flushLast()
            let bytes = RecordFilter.placeholder(for: next..<offset, leaderEpoch: PartitionLog.leaderEpoch)
            guard let header = try? RecordBatchHeader(parsing: bytes) else {
                throw EventLogError(.inputOutput, "offsets \(next)..<\(offset) cannot be taken up", path: path)
            }
            last = (bytes, header)
        }
        next = offset
    }

    private func flushLast() throws(EventLogError) {
        guard let (bytes, header) = last else { return }
        last = nil
        index.add(header, at: position)
        position += Int64(bytes.count)
        buffer += bytes
        if buffer.count >= Self.bufferBytes { try flushBuffer() }
    }

    private func flushBuffer() throws(EventLogError) {
        try file.write(buffer, at: position - Int64(buffer.count))
        buffer.removeAll(keepingCapacity: true)
    }
}
