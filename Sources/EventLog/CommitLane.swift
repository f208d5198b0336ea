// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import MartletCore
import Synchronization

/// A writer thread and the partitions that belong to it.
///
/// Each cycle takes everything that is waiting, writes it with one call per partition, then flushes each file once and
/// answers its appends: what arrives during a flush shares the next one.
final class CommitLane: Sendable {
    private enum Work: Sendable {
        case append(PendingAppend)
        case operation(@Sendable () -> Void)
    }

    private struct Item: Sendable {
        let partition: PartitionLog
        let work: Work
    }

    private let threads: WorkerThreads<Item>
    private let lone: Lone

    /// Shared with the thread, which this must not be kept alive by.
    private final class Lone: Sendable {
        let caller: Mutex<LoneCaller>

        init(_ caller: LoneCaller) {
            self.caller = Mutex(caller)
        }
    }

    init(number: Int, pendingBytesMax: Int, loneCaller: LoneCaller) {
        let lone = Lone(loneCaller)
        self.lone = lone
        threads = WorkerThreads(name: "log-writer-\(number)", weightMax: pendingBytesMax) { items, queue in
            let (appends, nanoseconds) = Self.run(items, lone)
            // Producers just answered are about to send again. Waiting a fraction of a flush for as many as last time
            // doubles the size of the groups when several producers take turns, and costs a lone producer nothing.
            if appends > 1 { queue.linger(untilCount: appends, nanoseconds: min(nanoseconds / 8, 300_000)) }
        }
    }

    /// Queues a validated batch; see ``LocalLog/submit(_:to:mayBlock:completion:)``.
    func submit(
        _ batch: [UInt8],
        _ header: RecordBatchHeader,
        _ marker: TransactionMarker? = nil,
        to partition: PartitionLog,
        mayBlock: Bool = false,
        completion: @escaping AppendCompletion
    ) {
        let pending = PendingAppend(batch: batch, header: header, marker: marker, completion: completion)
        let item = Item(partition: partition, work: .append(pending))
        if mayBlock, lone.caller.withLock({ $0.mayWrite(bytes: batch.count, at: Int64(ThreadCondition.now())) }) {
            if threads.inPlace({ _ = Self.run([item], lone) }) { return }
            lone.caller.withLock { $0.met() }
        }
        let accepted = threads.submit(item, weight: batch.count)
        if let error = refusal(accepted) { completion(.failure(error.at(partition.id))) }
    }

    /// Runs an operation between cycles, on the writer thread.
    func perform<Value: Sendable>(
        on partition: PartitionLog,
        _ operation: @escaping @Sendable () -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Value, any Error>) in
            let work = Work.operation { continuation.resume(returning: operation()) }
            if let error = refusal(threads.submit(Item(partition: partition, work: work))) {
                continuation.resume(throwing: error.at(partition.id))
            }
        }
    }

    /// Finishes what was accepted and ends the thread.
    ///
    /// Blocks.
    func stop() {
        threads.stop()
    }

    private func refusal(_ accepted: Bool?) -> EventLogError? {
        switch accepted {
        case true: nil
        case false: EventLogError(.overloaded, "too much is waiting to be written to disk; try again shortly")
        default: EventLogError(.closed, "the event log is closed")
        }
    }

    /// Does a cycle's work; returns the number of appends and the time it took.
    private static func run(_ items: [Item], _ lone: Lone) -> (appends: Int, nanoseconds: Int) {
        let started = ThreadCondition.now()
        let appends = cycle(items)
        let ended = ThreadCondition.now()
        let nanoseconds = Int(ended - started)
        lone.caller.withLock { $0.ended(appends: appends, nanoseconds: Int64(nanoseconds), at: Int64(ended)) }
        return (appends, nanoseconds)
    }

    private static func cycle(_ items: [Item]) -> Int {
        var order: [PartitionLog] = []
        var groups: [ObjectIdentifier: [PendingAppend]] = [:]
        var count = 0
        func flushGroups() {
            var runs: [(PartitionLog, WrittenRun)] = []
            func finishRuns() {
                // Files that are flushed one after the other would have their disk wait for each: so all begin at once.
                if runs.count > 1 {
                    for (_, run) in runs { run.file.startWriteBack(at: run.position, count: Int64(run.bytes.count)) }
                }
                for (partition, run) in runs { partition.finish(run) }
                runs.removeAll()
            }
            for partition in order {
                guard let appends = groups[ObjectIdentifier(partition)] else { continue }
                if let run = partition.write(appends) { runs.append((partition, run)) }
                // Each of them has a file open.
                if runs.count >= partition.environment.openFiles.perCycle { finishRuns() }
            }
            finishRuns()
            order.removeAll()
            groups.removeAll()
        }
        for item in items {
            switch item.work {
            case .append(let append):
                count += 1
                let key = ObjectIdentifier(item.partition)
                if groups[key] == nil { order.append(item.partition) }
                groups[key, default: []].append(append)
            case .operation(let operation):
                flushGroups()
                operation()
            }
        }
        flushGroups()
        return count
    }
}
