// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import FoundationEssentials

/// How a ``LocalLog`` uses its machine; the defaults suit one engine on one disk.
package struct LocalLogSettings: Sendable {
    /// Threads that write and flush; each partition belongs to one of them.
    package var writerThreads: Int
    /// Threads that read what is no longer in memory.
    package var readerThreads: Int
    /// The most bytes of batches waiting to be written; more are refused as `.overloaded`.
    package var pendingBytesMax: Int
    /// The most bytes of recently appended batches kept in memory for readers, over all partitions.
    package var recentBytesMax: Int
    /// How often ``LocalLog/run()`` applies retention and time-based roll and writes the checkpoint.
    package var housekeepingInterval: Duration
    /// How often ``LocalLog/run()`` flushes topics with relaxed durability.
    package var flushInterval: Duration
    /// How long a partition remembers an idempotent producer that sends nothing (Kafka's `producer.id.expiration.ms`).
    package var producerExpirationMilliseconds: Int64
    /// The most idempotent producers a partition remembers; the longest idle ones go first.
    package var producersPerPartitionMax: Int
    /// The most bytes for the keys of one round of compaction; more keys take several rounds.
    package var compactionBytesMax: Int
    /// How many bytes of segments compaction reads in a second at most.
    package var compactionBytesPerSecond: Int
    /// The most segments kept open; `nil` for half of the files the process may have open.
    package var openFilesMax: Int?
    /// Decides which appends their callers write by themselves; each writer thread begins with it.
    package var loneCaller: LoneCaller
    /// The wall clock, in milliseconds since 1970.
    package var now: @Sendable () -> Int64
    /// Flushes a file's data; replaced in tests to see or fail flushes.
    ///
    /// Returns 0 or an error number.
    package var synchronize: @Sendable (Int32) -> Int32
    /// Where latencies are recorded, if anywhere.
    package var metrics: LogMetrics?
    /// Is told when a partition takes no more records, and why, on the thread that wrote; must not wait.
    package var onPartitionStopped: (@Sendable (TopicPartition, String) -> Void)?

    /// Creates settings.
    package init(
        writerThreads: Int = 4,
        readerThreads: Int = 2,
        pendingBytesMax: Int = 256 << 20,
        recentBytesMax: Int = 32 << 20,
        housekeepingInterval: Duration = .seconds(10),
        flushInterval: Duration = .seconds(1),
        producerExpirationMilliseconds: Int64 = 24 * 3_600_000,
        producersPerPartitionMax: Int = 100_000,
        compactionBytesMax: Int = 64 << 20,
        compactionBytesPerSecond: Int = 64 << 20,
        openFilesMax: Int? = nil,
        loneCaller: LoneCaller = LoneCaller(),
        now: @escaping @Sendable () -> Int64 = { Int64(Date().timeIntervalSince1970 * 1000) },
        synchronize: @escaping @Sendable (Int32) -> Int32 = { fdatasync($0) == 0 ? 0 : errno },
        metrics: LogMetrics? = nil,
        onPartitionStopped: (@Sendable (TopicPartition, String) -> Void)? = nil
    ) {
        self.writerThreads = writerThreads
        self.readerThreads = readerThreads
        self.pendingBytesMax = pendingBytesMax
        self.recentBytesMax = recentBytesMax
        self.housekeepingInterval = housekeepingInterval
        self.flushInterval = flushInterval
        self.producerExpirationMilliseconds = producerExpirationMilliseconds
        self.producersPerPartitionMax = producersPerPartitionMax
        self.compactionBytesMax = compactionBytesMax
        self.compactionBytesPerSecond = compactionBytesPerSecond
        self.openFilesMax = openFilesMax
        self.loneCaller = loneCaller
        self.now = now
        self.synchronize = synchronize
        self.metrics = metrics
        self.onPartitionStopped = onPartitionStopped
    }
}
