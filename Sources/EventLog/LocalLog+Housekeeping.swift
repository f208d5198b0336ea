// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import Logging
import Synchronization

extension LocalLog {
    private var checkpointPath: String { "\(directory)/checkpoint" }

    /// Keeps the log in order until the task is cancelled: flushes relaxed topics, and runs ``maintain()`` and ``compact()``
    /// at intervals.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.compactAtIntervals() }
            await keepInOrder()
        }
    }

    private func compactAtIntervals() async {
        while !Task.isCancelled {
            do {
                try await Task.sleep(for: environment.settings.housekeepingInterval)
            } catch {
                return
            }
            await compact()
        }
    }

    private func keepInOrder() async {
        let settings = environment.settings
        let clock = ContinuousClock()
        var nextMaintenance = clock.now.advanced(by: settings.housekeepingInterval)
        while !Task.isCancelled {
            do {
                try await Task.sleep(for: min(settings.flushInterval, settings.housekeepingInterval))
            } catch {
                return
            }
            await flushRelaxed()
            if environment.uncheckpointed.bytes >= Self.uncheckpointedBytesMax { await checkpoint() }
            if clock.now >= nextMaintenance {
                await maintain()
                nextMaintenance = clock.now.advanced(by: settings.housekeepingInterval)
            }
        }
    }

    /// So much is read in well under a second from a disk that gives hundreds of megabytes in one.
    private static let uncheckpointedBytesMax = 256 << 20

    private func checkpoint() async {
        do {
            try await administrate { [self] () throws(EventLogError) in try writeCheckpoint(allPartitions()) }
        } catch let error as EventLogError where error.code == .closed {
            return
        } catch {
            environment.logger.warning("no checkpoint was written", metadata: ["error": "\(error)"])
        }
    }

    /// Rolls segments that are old enough, deletes what retention no longer covers and writes the checkpoint.
    package func maintain() async {
        // Whoever starts and operates the engine has been told by now.
        registry.withLock { registry in
            if !registry.missing.topics.isEmpty { registry.hasDeleted = true }
            registry.missing = Checkpoint()
        }
        for (_, partition) in allPartitions() {
            if partition.isRollDue(at: environment.settings.now()) { await report(rolling: partition) }
        }
        do {
            try await administrate { [self] () throws(EventLogError) in
                let now = environment.settings.now()
                var expired: [(PartitionLog, [Int64])] = []
                for (_, partition) in allPartitions() {
                    partition.expireProducers(at: now)
                    do throws(EventLogError) {
                        let bases = try partition.expireSegments(at: now)
                        if !bases.isEmpty { expired.append((partition, bases)) }
                    } catch {
                        // That of one is no reason to keep what others have to delete.
                        environment.logger.error(
                            "expired records were not deleted",
                            metadata: ["partition": "\(partition.id)", "error": "\(error)"]
                        )
                    }
                    partition.releaseSealedFiles()
                    partition.closeIdleFile()
                }
                try removeExpired(expired)
            }
            await flushRelaxed()
            try await administrate { [self] () throws(EventLogError) in try writeCheckpoint(allPartitions()) }
        } catch let error as EventLogError where error.code == .closed {
            return
        } catch {
            environment.logger.error("keeping the event log in order failed", metadata: ["error": "\(error)"])
        }
    }

    /// Deletes files once the checkpoint says that they may be missing: others that are missing are damage.
    private func removeExpired(_ expired: [(PartitionLog, [Int64])]) throws(EventLogError) {
        if expired.isEmpty { return }
        do throws(EventLogError) {
            try writeCheckpoint(allPartitions())
        } catch {
            // What is to be deleted may be what the disk is full of.
            guard error.code == .diskFull else { throw error }
        }
        for (partition, bases) in expired {
            do throws(EventLogError) {
                try partition.removeSegments(bases)
            } catch {
                environment.logger.error(
                    "expired records were not deleted",
                    metadata: ["partition": "\(partition.id)", "error": "\(error)"]
                )
            }
        }
    }

    /// Reads every segment in full and returns all damage known then.
    package func verify() async throws -> [DamageReport] {
        for (_, partition) in allPartitions() {
            do {
                try await partition.onReaderThread { () throws(EventLogError) in try partition.verify() }
            } catch {
                // Deleted meanwhile.
                guard (try? partition.bounds()) != nil else { continue }
                throw error
            }
        }
        return damage()
    }

    private func flushRelaxed() async {
        for (_, partition) in allPartitions() where partition.hasUnflushed {
            // Fails only while closing, which flushes by itself.
            try? await partition.lane.perform(on: partition) { partition.flush() }
        }
    }

    private func report(rolling partition: PartitionLog) async {
        // As above.
        let outcome = try? await partition.lane.perform(on: partition) { partition.roll() }
        if let error = outcome ?? nil {
            environment.logger.error("a segment was not rolled", metadata: ["error": "\(error)"])
        }
    }

    // MARK: Checkpoint

    /// Stores the last segments' indexes, then the checkpoint; blocks.
    func writeCheckpoint(_ partitions: [(UUID, PartitionLog)]) throws(EventLogError) {
        // Counted again from here, since what comes meanwhile may be in it or not.
        _ = environment.uncheckpointed.take()
        let coordinators = groupStore.flushed()
        var (checkpoint, hasChanged) = registry.withLock { registry in
            var checkpoint = registry.missing
            for topic in registry.topics.values { checkpoint.topics[topic.file.id] = topic.file.name }
            return (checkpoint, registry.hasDeleted || registry.checkpointedCoordinators != coordinators)
        }
        checkpoint.coordinators = coordinators
        hasChanged = hasChanged || !Disk.exists(checkpointPath)
        var changed: [PartitionLog] = []
        for (topicID, partition) in partitions {
            let (entry, isNew) = partition.checkpoint(topicID: topicID)
            checkpoint.entries.append(entry)
            if isNew { changed.append(partition) }
        }
        guard hasChanged || !changed.isEmpty else { return }
        do throws(EventLogError) {
            try Disk.replace(checkpointPath, with: checkpoint.encoded())
        } catch {
            for partition in changed { partition.state.withLock { $0.changedSinceCheckpoint = true } }
            throw error
        }
        registry.withLock { registry in
            registry.hasDeleted = false
            registry.checkpointedCoordinators = coordinators
        }
    }

    /// A checkpoint as it was found: `content` is `nil` where there is none, or none that can be read.
    struct LoadedCheckpoint {
        var content: Checkpoint?
        var damage: DamageReport?
    }

    /// Reads the checkpoint; without a usable one every segment is read again.
    static func loadCheckpoint(_ root: String) throws(EventLogError) -> LoadedCheckpoint {
        let path = "\(root)/checkpoint"
        guard Disk.exists(path) else { return LoadedCheckpoint() }
        do {
            return LoadedCheckpoint(content: try Checkpoint.decode(try Disk.readWhole(path), path: path))
        } catch {
            guard error.code == .damaged else { throw error }
            let report = DamageReport(
                topic: "",
                partition: -1,
                offsets: 0..<0,
                file: path,
                bytes: 0..<0,
                reason: "\(error.message); every segment was read to replace it, no records are concerned",
                subject: "the log's checkpoint"
            )
            return LoadedCheckpoint(damage: report)
        }
    }
}
