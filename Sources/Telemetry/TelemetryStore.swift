// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
package import EventLog
import Foundation
import KafkaCodec
package import Lake
package import Logging
package import MartletCore
import Synchronization
package import Tables

/// Logs, spans and metric points: records of internal topics, kept in the tables of the schema `system`, queried with SQL.
///
/// Records are in their topic within ``flushInterval`` of being recorded; a query sees everything recorded before it. Nobody who records ever
/// waits: under a flood records are dropped by rule (``TelemetryQueue``) and counted, which a log record of scope `engine` then says.
package final class TelemetryStore: TelemetrySink, TelemetryIntake, Sendable {
    package static let flushInterval = Duration.milliseconds(250)
    private static let queuedMax = 200_000
    private static let lossInterval = Duration.seconds(10)
    private static let batchBytesMax = 900 << 10

    private struct Reader: Sendable {
        let lake: Lake
        let tables: TableRuntime
    }

    private let log: any EventLog
    /// How long a query waits for the sinks to take what was recorded before it.
    private let catchUpMax: Duration
    /// First part of the types and sources of events.
    private let authority: String
    private let queue = TelemetryQueue(countMax: TelemetryStore.queuedMax)
    private let reader = Mutex<Reader?>(nil)
    private let flushes = TaskGate()
    private let lossReported = Mutex<ContinuousClock.Instant?>(nil)
    private let now: @Sendable () -> Int64
    private let logger: Logger

    /// Makes a store over the log; queries are answered once ``read(from:in:)`` was called.
    ///
    /// `authority` is the first part of the types of the engine's own events; a query waits `catchUpMax` for sinks to take what was
    /// recorded before it; `now` gives the microseconds since 1970 that records are stored at.
    package init(
        log: any EventLog,
        authority: String = "vastdata.com",
        logger: Logger,
        catchUpMax: Duration = .seconds(2),
        now: @escaping @Sendable () -> Int64 = { Timestamp.nowMicroseconds() }
    ) {
        self.catchUpMax = catchUpMax
        self.log = log
        self.authority = authority
        self.logger = logger
        self.now = now
    }

    /// Names the tables to answer from, which have to be prepared with ``SystemTable``'s definitions.
    package func read(from tables: TableRuntime, in lake: Lake) {
        reader.withLock { $0 = Reader(lake: lake, tables: tables) }
    }

    package func record(spans: [SpanRecord]) { queue.add(spans: spans) }

    package func hasRoom(spans count: Int) -> Bool { queue.hasRoom(spans: count) }

    package func skipped(spans count: Int) { queue.addDropped(count, again: 0) }

    package func record(logs: [LogRecord]) { queue.add(logs: logs) }

    package func record(metrics: [MetricPoint]) { queue.add(metrics: metrics) }

    package func record(events: [EngineEvent]) { queue.add(events: events) }

    package func offer(_ records: TelemetryRecords) -> Bool {
        queue.offer(logs: records.logs, spans: records.spans, metrics: records.metrics)
    }

    /// Writes what is queued, until cancelled.
    package func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.flushInterval)
            await flush()
        }
        await flush()
    }

    /// Appends what was recorded so far to the topics, unless the disk refuses, which is logged and counted as dropped.
    package func flush() async {
        // Whoever flushes after another also waits for what that one took.
        await flushes.pass {
            var batch = queue.take()
            guard !batch.isEmpty else { return }
            reportLoss(&batch)
            do {
                try await append(batch.logs, .logs) { Record(timestamp: $1, value: TelemetryText.bytes($0)) }
                try await append(batch.spans, .spans) { Record(timestamp: $1, value: TelemetryText.bytes($0)) }
                try await append(batch.metrics, .metrics) { Record(timestamp: $1, value: TelemetryText.bytes($0)) }
                try await append(batch.events, .events) { [authority] event, now in
                    Record(event: TelemetryText.event(event, authority: authority), key: nil, timestamp: now)
                }
            } catch {
                queue.addDropped(
                    batch.count,
                    again: batch.dropped,
                    eventsAgain: batch.events.count + batch.droppedEvents
                )
                logger.error(
                    "telemetry cannot be written",
                    metadata: ["error": "\(error)", "records": "\(batch.count)"]
                )
            }
        }
    }

    private func append<Item: Sendable>(
        _ items: [Item],
        _ table: SystemTable,
        _ make: (_ item: Item, _ nowMilliseconds: Int64) -> Record
    ) async throws {
        let partition = TopicPartition(topic: table.topic, partition: 0)
        let now = now() / 1000
        var records: [Record] = []
        var bytes = RecordBatchHeader.byteCount
        for item in items {
            let record = make(item, now)
            let size = record.encodedBytesMax
            if !records.isEmpty, bytes + size > Self.batchBytesMax {
                _ = try await log.append(RecordBatchEncoder.encode(records), to: partition)
                records.removeAll(keepingCapacity: true)
                bytes = RecordBatchHeader.byteCount
            }
            records.append(record)
            bytes += size
        }
        if !records.isEmpty { _ = try await log.append(RecordBatchEncoder.encode(records), to: partition) }
    }

    /// Says how many records were dropped, but not in every flush of a long flood.
    private func reportLoss(_ batch: inout TelemetryQueue.Batch) {
        guard batch.dropped > 0 else { return }
        let isDue = lossReported.withLock { last in
            if let last, ContinuousClock.now - last < Self.lossInterval { return false }
            last = .now
            return true
        }
        if isDue {
            batch.logs.append(Self.lossRecord(batch.dropped, events: batch.droppedEvents))
        } else {
            queue.addDropped(0, again: batch.dropped, eventsAgain: batch.droppedEvents)
            batch.dropped = 0
            batch.droppedEvents = 0
        }
    }

    private static func lossRecord(_ count: Int, events: Int) -> LogRecord {
        let which = events > 0 ? ", \(events) of them events of the engine," : ""
        return LogRecord(
            time: Date(),
            severity: "WARN",
            scope: "engine",
            message: "\(count) telemetry records\(which) were dropped because more came than could be written"
        )
    }

    /// Records that wait to be written.
    package var queued: Int { queue.count }
    /// Records dropped since the store was opened.
    package var dropped: Int { queue.dropped }

    /// About the newest time in a column of a table, microseconds since 1970: now where it has rows that are in no file yet.
    func newestTime(_ table: SystemTable, column: String) async throws -> Int64 {
        guard let reader = reader.withLock({ $0 }) else { return now() }
        return try reader.tables.newestTime(table.name, column: column) ?? now()
    }

    /// Runs a query over what is recorded so far; `predicates` say which files of the system tables can matter.
    func query(
        _ sql: String,
        _ parameters: [DuckDBValue] = [],
        of tables: [SystemTable],
        predicates: QueryPredicates = QueryPredicates()
    ) async throws -> [[DuckDBValue]] {
        guard let reader = reader.withLock({ $0 }) else {
            throw ServiceError(.unavailable, "telemetry cannot be read yet", fix: "try again in a moment")
        }
        await flush()
        for table in tables { _ = try await reader.tables.isCaughtUp(table.name, within: catchUpMax) }
        let names = try await reader.tables.names(in: sql, options: QueryOptions(), predicates: predicates)
        return try await reader.lake.query(sql, parameters: parameters, names: names).rows()
    }
}
