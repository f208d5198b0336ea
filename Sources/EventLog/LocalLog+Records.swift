// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization

extension LocalLog {
    /// Returns whole batches from the one that holds `offset` on, as bytes where they are in memory, else as a place in a
    /// file, so that they can be sent without passing through this process; does not wait.
    ///
    /// The first batch is given whatever its size. What this process has neither written nor verified is read and verified
    /// on the way, once; a range ends in front of a batch that is damaged. What is not in the page cache is read into it before
    /// this returns, at most some 4 MiB.
    ///
    /// At most `memoryBytesMax` come as bytes; where there are more in the way, they come from the file though memory has them.
    /// - Throws: as ``EventLog/read(_:from:bytesMax:wait:isolation:)``.
    package func readRange(
        _ id: TopicPartition,
        from offset: Int64,
        bytesMax: Int,
        isolation: ReadIsolation,
        memoryBytesMax: Int = .max
    ) async throws -> RecordRange {
        try await partition(id).0.readRange(
            from: offset,
            bytesMax: bytesMax,
            memoryBytesMax: memoryBytesMax,
            isolation: isolation
        )
    }

    /// Deletes the records in front of an offset and returns the new first offset; -1 stands for the high watermark.
    ///
    /// Durable on return: the checkpoint has the new start before files go. Segments wholly below it are removed; of the others the
    /// records are not readable any more. An offset below the start changes nothing.
    /// - Throws: `.offsetOutOfRange` beyond the high watermark, `.unknownTopic`, `.unknownPartition`, `.diskFull`,
    ///   `.inputOutput`; nothing is deleted then.
    package func deleteRecords(_ id: TopicPartition, before offset: Int64) async throws -> Int64 {
        guard let result = try await deleteRecords(before: [id: offset])[id] else { throw Self.closed }
        return try result.get()
    }

    /// Deletes records of several partitions with one write of the checkpoint; the outcomes are apart.
    ///
    /// - Throws: `.closed`, `.overloaded`; see ``deleteRecords(_:before:)``.
    package func deleteRecords(
        before offsets: [TopicPartition: Int64]
    ) async throws -> [TopicPartition: Result<Int64, EventLogError>] {
        try await administrate { [self] in
            var outcomes: [TopicPartition: Result<Int64, EventLogError>] = [:]
            var raised: [(id: TopicPartition, partition: PartitionLog, from: Int64, to: Int64)] = []
            for (id, offset) in offsets {
                do throws(EventLogError) {
                    let (partition, _) = try partition(id)
                    let (from, to) = try partition.raiseStart(to: offset)
                    outcomes[id] = .success(to)
                    if from != to { raised.append((id, partition, from, to)) }
                } catch {
                    outcomes[id] = .failure(error)
                }
            }
            guard !raised.isEmpty else { return outcomes }
            do throws(EventLogError) {
                try writeCheckpoint(allPartitions())
            } catch {
                for change in raised {
                    change.partition.lowerStart(from: change.to, to: change.from)
                    outcomes[change.id] = .failure(error.at(change.id))
                }
                return outcomes
            }
            for change in raised {
                change.partition.forgetDeleted()
                do throws(EventLogError) {
                    let now = environment.settings.now()
                    try change.partition.removeSegments(change.partition.expireSegments(at: now, onlyDeleted: true))
                } catch {
                    // They are deleted nevertheless; the files go with the next round of housekeeping or the next start.
                    environment.logger.warning(
                        "files of deleted records were not removed",
                        metadata: ["partition": "\(change.id)", "error": "\(error)"]
                    )
                }
            }
            return outcomes
        }
    }

    private static var closed: EventLogError { EventLogError(.closed, "the event log is closed") }
}

extension PartitionLog {
    /// Raises the first offset, in memory only; returns the one before and the one after.
    fileprivate func raiseStart(to offset: Int64) throws(EventLogError) -> (from: Int64, to: Int64) {
        let result = state.withLock { state -> Result<(from: Int64, to: Int64), EventLogError> in
            if case .gone(let error) = state.status { return .failure(error) }
            let target = offset == -1 ? state.highWatermark : offset
            guard target >= 0, target <= state.highWatermark else {
                return .failure(
                    EventLogError(
                        .offsetOutOfRange,
                        "records in front of offset \(offset) cannot be deleted, the log ends at \(state.highWatermark)",
                        offset: offset
                    ).at(id)
                )
            }
            let before = state.logStartOffset
            state.logStartOffset = max(before, target)
            if state.logStartOffset != before { state.changedSinceCheckpoint = true }
            return .success((before, state.logStartOffset))
        }
        return try result.get()
    }

    /// Takes back a raised start that could not be stored.
    fileprivate func lowerStart(from raised: Int64, to start: Int64) {
        state.withLock { state in
            if state.logStartOffset == raised { state.logStartOffset = max(start, state.segments[0].baseOffset) }
        }
    }

    /// Drops what memory holds of deleted records, and tells readers that wait for some.
    fileprivate func forgetDeleted() {
        let waiters = state.withLock { state in
            state.dropBelowStart()
            return state.takeReadyWaiters()
        }
        for waiter in waiters { waiter.wait.end(.success(true)) }
    }
}
