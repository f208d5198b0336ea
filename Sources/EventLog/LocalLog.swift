// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
package import KafkaCodec
package import Logging
import Synchronization

/// An ``EventLog`` in one directory of this machine.
///
/// Opening recovers every partition and starts the threads that write, read and keep deadlines; nothing else runs until
/// ``run()``, which applies retention, rolls segments by time, flushes relaxed topics and writes the checkpoint.
/// ``close()`` must be called. The caller owns the directory: see ``DataDirectoryLock``.
package final class LocalLog: EventLog {
    struct Topic: Sendable {
        var file: TopicFile
        var partitions: [PartitionLog]
    }

    struct Registry {
        var topics: [String: Topic] = [:]
        /// Names of ``topics`` by their ids.
        var names: [KafkaUUID: String] = [:]
        var damage: [DamageReport] = []
        var isClosed = false
        var nextLane = 0
        /// What the last checkpoint told of topics whose folders are missing; the next ones tell it, too, until the log is at work.
        var missing = Checkpoint()
        /// Whether a topic has gone that the checkpoint on disk has.
        var hasDeleted = false
        /// What the checkpoint on disk tells of the coordinators' file.
        var checkpointedCoordinators: CoordinatorMark?
    }

    let directory: String
    let environment: LogEnvironment
    let lanes: [CommitLane]
    let groupStore: CoordinatorStore
    let producerIDs: ProducerIDs
    /// Runs what creates, changes and deletes topics, one at a time.
    let administrator: WorkerThreads<@Sendable () -> Void>
    /// Compacts, one partition after the other.
    let cleaner: WorkerThreads<@Sendable () -> Void>
    let compactionPace: Compactor.Pace
    let compactionTotals = Mutex(CompactionTotals())
    let registry = Mutex(Registry())
    /// Which transactions may begin; whoever coordinates them enforces it.
    package var transactionGate: TransactionGate { environment.transactionGate }

    /// Opens the log in `directory`, below which `log/` is created where needed.
    ///
    /// Damage found is logged and listed by ``damage()``; it does not keep the log from opening.
    /// - Throws: `.inputOutput` when a file or directory cannot be used, `.unsupportedFormat` for files of a newer engine.
    package static func open(
        directory: String,
        settings: LocalLogSettings = LocalLogSettings(),
        logger: Logger
    ) async throws -> LocalLog {
        try await withCheckedThrowingContinuation { continuation in
            _ = startThread(name: "log-open") {
                do throws(EventLogError) {
                    let root = directory + "/log"
                    let checkpoint = try loadCheckpoint(root)
                    let log = try LocalLog(root, checkpoint, settings: settings, logger: logger)
                    do throws(EventLogError) {
                        try log.recover(checkpoint)
                    } catch {
                        log.stopThreads()
                        throw error
                    }
                    continuation.resume(returning: log)
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }

    private init(
        _ root: String,
        _ checkpoint: LoadedCheckpoint,
        settings: LocalLogSettings,
        logger: Logger
    ) throws(EventLogError) {
        directory = root
        OpenFileLimit.raise()
        try Disk.makeDirectories(root + "/topics")
        let hasTopics = try !Disk.names(in: root + "/topics").isEmpty
        groupStore = try CoordinatorStore.open(
            directory: root + "/groups",
            known: checkpoint.content?.coordinators,
            // It is made before everything else.
            mustExist: hasTopics || Disk.exists(root + "/checkpoint"),
            // Older engines made it without an entry, and a checkpoint that did not tell of it.
            mayBeEmpty: checkpoint.content.map { $0.coordinators == nil } ?? false,
            settings: settings,
            logger: logger
        )
        producerIDs = ProducerIDs(reserved: groupStore.content().producerIDsReserved)
        environment = LogEnvironment(
            settings: settings,
            logger: logger,
            deadlines: DeadlineThread(),
            readers: WorkerThreads(name: "log-reader", count: settings.readerThreads, itemsMax: 1 << 16, batchMax: 1) {
                work,
                _ in
                for item in work { item() }
            },
            recentBytes: RecentBytesBudget(total: settings.recentBytesMax),
            openFiles: OpenFiles(
                countMax: settings.openFilesMax ?? OpenFileLimit.forSegments,
                writers: settings.writerThreads
            )
        )
        environment.deadlines.start()
        lanes = (0..<max(1, settings.writerThreads)).map { number in
            CommitLane(
                number: number,
                pendingBytesMax: settings.pendingBytesMax / max(1, settings.writerThreads),
                loneCaller: settings.loneCaller
            )
        }
        administrator = WorkerThreads(name: "log-admin", itemsMax: 1 << 12, batchMax: 1) { work, _ in
            for item in work { item() }
        }
        cleaner = WorkerThreads(name: "log-cleaner", itemsMax: 16, batchMax: 1) { work, _ in
            for item in work { item() }
        }
        compactionPace = Compactor.Pace(bytesPerSecond: settings.compactionBytesPerSecond)
    }

    /// Finishes accepted appends, flushes everything, writes the checkpoint and ends all threads.
    ///
    /// Waiting readers get `.closed`. A second call returns at once.
    package func close() async {
        let isFirst = registry.withLock { registry in
            defer { registry.isClosed = true }
            return !registry.isClosed
        }
        guard isFirst else { return }
        await withCheckedContinuation { continuation in
            _ = startThread(name: "log-close") { [self] in
                compactionPace.stop()
                cleaner.stop()
                administrator.stop()
                for lane in lanes { lane.stop() }
                groupStore.stop()
                let partitions = allPartitions()
                // The writer threads are gone, so this thread takes their place.
                for (_, partition) in partitions {
                    partition.flush()
                    partition.giveBackReserved()
                }
                do {
                    try writeCheckpoint(partitions)
                } catch {
                    environment.logger.warning("no checkpoint was written", metadata: ["error": "\(error)"])
                }
                for (_, partition) in partitions { partition.retire(EventLogError(.closed, "the event log is closed")) }
                environment.readers.stop()
                environment.deadlines.stop()
                continuation.resume()
            }
        }
    }

    // MARK: Records

    package func append(_ batch: [UInt8], to id: TopicPartition) async throws -> AppendResult {
        try await withCheckedThrowingContinuation { continuation in
            submit(batch, to: id) { continuation.resume(with: $0.mapError { $0 as any Error }) }
        }
    }

    /// Checks one batch, puts it in line for its partition and returns; `completion` is called once, with what
    /// ``append(_:to:)`` would return or throw.
    ///
    /// Batches submitted to a partition one after the other are appended in that order, as far as each is accepted. The
    /// array is kept, not copied. The completion runs on the partition's writer thread, or a caller's in its
    /// place, and nothing is appended meanwhile: it must be short and must not block. A batch refused at once is answered before this returns.
    ///
    /// With `mayBlock` a batch that has been alone in its partition's writer for a while, on a disk whose flushes are as
    /// fast as waking a thread, is written and flushed on the caller's thread, and answered before this returns. Who has
    /// read the batch's header gives it as `header`, so that it is not read again.
    package func submit(
        _ batch: [UInt8],
        header: RecordBatchHeader? = nil,
        to id: TopicPartition,
        mayBlock: Bool = false,
        completion: @escaping AppendCompletion
    ) {
        do throws(EventLogError) {
            let (partition, settings) = try partition(id)
            let header = try Self.validated(batch, header, for: id, settings, at: environment.settings.now)
            partition.lane.submit(batch, header, to: partition, mayBlock: mayBlock, completion: completion)
        } catch {
            completion(.failure(error))
        }
    }

    /// Ends a producer's transaction in one partition; durable on return.
    ///
    /// Appends a control batch, also where the transaction has no records, and returns its place; `nil` where the
    /// producer is known in this epoch and has nothing open, so that asking again is harmless.
    /// - Throws: `.invalidProducerEpoch` and `.coordinatorFenced` for older epochs, else as ``append(_:to:)``.
    package func writeMarker(
        _ id: TopicPartition,
        producerID: Int64,
        epoch: Int16,
        coordinatorEpoch: Int32,
        commit: Bool
    ) async throws -> AppendResult? {
        let (partition, _) = try partition(id)
        let marker = TransactionMarker(isCommit: commit, coordinatorEpoch: coordinatorEpoch)
        let batch = marker.batch(producerID: producerID, producerEpoch: epoch, timestamp: environment.settings.now())
        let header = try RecordBatchHeader(parsing: batch)
        let result = try await withCheckedThrowingContinuation { continuation in
            partition.lane.submit(batch, header, marker, to: partition) {
                continuation.resume(with: $0.mapError { $0 as any Error })
            }
        }
        return result.baseOffset < 0 ? nil : result
    }

    package func read(
        _ id: TopicPartition,
        from offset: Int64,
        bytesMax: Int,
        wait: Duration,
        isolation: ReadIsolation
    ) async throws -> ReadResult {
        try await partition(id).0.read(from: offset, bytesMax: bytesMax, wait: wait, isolation: isolation)
    }

    package func offset(
        _ id: TopicPartition,
        atOrAfter timestamp: Int64
    ) async throws -> (offset: Int64, timestamp: Int64)? {
        let partition = try partition(id).0
        let found = try await partition.onReaderThread { () throws(EventLogError) in
            try partition.firstRecord(atOrAfter: timestamp)
        }
        return found.map { ($0.offset, $0.timestamp) }
    }

    package func bounds(_ id: TopicPartition) throws -> (start: Int64, end: Int64, stable: Int64) {
        try partition(id).0.bounds()
    }

    /// Returns what a partition knows of idempotent producers, ordered by id.
    package func producers(_ id: TopicPartition) throws -> [ProducerDescription] {
        try partition(id).0.producerDescriptions()
    }

    /// Adds damage that was found from outside of the log, and logs it.
    package func report(_ damage: DamageReport) {
        environment.logger.error("stored records are damaged", metadata: ["damage": "\(damage)"])
        registry.withLock { $0.damage.append(damage) }
    }

    /// Returns all damage found so far: when opening, when reading and by ``verify()``.
    package func damage() -> [DamageReport] {
        let own = registry.withLock { $0.damage }
        return own + allPartitions().flatMap { $0.1.damage() } + groupStore.damage()
    }

    // MARK: Lookup

    func partition(_ id: TopicPartition) throws(EventLogError) -> (PartitionLog, TopicSettings) {
        let found = registry.withLock { registry -> Result<(PartitionLog, TopicSettings), EventLogError> in
            if registry.isClosed { return .failure(EventLogError(.closed, "the event log is closed")) }
            guard let topic = registry.topics[id.topic] else {
                return .failure(EventLogError(.unknownTopic, "there is no topic \(id.topic)", topic: id.topic))
            }
            guard id.partition >= 0, Int(id.partition) < topic.partitions.count else {
                return .failure(
                    EventLogError(
                        .unknownPartition,
                        "topic \(id.topic) has partitions 0 to \(topic.partitions.count - 1), not \(id.partition)"
                    ).at(id)
                )
            }
            return .success((topic.partitions[Int(id.partition)], topic.file.settings))
        }
        return try found.get()
    }

    func allPartitions() -> [(UUID, PartitionLog)] {
        registry.withLock { registry in
            registry.topics.values.flatMap { topic in topic.partitions.map { (topic.file.id, $0) } }
        }
    }

    private func stopThreads() {
        cleaner.stop()
        administrator.stop()
        for lane in lanes { lane.stop() }
        groupStore.stop()
        environment.readers.stop()
        environment.deadlines.stop()
    }
}
