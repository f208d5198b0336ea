// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Logging
import MartletCore
import Synchronization

/// Told once of an append's outcome: on the partition's writer thread, or on that of a caller who is in its place or was refused at once.
package typealias AppendCompletion = @Sendable (Result<AppendResult, EventLogError>) -> Void

/// One batch on its way to disk.
struct PendingAppend: Sendable {
    let batch: [UInt8]
    let header: RecordBatchHeader
    /// What the batch says when it is a control batch.
    let marker: TransactionMarker?
    let completion: AppendCompletion
    let arrived = ContinuousClock.now
}

/// Batches that are written but not yet flushed.
struct WrittenRun {
    var appends: [PendingAppend] { admission.appends }
    let file: DiskFile
    let position: Int64
    let baseOffset: Int64
    let nextOffset: Int64
    let bytes: [UInt8]
    let admission: ProducerAdmission
    /// The time that records got from the log; `nil` where they keep the producer's.
    let appendTime: Int64?

    /// The largest timestamp of a batch as it was written.
    func maxTimestamp(of append: PendingAppend) -> Int64 {
        append.marker == nil ? appendTime ?? append.header.maxTimestamp : append.header.maxTimestamp
    }
}

// Everything here runs on the partition's writer thread, or on a caller's while that is in its place; see LoneCaller.
extension PartitionLog {
    private struct WritePoint {
        let file: DiskFile
        let segmentBase: Int64
        let position: Int64
        let nextOffset: Int64
        let reserved: Int64
        let settings: TopicSettings
    }

    /// Writes batches behind the log's end, rolling where a segment is full.
    ///
    /// Returns what still has to be flushed and acknowledged by ``finish(_:)``; failed appends are answered here.
    func write(_ appends: [PendingAppend]) -> WrittenRun? {
        var rest = appends[...]
        while true {
            let point: WritePoint
            switch writePoint() {
            case .success(let found): point = found
            case .failure(let error):
                fail(rest, error)
                return nil
            }
            let fitting = fittingPrefix(of: rest, at: point)
            guard !fitting.isEmpty else {
                if let error = roll() {
                    fail(rest, error)
                    return nil
                }
                continue
            }
            rest = rest.dropFirst(fitting.count)
            let admission = admit(fitting, at: point.nextOffset)
            guard !admission.appends.isEmpty else {
                if rest.isEmpty { return nil }
                continue
            }
            do {
                let run = try write(admission, at: point)
                if rest.isEmpty { return run }
                finish(run)
            } catch {
                fail(admission, error)
                fail(rest, error)
                return nil
            }
        }
    }

    /// Flushes a run as the topic's durability asks, lets readers see it and answers its appends.
    func finish(_ run: WrittenRun) {
        let isRelaxed = state.withLock { $0.settings.durability != .onDisk }
        if !isRelaxed, let error = synchronize(run.file) {
            fail(run.admission, error)
            return
        }
        let now = environment.settings.now()
        let recentMax = environment.recentBytes.perPartition
        let (waiters, logStart, reopened) = state.withLock { state in
            let wasLetGo = publish(run, in: &state, isSynced: !isRelaxed, now: now)
            let chunk = PartitionState.RecentChunk(
                baseOffset: run.baseOffset,
                nextOffset: run.nextOffset,
                bytes: run.bytes
            )
            state.keepRecent(chunk, bytesMax: recentMax)
            let base = state.segments[state.segments.count - 1].baseOffset
            return (state.takeReadyWaiters(), state.logStartOffset, wasLetGo ? base : nil)
        }
        if let reopened { environment.openFiles.opened(self, segmentBase: reopened) }
        for waiter in waiters { waiter.wait.end(.success(true)) }
        var base = run.baseOffset
        let latency = environment.settings.metrics?.append
        for append in run.appends {
            latency?.record(append.arrived.microsecondsSince)
            let last = base + Int64(append.header.lastOffsetDelta)
            append.completion(
                .success(
                    AppendResult(
                        baseOffset: base,
                        lastOffset: last,
                        logStartOffset: logStart,
                        appendTime: run.appendTime
                    )
                )
            )
            base = last + 1
        }
        for (append, original) in run.admission.repeats { answer(append, as: original, logStart) }
    }

    /// Flushes what a relaxed topic has acknowledged.
    func flush() {
        let pending = state.withLock { state -> (DiskFile, Int64, Int64, ProducerTable)? in
            guard case .running = state.status, let active = state.segments.last, let file = active.file,
                state.syncedBytes < active.byteCount
            else { return nil }
            return (file, active.byteCount, state.highWatermark, state.producers)
        }
        guard let (file, bytes, offset, producers) = pending, synchronize(file) == nil else { return }
        state.withLock { state in
            state.syncedBytes = bytes
            state.syncedOffset = offset
            state.syncedProducers = producers.isEmpty ? nil : (producers, offset)
        }
    }

    /// Gives back the room that is reserved behind the last record.
    func giveBackReserved() {
        let end = state.withLock { state -> Int64? in
            guard case .running = state.status, let active = state.segments.last, state.reservedBytes > active.byteCount
            else { return nil }
            state.reservedBytes = 0
            return active.byteCount
        }
        // Where that fails the next start does it.
        if let end, let file = try? openLastFile() { try? file.truncate(to: end) }
    }

    /// Closes the last segment, if it holds anything, and begins the next.
    func roll() -> EventLogError? {
        let sealed = state.withLock { state -> (Segment, Bool)? in
            guard case .running = state.status, let active = state.segments.last, active.byteCount > 0 else {
                return nil
            }
            return (active, state.syncedBytes < active.byteCount)
        }
        guard let (active, needsFlush) = sealed, let index = active.index else { return nil }
        do {
            let file = try openLastFile()
            if needsFlush, let error = synchronize(file) { return error }
            // Gives back what was reserved: a closed segment ends with its last record.
            try file.truncate(to: active.byteCount)
            state.withLock { $0.reservedBytes = 0 }
            let next = try createNextSegment(at: index.nextOffset)
            let gone = state.withLock { state -> EventLogError? in
                if case .gone(let error) = state.status { return error }
                state.segments.append(next)
                state.syncedBytes = 0
                state.syncedOffset = index.nextOffset
                state.reservedBytes = 0
                state.changedSinceCheckpoint = true
                return nil
            }
            if let gone {
                // The folder may be that of another topic of the name by now, which would find the file at the next start.
                try? SegmentPaths(directory: directory, baseOffset: next.baseOffset).remove()
                return gone
            }
            try? SegmentPaths(directory: directory, baseOffset: active.baseOffset).store(index)
            environment.openFiles.opened(self, segmentBase: next.baseOffset)
            return nil
        } catch {
            return error.at(id)
        }
    }

    private func createNextSegment(at offset: Int64) throws(EventLogError) -> Segment {
        let now = environment.settings.now()
        do throws(EventLogError) {
            return try Self.createSegment(directory: directory, baseOffset: offset, createdAt: now)
        } catch {
            guard error.isOutOfFiles else { throw error }
            environment.openFiles.closeAll()
            return try Self.createSegment(directory: directory, baseOffset: offset, createdAt: now)
        }
    }

    /// Creates the files of an empty segment; durable on return.
    static func createSegment(
        directory: String,
        baseOffset: Int64,
        createdAt: Int64
    ) throws(EventLogError) -> Segment {
        let paths = SegmentPaths(directory: directory, baseOffset: baseOffset)
        let file = try DiskFile(path: paths.log, flags: O_RDWR | O_CREAT | O_EXCL)
        do {
            try Disk.synchronizeDirectory(directory)
        } catch {
            // Left behind, the empty file would be in the way of the next attempt.
            unlink(paths.log)
            throw error
        }
        return Segment(
            baseOffset: baseOffset,
            nextOffset: baseOffset,
            byteCount: 0,
            maxTimestamp: .min,
            createdAt: createdAt,
            file: file,
            index: SegmentIndex(baseOffset: baseOffset, createdAt: createdAt)
        )
    }

    private func writePoint(_ opened: DiskFile? = nil) -> Result<WritePoint, EventLogError> {
        let found = state.withLock { state -> Result<WritePoint?, EventLogError> in
            switch state.status {
            case .stopped(let error), .gone(let error): return .failure(error)
            case .running: break
            }
            let last = state.segments.count - 1
            let active = state.segments[last]
            guard let file = active.file ?? opened else { return .success(nil) }
            state.segments[last].wasUsed = true
            return .success(
                WritePoint(
                    file: file,
                    segmentBase: active.baseOffset,
                    position: active.byteCount,
                    nextOffset: state.highWatermark,
                    reserved: state.reservedBytes,
                    settings: state.settings
                )
            )
        }
        switch found {
        case .success(let point?): return .success(point)
        case .failure(let error): return .failure(error)
        case .success(nil):
            do throws(EventLogError) {
                return writePoint(try openLastFile())
            } catch {
                return .failure(error.at(id))
            }
        }
    }

    private func fittingPrefix(of appends: ArraySlice<PendingAppend>, at point: WritePoint) -> ArraySlice<PendingAppend>
    {
        var bytes = point.position
        var offset = point.nextOffset
        return appends.prefix { append in
            let isFirst = bytes == 0
            bytes += Int64(append.batch.count)
            offset += Int64(append.header.lastOffsetDelta) + 1
            return isFirst || (bytes <= point.settings.segmentBytes && offset - point.segmentBase <= Int64(Int32.max))
        }
    }

    private func write(_ admission: ProducerAdmission, at point: WritePoint) throws(EventLogError) -> WrittenRun {
        let appends = admission.appends
        var bytes: [UInt8] = []
        bytes.reserveCapacity(appends.reduce(0) { $0 + $1.batch.count })
        var offset = point.nextOffset
        let appendTime = point.settings.stampsAppendTime ? environment.settings.now() : nil
        for append in appends {
            let start = bytes.count
            bytes += append.batch
            RecordBatchHeader.assign(baseOffset: offset, leaderEpoch: Self.leaderEpoch, in: &bytes, at: start)
            offset += Int64(append.header.lastOffsetDelta) + 1
            if let appendTime, append.marker == nil {
                RecordFilter.stamp(appendTime, in: &bytes, at: start, byteCount: append.batch.count)
            }
        }
        reserve(for: bytes.count, at: point)
        do {
            try point.file.write(bytes, at: point.position)
        } catch {
            throw cutBack(after: error, at: point)
        }
        return WrittenRun(
            file: point.file,
            position: point.position,
            baseOffset: point.nextOffset,
            nextOffset: offset,
            bytes: bytes,
            admission: admission,
            appendTime: appendTime
        )
    }

    /// Reserves room in growing steps: flushing into reserved room does not have to allocate blocks.
    private func reserve(for count: Int, at point: WritePoint) {
        let end = point.position + Int64(count)
        guard end > point.reserved else { return }
        let step = min(max(point.position, 64 << 10), 16 << 20)
        let target = min(max(end + step, point.position), max(end, point.settings.segmentBytes))
        guard target > end else { return }
        let from = max(point.position, point.reserved)
        point.file.reserve(from: from, count: target - from)
        state.withLock { $0.reservedBytes = target }
    }

    private func cutBack(after error: EventLogError, at point: WritePoint) -> EventLogError {
        do {
            try point.file.truncate(to: point.position)
            state.withLock { $0.reservedBytes = 0 }
            if error.code == .diskFull {
                noteFullDisk(error)
                return error.at(id)
            }
            return stop("a write failed (\(error.message))", error)
        } catch let second {
            return stop("the log cannot be cut back after a failed write (\(second.message))", second)
        }
    }

    private func noteFullDisk(_ error: EventLogError) {
        let isFirst = state.withLock { state in
            defer { state.fullDisk = error }
            return state.fullDisk == nil
        }
        guard isFirst else { return }
        environment.logger.error(
            "the disk is full: records are refused until there is room",
            metadata: ["topic": "\(id.topic)", "partition": "\(id.partition)", "error": "\(error)"]
        )
    }

    private func synchronize(_ file: DiskFile) -> EventLogError? {
        let started = ContinuousClock.now
        let number = environment.settings.synchronize(file.descriptor)
        environment.settings.metrics?.flush.record(started.microsecondsSince)
        guard number != 0 else { return nil }
        let error = Disk.error(number, "cannot flush", file.path)
        return stop("flushing failed (\(error.message))", error)
    }

    /// Ends appends to this partition: after a failed flush the system may have dropped the data it could not write, so
    /// a second flush that succeeds would prove nothing.
    private func stop(_ reason: String, _ cause: EventLogError) -> EventLogError {
        let error = EventLogError(
            .partitionStopped,
            "\(reason); the partition takes no more records until the disk is sound and the engine is started again",
            path: cause.path,
            systemError: cause.systemError
        ).at(id)
        let isFirst = state.withLock { state in
            guard case .running = state.status else { return false }
            state.status = .stopped(error)
            return true
        }
        if isFirst { environment.settings.onPartitionStopped?(id, error.description) }
        environment.logger.critical(
            "partition stopped",
            metadata: ["topic": "\(id.topic)", "partition": "\(id.partition)", "error": "\(error)"]
        )
        return error
    }

    /// Makes written batches part of the log; true where their file had been let go of since and is kept again.
    private func publish(_ run: WrittenRun, in state: inout PartitionState, isSynced: Bool, now: Int64) -> Bool {
        let last = state.segments.count - 1
        if run.position == 0 {
            // A segment's age counts from its first record.
            state.segments[last].createdAt = now
            state.segments[last].index?.createdAt = now
        }
        var position = run.position
        var offset = run.baseOffset
        for append in run.appends {
            var header = append.header
            header.baseOffset = offset
            header.maxTimestamp = run.maxTimestamp(of: append)
            state.segments[last].index?.add(header, at: position)
            state.segments[last].maxTimestamp = max(state.segments[last].maxTimestamp, header.maxTimestamp)
            position += Int64(header.batchByteCount)
            offset = header.nextOffset
        }
        state.appendedRecords += offset - run.baseOffset
        state.appendedBytes += position - run.position
        environment.uncheckpointed.add(Int(position - run.position))
        state.segments[last].noteVerified(state.segments[last].byteCount..<position)
        // Let go of meanwhile, it would be another descriptor that is to tell of what this one could not write.
        let wasLetGo = state.segments[last].file == nil
        if wasLetGo { state.segments[last].file = run.file }
        state.segments[last].byteCount = position
        state.segments[last].nextOffset = offset
        state.highWatermark = offset
        if state.fullDisk != nil { state.fullDisk = nil }
        if let changes = run.admission.changes {
            state.producers.apply(changes)
            state.producersChanged = true
        }
        if isSynced {
            state.syncedBytes = position
            state.syncedOffset = offset
        }
        state.changedSinceCheckpoint = true
        return wasLetGo
    }

    private func fail(_ admission: ProducerAdmission, _ error: EventLogError) {
        fail(admission.appends[...], error)
        for (append, _) in admission.repeats { append.completion(.failure(error)) }
    }

    private func fail(_ appends: ArraySlice<PendingAppend>, _ error: EventLogError) {
        for append in appends { append.completion(.failure(error)) }
    }
}
