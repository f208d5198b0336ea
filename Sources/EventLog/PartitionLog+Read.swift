// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Synchronization

extension PartitionLog {
    enum ReadPlan: Sendable {
        case failed(EventLogError)
        case nothingYet(ReadResult)
        case memory([PartitionState.RecentChunk], ReadBounds)
        case disk(DiskPlan)
    }

    /// What an answer says of the log as a whole.
    struct ReadBounds: Sendable {
        let highWatermark: Int64
        let lastStable: Int64
        let logStart: Int64
        /// Batches from this offset on are not for this reader.
        let limit: Int64
        /// For readers of committed records.
        let aborted: [AbortedSpan]

        func result(_ bytes: [UInt8], from offset: Int64, next: Int64) -> ReadResult {
            ReadResult(
                bytes: bytes,
                highWatermark: highWatermark,
                lastStableOffset: lastStable,
                logStartOffset: logStart,
                nextOffset: next,
                abortedTransactions: abortedTransactions(from: offset, to: next)
            )
        }

        func abortedTransactions(from offset: Int64, to next: Int64) -> [AbortedTransaction] {
            aborted.isEmpty || next <= offset ? [] : ProducerTable.aborted(aborted, among: offset..<next)
        }
    }

    /// Where on disk to look.
    struct DiskPlan: Sendable {
        let segmentBase: Int64
        let segmentNext: Int64
        let generation: UInt64
        let limit: Int64
        let file: DiskFile?
        let start: (position: Int64, offset: Int64)?
        let bounds: ReadBounds
    }

    /// See ``EventLog/read(_:from:bytesMax:wait:isolation:)``.
    func read(
        from offset: Int64,
        bytesMax: Int,
        wait: Duration,
        isolation: ReadIsolation
    ) async throws -> ReadResult {
        let clock = ContinuousClock()
        let deadline = wait > .zero ? clock.now.advanced(by: wait) : nil
        var offset = offset
        while true {
            switch plan(offset, isolation) {
            case .failed(let error): throw error
            case .memory(let chunks, let bounds): return Self.assemble(chunks, offset, bytesMax, bounds)
            case .disk(let diskPlan):
                let place = offset
                let found = try await onReaderThread { () throws(EventLogError) in
                    try self.readFromDisk(diskPlan, place, max(0, min(bytesMax, 64 << 20)))
                }
                if !found.bytes.isEmpty || found.nextOffset <= offset { return found }
                // Compaction has left nothing up to there. Clients do not go on from an answer without any record.
                offset = found.nextOffset
            case .nothingYet(let empty):
                try Task.checkCancellation()
                guard let deadline else { return empty }
                let left = clock.now.duration(to: deadline)
                guard left > .zero, try await waitForRecords(at: offset, isolation, atMost: left) else { return empty }
            }
        }
    }

    /// Runs blocking work on a reader thread.
    func onReaderThread<Value: Sendable>(
        _ work: @escaping @Sendable () throws(EventLogError) -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            let accepted = environment.readers.submit {
                do {
                    continuation.resume(returning: try work())
                } catch {
                    continuation.resume(throwing: error)
                }
            }
            switch accepted {
            case true: break
            case false:
                continuation.resume(
                    throwing: EventLogError(.overloaded, "too many reads are waiting; try again").at(id)
                )
            default: continuation.resume(throwing: EventLogError(.closed, "the event log is closed").at(id))
            }
        }
    }

    /// Says where to read from: from memory where it has the records, unless the answer may have less than the first of them there.
    func plan(_ offset: Int64, _ isolation: ReadIsolation, memoryBytesMax: Int? = nil) -> ReadPlan {
        state.withLock { state in
            if case .gone(let error) = state.status { return .failed(error) }
            guard offset >= state.logStartOffset, offset <= state.highWatermark else {
                return .failed(
                    EventLogError(
                        .offsetOutOfRange,
                        "offset \(offset) is outside \(state.logStartOffset)...\(state.highWatermark)",
                        offset: offset
                    ).at(id)
                )
            }
            let bounds = readBounds(isolation, in: state)
            if offset >= bounds.limit { return .nothingYet(bounds.result([], from: offset, next: offset)) }
            if let first = state.recent.first, offset >= first.baseOffset {
                let from = state.recent.lastIndex { $0.baseOffset <= offset } ?? 0
                guard state.recent[from].bytes.count <= memoryBytesMax ?? .max else {
                    return .disk(diskPlan(forOffset: offset, bounds, in: state))
                }
                return .memory(Array(state.recent[from...]), bounds)
            }
            if let known = state.damage(at: offset) { return .failed(damagedError(known, offset, state)) }
            state.segments[state.segmentIndex(of: offset)].wasUsed = true
            return .disk(diskPlan(forOffset: offset, bounds, in: state))
        }
    }

    func readBounds(_ isolation: ReadIsolation, in state: PartitionState) -> ReadBounds {
        let lastStable = state.lastStableOffset
        return ReadBounds(
            highWatermark: state.highWatermark,
            lastStable: lastStable,
            logStart: state.logStartOffset,
            limit: isolation == .committed ? lastStable : state.highWatermark,
            aborted: isolation == .committed ? state.producers.aborted : []
        )
    }

    func diskPlan(forOffset offset: Int64, _ bounds: ReadBounds, in state: PartitionState) -> DiskPlan {
        let segment = state.segments[state.segmentIndex(of: offset)]
        var start = segment.index?.start(forOffset: offset)
        // Damage between the indexed batch and the wanted one is stepped over where it is known.
        let path = SegmentPaths(directory: directory, baseOffset: segment.baseOffset).log
        for known in state.damage where known.file == path && known.offsets.upperBound <= offset {
            if let found = start, found.offset < known.offsets.upperBound {
                start = (known.bytes.upperBound, known.offsets.upperBound)
            }
        }
        return DiskPlan(
            segmentBase: segment.baseOffset,
            segmentNext: segment.nextOffset,
            generation: segment.generation,
            limit: segment.byteCount,
            file: segment.file,
            start: start,
            bounds: bounds
        )
    }

    func damagedError(_ known: DamageReport, _ offset: Int64, _ state: PartitionState) -> EventLogError {
        var next = known.offsets.upperBound
        while let following = state.damage(at: next) { next = following.offsets.upperBound }
        return EventLogError(
            .damaged,
            "offset \(offset) cannot be read: \(known); continue at offset \(next) or restore the file from a backup",
            offset: offset,
            nextReadableOffset: next,
            path: known.file
        ).at(id)
    }

    // MARK: Memory

    static func assemble(
        _ chunks: [PartitionState.RecentChunk],
        _ offset: Int64,
        _ bytesMax: Int,
        _ bounds: ReadBounds
    ) -> ReadResult {
        func result(_ bytes: [UInt8], _ next: Int64) -> ReadResult { bounds.result(bytes, from: offset, next: next) }
        // One whole chunk, the usual case of a reader that keeps up, is handed out without a copy.
        let first = chunks[0]
        if offset == first.baseOffset, first.bytes.count <= bytesMax, first.nextOffset <= bounds.limit,
            chunks.count == 1 || first.bytes.count + chunks[1].bytes.count > bytesMax
        {
            return result(first.bytes, first.nextOffset)
        }
        var bytes: [UInt8] = []
        var next = offset
        for chunk in chunks {
            if chunk.baseOffset >= bounds.limit { break }
            if chunk.baseOffset >= offset, bytes.count + chunk.bytes.count <= bytesMax,
                chunk.nextOffset <= bounds.limit
            {
                bytes += chunk.bytes
                next = chunk.nextOffset
                continue
            }
            let selected = select(
                from: chunk.bytes,
                offset: offset,
                limit: bounds.limit,
                bytesMax: bytesMax - bytes.count,
                takesFirst: bytes.isEmpty
            )
            if let selected {
                bytes += chunk.bytes[selected.range]
                next = selected.nextOffset
            }
            // A chunk cut short ends the answer.
            if next != chunk.nextOffset { break }
        }
        return result(bytes, next)
    }

    /// Chooses whole batches from the one that holds `offset` on.
    private static func select(
        from bytes: [UInt8],
        offset: Int64,
        limit: Int64,
        bytesMax: Int,
        takesFirst: Bool
    ) -> (range: Range<Int>, nextOffset: Int64)? {
        var position = 0
        var range: Range<Int>?
        var next = offset
        while let header = try? RecordBatchHeader(parsing: bytes, at: position), header.baseOffset < limit {
            let end = position + header.batchByteCount
            if header.nextOffset > offset {
                let start = range?.lowerBound ?? position
                guard end - start <= bytesMax || (range == nil && takesFirst) else { break }
                range = start..<end
                next = header.nextOffset
            }
            position = end
        }
        return range.map { ($0, next) }
    }

    // MARK: Disk

    private func readFromDisk(
        _ first: DiskPlan,
        _ offset: Int64,
        _ bytesMax: Int
    ) throws(EventLogError) -> ReadResult {
        var plan = first
        while true {
            let file: DiskFile
            let start: (position: Int64, offset: Int64)
            do throws(EventLogError) {
                guard let opened = try openForReading(plan, offset) else {
                    plan = try planAgain(offset, plan.bounds)
                    continue
                }
                (file, start) = opened
            } catch  where error.systemError == ENOENT && isDeleted(plan.segmentBase) {
                throw EventLogError(.offsetOutOfRange, "offset \(offset) was deleted", offset: offset).at(id)
            }
            if let found = try readBatches(file, from: start, plan: plan, offset: offset, bytesMax: bytesMax) {
                return found
            }
            // Something between the indexed batch and the wanted one is unreadable: find its extent, then plan again.
            try reportDamage(file, from: start, plan: plan)
            plan = try planAgain(offset, plan.bounds)
        }
    }

    private func planAgain(_ offset: Int64, _ bounds: ReadBounds) throws(EventLogError) -> DiskPlan {
        let next = state.withLock { state -> Result<DiskPlan, EventLogError> in
            if let known = state.damage(at: offset) { return .failure(damagedError(known, offset, state)) }
            guard offset >= state.logStartOffset else {
                return .failure(EventLogError(.offsetOutOfRange, "offset \(offset) was deleted").at(id))
            }
            return .success(diskPlan(forOffset: offset, bounds, in: state))
        }
        return try next.get()
    }

    /// Returns the segment's file and where to begin, opening and loading what was dropped; `nil` where compaction
    /// has replaced the segment since.
    func openForReading(
        _ plan: DiskPlan,
        _ offset: Int64
    ) throws(EventLogError) -> (DiskFile, (position: Int64, offset: Int64))? {
        if let file = plan.file, let start = plan.start { return (file, start) }
        if let start = plan.start {
            guard let file = try open(segmentAt: plan.segmentBase, generation: plan.generation, writable: true) else {
                return nil
            }
            return (keep(file, plan.segmentBase), start)
        }
        guard
            let (file, _) = try load(
                segmentAt: plan.segmentBase,
                generation: plan.generation,
                byteCount: plan.limit,
                nextOffset: plan.segmentNext
            )
        else { return nil }
        let again = state.withLock { state in diskPlan(forOffset: offset, plan.bounds, in: state) }
        guard again.generation == plan.generation, again.segmentBase == plan.segmentBase else { return nil }
        return (file, again.start ?? (0, plan.segmentBase))
    }

    /// Opens a segment's file; `nil` where another one has taken its place, or is about to.
    func open(
        segmentAt base: Int64,
        generation: UInt64,
        writable: Bool = false
    ) throws(EventLogError) -> DiskFile? {
        func swapsBehind() -> UInt64? {
            state.withLock { state in
                let segment = state.segments[state.segmentIndex(of: base)]
                let isReplaced = segment.baseOffset <= base && segment.generation != generation
                return isReplaced || !state.swaps.isMultiple(of: 2) ? nil : state.swaps
            }
        }
        if let before = swapsBehind() {
            do throws(EventLogError) {
                let path = SegmentPaths(directory: directory, baseOffset: base).log
                let file = try openOrMakeRoom(path, writable: writable)
                if swapsBehind() == before { return file }
            } catch {
                // Taken away between the look and the opening.
                guard error.systemError == ENOENT, swapsBehind() != before else { throw error }
            }
        }
        // Files change their names within moments.
        usleep(500)
        return nil
    }

    /// Opens a sealed segment and loads its index, rebuilding it where it is missing or damaged; `nil` where compaction has replaced
    /// the segment.
    func load(
        segmentAt base: Int64,
        generation: UInt64,
        byteCount: Int64,
        nextOffset: Int64
    ) throws(EventLogError) -> (DiskFile, SegmentIndex)? {
        let paths = SegmentPaths(directory: directory, baseOffset: base)
        guard let file = try open(segmentAt: base, generation: generation) else { return nil }
        var index = paths.loadIndex()
        if index?.baseOffset != base || index?.coveredBytes != byteCount { index = nil }
        let loaded: SegmentIndex
        if let index {
            loaded = index
        } else {
            let created = try file.modifiedMilliseconds()
            let scan = try PartitionRecovery.scan(
                file: file,
                index: SegmentIndex(baseOffset: base, createdAt: created),
                byteCount: byteCount,
                nextOffset: nextOffset,
                id: id
            )
            for report in scan.damage { self.report(report) }
            loaded = scan.index
            // It can be rebuilt again should this fail.
            if state.withLock({ $0.segments[$0.segmentIndex(of: base)].generation == generation }) {
                try? paths.store(loaded)
            }
        }
        let isKept = state.withLock { state in
            let place = state.segmentIndex(of: base)
            guard state.segments[place].baseOffset == base, place < state.segments.count - 1,
                state.segments[place].generation == generation
            else { return false }
            if state.segments.count(where: { $0.file != nil }) > PartitionState.openSealedMax {
                state.releaseSealedFiles()
            }
            state.segments[place].file = file
            state.segments[place].index = loaded
            state.segments[place].wasUsed = true
            return true
        }
        if isKept { environment.openFiles.opened(self, segmentBase: base) }
        return (file, loaded)
    }

    /// Returns whole batches, from the first one with a record on, or `nil` when an unreadable one is in the way.
    ///
    /// Without bytes there is no record up to ``ReadResult/nextOffset``.
    private func readBatches(
        _ file: DiskFile,
        from start: (position: Int64, offset: Int64),
        plan: DiskPlan,
        offset: Int64,
        bytesMax: Int
    ) throws(EventLogError) -> ReadResult? {
        var position = start.position
        var expected = start.offset
        var window = try file.read(at: position, count: Int(min(plan.limit - position, Int64(bytesMax) + 8192)))
        var local = 0
        var range: Range<Int>?
        while position < plan.limit {
            if window.count - local < RecordBatchHeader.byteCount {
                if range != nil { break }
                window = try file.read(at: position, count: Int(min(plan.limit - position, Int64(bytesMax) + 8192)))
                local = 0
            }
            guard let header = try? RecordBatchHeader(parsing: window, at: local), header.baseOffset == expected,
                header.baseOffset < plan.bounds.limit,
                Int64(header.batchByteCount) <= plan.limit - position
            else { break }
            let size = header.batchByteCount
            // One without records too: it says where the next batch begins.
            if header.nextOffset > offset {
                if let chosen = range, local + size - chosen.lowerBound > bytesMax { break }
                if size > window.count - local {
                    if range != nil { break }
                    window = try file.read(
                        at: position,
                        count: Int(min(plan.limit - position, Int64(max(size, bytesMax))))
                    )
                    local = 0
                }
                guard header.hasValidChecksum(in: window, at: local) else { break }
                if header.recordCount > 0 || range != nil { range = (range?.lowerBound ?? local)..<local + size }
            }
            expected = header.nextOffset
            position += Int64(size)
            local = min(local + size, window.count)
        }
        guard let range else {
            let isAtEnd = position >= plan.limit && expected == plan.segmentNext
            let isPassed = expected > offset && (isAtEnd || expected >= plan.bounds.limit)
            return isPassed ? plan.bounds.result([], from: offset, next: expected) : nil
        }
        // Cutting off the end leaves the bytes where they are.
        window.removeLast(window.count - range.upperBound)
        return plan.bounds.result(
            range.lowerBound == 0 ? window : Array(window[range]),
            from: offset,
            next: expected
        )
    }

    /// Finds the unreadable bytes behind `start` and remembers them.
    private func reportDamage(
        _ file: DiskFile,
        from start: (position: Int64, offset: Int64),
        plan: DiskPlan
    ) throws(EventLogError) {
        var index = SegmentIndex(baseOffset: plan.segmentBase, createdAt: 0)
        index.skip(toPosition: start.position, nextOffset: start.offset)
        let scan = try PartitionRecovery.scan(
            file: file,
            index: index,
            byteCount: plan.limit,
            nextOffset: plan.segmentNext,
            id: id
        )
        guard !scan.damage.isEmpty else {
            throw EventLogError(
                .inputOutput,
                "reading \(file.path) gave different bytes twice; check the disk",
                path: file.path
            ).at(id)
        }
        for report in scan.damage { self.report(report) }
    }
}
