// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Synchronization

extension PartitionLog {
    /// The most bytes of a range that are read from the disk at once, so that others get their turn.
    private static let coldBytesMax: Int64 = 4 << 20

    /// See ``LocalLog/readRange(_:from:bytesMax:isolation:memoryBytesMax:)``.
    func readRange(
        from offset: Int64,
        bytesMax: Int,
        memoryBytesMax: Int,
        isolation: ReadIsolation
    ) async throws -> RecordRange {
        switch plan(offset, isolation, memoryBytesMax: memoryBytesMax) {
        case .memory(let chunks, let bounds):
            return RecordRange(Self.assemble(chunks, offset, min(bytesMax, memoryBytesMax), bounds))
        case .disk(let diskPlan):
            let range = try await onReaderThread { () throws(EventLogError) in
                try self.rangeOnDisk(diskPlan, offset, max(0, min(bytesMax, Int(Int32.max))))
            }
            if let range { return range }
        default: break
        }
        // Nothing there or not readable: as any other read.
        return RecordRange(try await read(from: offset, bytesMax: bytesMax, wait: .zero, isolation: isolation))
    }

    /// Finds where the batches stand by their headers; `nil` where the wanted one cannot be read.
    private func rangeOnDisk(
        _ plan: DiskPlan,
        _ offset: Int64,
        _ bytesMax: Int
    ) throws(EventLogError) -> RecordRange? {
        let file: DiskFile
        let start: (position: Int64, offset: Int64)
        do throws(EventLogError) {
            // One that was replaced is read in the ordinary way, once.
            guard let opened = try openForReading(plan, offset) else { return nil }
            (file, start) = opened
        } catch {
            // The ordinary way tells what is wrong.
            return nil
        }
        var walk = HeaderWalk(file: file, position: start.position, offset: start.offset, end: plan.limit)
        var first: Int64?
        while first == nil {
            guard let header = try walk.next(), header.baseOffset < plan.bounds.limit else { return nil }
            guard header.nextOffset > offset else { continue }
            // The ordinary way verifies what it passes over.
            guard header.recordCount > 0 else { return nil }
            first = walk.position - Int64(header.batchByteCount)
        }
        guard let first else { return nil }
        var end = (position: walk.position, offset: walk.offset)
        // What the disk has to be asked for is read here, where others wait for it, not where it is sent.
        let isCached = file.isCached(at: first, count: min(Int64(bytesMax), plan.limit - first))
        let bytesEnd = first + (isCached ? Int64(bytesMax) : min(Int64(bytesMax), Self.coldBytesMax))
        if let further = indexed(plan, between: end.position, and: bytesEnd) { end = further }
        walk = HeaderWalk(file: file, position: end.position, offset: end.offset, end: plan.limit)
        while let header = try walk.next(), header.baseOffset < plan.bounds.limit, walk.position <= bytesEnd {
            end = (walk.position, walk.offset)
        }
        let (verified, wasRead) = try verify(plan, file, from: first, to: end)
        end = verified
        guard end.position > first else { return nil }
        if !isCached, !wasRead { try file.bringIntoCache(at: first, count: end.position - first) }
        return RecordRange(
            FileRange(
                file: file,
                position: first,
                byteCount: Int(end.position - first),
                loan: environment.openFiles.lend()
            ),
            from: offset,
            next: end.offset,
            plan.bounds
        )
    }

    /// Returns where the batches end whose checksums are right, reading those that nobody has verified since the start.
    ///
    /// A file is sent as it is, so this is the only look anybody takes at it on this side; clients may look or not. What was verified
    /// is remembered, so a reader that goes through a segment has each of its bytes read here once, and finds them in the page cache
    /// when they are sent.
    private func verify(
        _ plan: DiskPlan,
        _ file: DiskFile,
        from start: Int64,
        to end: (position: Int64, offset: Int64)
    ) throws(EventLogError) -> (end: (position: Int64, offset: Int64), wasRead: Bool) {
        let known = state.withLock { state in
            let segment = state.segments[state.segmentIndex(of: plan.segmentBase)]
            return segment.generation == plan.generation ? segment.verified : 0..<0
        }
        if known.lowerBound <= start, end.position <= known.upperBound { return (end, false) }
        var position = start
        var offset = plan.segmentBase
        reading: while position < end.position {
            var count = min(end.position - position, Self.verifiedAtOnce)
            var window = try file.read(at: position, count: Int(count))
            if let header = try? RecordBatchHeader(parsing: window), header.batchByteCount > window.count {
                count = min(end.position - position, Int64(header.batchByteCount))
                window = try file.read(at: position, count: Int(count))
            }
            var local = 0
            while let header = try? RecordBatchHeader(parsing: window, at: local),
                header.batchByteCount <= window.count - local
            {
                guard header.hasValidChecksum(in: window, at: local) else { break reading }
                local += header.batchByteCount
                position += Int64(header.batchByteCount)
                offset = header.nextOffset
            }
            if local == 0 { break }
        }
        state.withLock { state in
            let place = state.segmentIndex(of: plan.segmentBase)
            // Retention may have removed it meanwhile, compaction replaced it.
            guard state.segments[place].baseOffset == plan.segmentBase,
                state.segments[place].generation == plan.generation
            else { return }
            state.segments[place].noteVerified(start..<position)
        }
        return ((position, offset), true)
    }

    private static let verifiedAtOnce: Int64 = 1 << 20

    /// Returns the last indexed batch that begins in this stretch of the segment, in front of what is damaged or not for
    /// this reader.
    private func indexed(
        _ plan: DiskPlan,
        between start: Int64,
        and end: Int64
    ) -> (position: Int64, offset: Int64)? {
        let path = SegmentPaths(directory: directory, baseOffset: plan.segmentBase).log
        return state.withLock { state in
            let segment = state.segments[state.segmentIndex(of: plan.segmentBase)]
            guard segment.baseOffset == plan.segmentBase, segment.generation == plan.generation,
                let index = segment.index
            else { return nil }
            var last = end
            for known in state.damage where known.file == path && known.bytes.lowerBound >= start {
                last = min(last, known.bytes.lowerBound)
            }
            guard let found = index.start(atOrBefore: last, offset: plan.bounds.limit), found.position > start else {
                return nil
            }
            return found
        }
    }
}

/// Goes from batch to batch, reading little more than their headers.
private struct HeaderWalk {
    private static let windowBytes = 4096

    let file: DiskFile
    /// The end of the batch returned last.
    private(set) var position: Int64
    /// The offset after it.
    private(set) var offset: Int64
    let end: Int64
    private var window: [UInt8] = []
    private var windowStart: Int64 = 0

    init(file: DiskFile, position: Int64, offset: Int64, end: Int64) {
        self.file = file
        self.position = position
        self.offset = offset
        self.end = end
    }

    /// Returns the next header; `nil` at the end and in front of what is no batch with the offset expected.
    mutating func next() throws(EventLogError) -> RecordBatchHeader? {
        guard end - position >= Int64(RecordBatchHeader.byteCount) else { return nil }
        if position < windowStart || position + Int64(RecordBatchHeader.byteCount) > windowStart + Int64(window.count) {
            window = try file.read(at: position, count: Int(min(end - position, Int64(Self.windowBytes))))
            windowStart = position
        }
        guard let header = try? RecordBatchHeader(parsing: window, at: Int(position - windowStart)),
            header.baseOffset == offset, Int64(header.batchByteCount) <= end - position
        else { return nil }
        position += Int64(header.batchByteCount)
        offset = header.nextOffset
        return header
    }
}
