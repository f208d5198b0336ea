// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Logging
import Synchronization

/// What all partitions of a log share.
struct LogEnvironment: Sendable {
    let settings: LocalLogSettings
    let logger: Logger
    let deadlines: DeadlineThread
    let readers: WorkerThreads<@Sendable () -> Void>
    let recentBytes: RecentBytesBudget
    let openFiles: OpenFiles
    let uncheckpointed = UncheckpointedBytes()
    let transactionGate = TransactionGate()
}

/// Bytes appended since the last checkpoint, which a start after a crash would have to read.
final class UncheckpointedBytes: Sendable {
    private let count = Atomic(0)

    func add(_ bytes: Int) { count.wrappingAdd(bytes, ordering: .relaxed) }

    /// Returns the number so far and begins anew.
    func take() -> Int { count.exchange(0, ordering: .relaxed) }

    var bytes: Int { count.load(ordering: .relaxed) }
}

/// How much each partition may keep in memory for readers: an equal share of the whole.
final class RecentBytesBudget: Sendable {
    private let total: Int
    private let share: Atomic<Int>

    init(total: Int) {
        self.total = total
        share = Atomic(total)
    }

    var perPartition: Int { share.load(ordering: .relaxed) }

    func divide(amongPartitions count: Int) {
        share.store(min(total / max(1, count), 2 << 20), ordering: .relaxed)
    }
}

/// One partition: segments on disk, what is known of them, and who waits for more.
///
/// Appends, rolls and flushes run on the partition's writer thread, or a caller in its place (`+Append`); reads run anywhere (`+Read`).
/// `state` is held for short, synchronous steps, never during I/O.
final class PartitionLog: Sendable {
    /// The only leader epoch: there is one replica.
    static let leaderEpoch: Int32 = 0

    let id: TopicPartition
    let directory: String
    let environment: LogEnvironment
    let lane: CommitLane
    let state: Mutex<PartitionState>

    init(
        id: TopicPartition,
        directory: String,
        environment: LogEnvironment,
        lane: CommitLane,
        state: sending PartitionState
    ) {
        self.id = id
        self.directory = directory
        self.environment = environment
        self.lane = lane
        self.state = Mutex(state)
    }

    func bounds() throws(EventLogError) -> (start: Int64, end: Int64, stable: Int64) {
        let result = state.withLock { state -> Result<(start: Int64, end: Int64, stable: Int64), EventLogError> in
            if case .gone(let error) = state.status { return .failure(error) }
            return .success((state.logStartOffset, state.highWatermark, state.lastStableOffset))
        }
        return try result.get()
    }

    func apply(_ settings: TopicSettings) {
        state.withLock { $0.settings = settings }
    }

    /// What cannot be read, and that nothing more can be written where that is so.
    func damage() -> [DamageReport] {
        state.withLock { state in
            var cause = state.fullDisk
            if case .stopped(let error) = state.status { cause = error }
            guard let error = cause, let active = state.segments.last else { return state.damage }
            let stop = DamageReport(
                topic: id.topic,
                partition: id.partition,
                offsets: state.highWatermark..<state.highWatermark,
                file: error.path ?? SegmentPaths(directory: directory, baseOffset: active.baseOffset).log,
                bytes: active.byteCount..<active.byteCount,
                reason: error.message
            )
            return state.damage + [stop]
        }
    }

    /// Takes the partition out of service: waiting readers, and whoever comes later, get `error`.
    func retire(_ error: EventLogError) {
        let waiters = state.withLock { state in
            state.status = .gone(error.at(id))
            defer { state.waiters.removeAll() }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.wait.end(.failure(error.at(id))) }
    }

    /// Remembers damage and logs it, once.
    func report(_ damage: DamageReport) {
        let isNew = state.withLock { $0.add(damage) }
        guard isNew else { return }
        environment.logger.error(
            "stored records are damaged; nothing was deleted",
            metadata: [
                "topic": "\(id.topic)", "partition": "\(id.partition)", "file": "\(damage.file)",
                "offsets": "\(damage.offsets)", "bytes": "\(damage.bytes)", "reason": "\(damage.reason)",
            ]
        )
    }
}

/// The mutable part of a ``PartitionLog``.
struct PartitionState {
    enum Status {
        case running
        /// A write could not be made durable: reads go on, appends do not.
        case stopped(EventLogError)
        /// Closed or deleted.
        case gone(EventLogError)
    }

    /// A reader waiting for records at `offset`.
    struct Waiter {
        let offset: Int64
        let isolation: ReadIsolation
        let wait: RecordWait
    }

    /// Batches appended together, kept for readers.
    struct RecentChunk {
        let baseOffset: Int64
        let nextOffset: Int64
        let bytes: [UInt8]
    }

    var settings: TopicSettings
    var status = Status.running
    /// In order of offsets, never empty; the last one is appended to.
    var segments: [Segment]
    var logStartOffset: Int64
    /// The offset after the last record readers may see.
    var highWatermark: Int64
    /// What the last segment's bytes have made of producers, up to the high watermark.
    var producers = ProducerTable()
    /// The same up to `syncedOffset`, where flushes follow later.
    var syncedProducers: (table: ProducerTable, offset: Int64)?
    /// Offsets of the snapshots of producers on disk, oldest first.
    var snapshots: [Int64] = []
    var producersChanged = false
    /// What has certainly reached the disk, in the last segment.
    var syncedBytes: Int64
    var syncedOffset: Int64
    /// The end of what has been reserved behind the last segment's bytes.
    var reservedBytes: Int64 = 0
    var recent: [RecentChunk] = []
    var recentBytes = 0
    var waiters: [ObjectIdentifier: Waiter] = [:]
    var damage: [DamageReport] = []
    /// Why the last append failed, where the disk was full.
    var fullDisk: EventLogError?
    var changedSinceCheckpoint = false
    /// Base offsets of segments that are out of service and whose files are still there.
    var unremoved: [Int64] = []
    var compaction = CompactionState()
    /// Whether compaction met something that it cannot read.
    var cannotCompact = false
    /// Odd while files are being replaced, and another number afterwards.
    var swaps: UInt64 = 0
    /// Since the log was opened.
    var appendedRecords: Int64 = 0
    var appendedBytes: Int64 = 0

    /// The offset of the first record of an open transaction, or the high watermark: readers of committed records stop
    /// there.
    var lastStableOffset: Int64 {
        guard let unstable = producers.firstUnstable else { return highWatermark }
        return min(max(unstable, logStartOffset), highWatermark)
    }

    /// The offset in front of which a reader may read.
    func limit(_ isolation: ReadIsolation) -> Int64 {
        isolation == .committed ? lastStableOffset : highWatermark
    }

    /// Returns the index of the segment that holds `offset`.
    func segmentIndex(of offset: Int64) -> Int {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) / 2
            if segments[middle].baseOffset > offset { high = middle } else { low = middle + 1 }
        }
        return max(0, low - 1)
    }

    func damage(at offset: Int64) -> DamageReport? {
        damage.first { $0.offsets.contains(offset) }
    }

    /// Adds damage unless it is known; true when it is new.
    mutating func add(_ report: DamageReport) -> Bool {
        let isKnown = damage.contains { known in
            known.file == report.file && known.offsets == report.offsets && known.bytes == report.bytes
        }
        if !isKnown { damage.append(report) }
        return !isKnown
    }

    /// The most sealed segments kept open between two rounds of housekeeping.
    static let openSealedMax = 32

    mutating func releaseSealedFiles() {
        for number in 0..<segments.count - 1 {
            segments[number].file = nil
            segments[number].index = nil
        }
    }

    /// Drops what is kept in memory of records below the first offset.
    mutating func dropBelowStart() {
        let start = logStartOffset
        recent.removeAll { $0.nextOffset <= start }
        recentBytes = recent.reduce(0) { $0 + $1.bytes.count }
        damage.removeAll { !$0.offsets.isEmpty && $0.offsets.upperBound <= start }
        producers.trim(below: start)
    }

    /// Takes out the readers for whom there is something now.
    mutating func takeReadyWaiters() -> [Waiter] {
        guard !waiters.isEmpty else { return [] }
        let stable = lastStableOffset
        let ready = waiters.filter { $0.value.offset < ($0.value.isolation == .committed ? stable : highWatermark) }
        for key in ready.keys { waiters[key] = nil }
        return Array(ready.values)
    }

    /// Keeps what was just appended while it fits the partition's share.
    mutating func keepRecent(_ chunk: RecentChunk, bytesMax: Int) {
        recent.append(chunk)
        recentBytes += chunk.bytes.count
        var dropped = 0
        while recentBytes > bytesMax, dropped < recent.count {
            recentBytes -= recent[dropped].bytes.count
            dropped += 1
        }
        recent.removeFirst(dropped)
    }
}
