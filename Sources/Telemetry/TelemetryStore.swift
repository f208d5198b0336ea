// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB
import Foundation
package import Logging
package import MartletCore

/// Logs, spans and metric points, kept in a DuckDB file of their own and queried with SQL.
///
/// Records are durable within ``flushInterval`` of being recorded; a query sees everything recorded before it. Under a flood records are
/// dropped and counted, which a log record of scope `engine` then says.
package final class TelemetryStore: TelemetryIntake, Sendable {
    package static let flushInterval = Duration.milliseconds(250)
    private static let queuedMax = 200_000
    private static let retentionInterval = Duration.seconds(600)

    private let queue = TelemetryQueue(countMax: TelemetryStore.queuedMax)
    private let writerThread: DatabaseThread
    private let readerThread: DatabaseThread
    private let writer: ThreadBound<TelemetryWriter>
    private let reader: ThreadBound<Connection>
    private let retention: Duration
    private let logger: Logger

    /// Opens or creates the database.
    ///
    /// - Throws: `DuckDBError` where the file is damaged or locked.
    package static func open(
        library: DuckDBLibrary,
        path: String,
        temporaryDirectory: String,
        retention: Duration,
        logger: Logger
    ) async throws -> TelemetryStore {
        let writerThread = DatabaseThread(name: "telemetry-write")
        let readerThread = DatabaseThread(name: "telemetry-read")
        let configuration = DatabaseConfiguration(
            memoryBytesMax: 128 << 20,
            threads: 1,
            temporaryDirectory: temporaryDirectory
        )
        let (writer, database) = try await writerThread.run {
            let database = try Database(library: library, path: path, configuration: configuration)
            let connection = try database.connect()
            try connection.execute(TelemetrySchema.statements)
            return (ThreadBound(TelemetryWriter(connection)), database)
        }
        let reader = try await readerThread.run { ThreadBound(try database.connect()) }
        return TelemetryStore(
            writerThread: writerThread,
            readerThread: readerThread,
            writer: writer,
            reader: reader,
            retention: retention,
            logger: logger
        )
    }

    private init(
        writerThread: DatabaseThread,
        readerThread: DatabaseThread,
        writer: ThreadBound<TelemetryWriter>,
        reader: ThreadBound<Connection>,
        retention: Duration,
        logger: Logger
    ) {
        self.writerThread = writerThread
        self.readerThread = readerThread
        self.writer = writer
        self.reader = reader
        self.retention = retention
        self.logger = logger
    }

    package func record(spans: [SpanRecord]) { queue.add(spans: spans) }

    package func record(logs: [LogRecord]) { queue.add(logs: logs) }

    package func record(metrics: [MetricPoint]) { queue.add(metrics: metrics) }

    package func offer(_ records: TelemetryRecords) -> Bool {
        queue.offer(logs: records.logs, spans: records.spans, metrics: records.metrics)
    }

    /// Writes what is queued and removes what is past its retention, until cancelled.
    package func run() async {
        var nextRetention = ContinuousClock.now
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.flushInterval)
            await flush()
            guard ContinuousClock.now >= nextRetention else { continue }
            nextRetention = .now + Self.retentionInterval
            await removeOld()
        }
        await flush()
    }

    /// Writes what was recorded so far; durable on return unless the disk refuses, which is logged and counted as dropped.
    package func flush() async {
        do {
            // Taken on the writer's thread, so that whoever flushes after another also waits for what that one took.
            try await writerThread.run { [queue, writer, logger] in
                var batch = queue.take()
                guard !batch.isEmpty else { return }
                if batch.dropped > 0 { batch.logs.append(Self.lossRecord(batch.dropped)) }
                do { try writer.value.write(batch) } catch {
                    queue.addDropped(batch.count, again: batch.dropped)
                    logger.error(
                        "telemetry cannot be written",
                        metadata: ["error": "\(error)", "records": "\(batch.count)"]
                    )
                }
            }
        } catch {
            logger.error("telemetry cannot be written", metadata: ["error": "\(error)"])
        }
    }

    private static func lossRecord(_ count: Int) -> LogRecord {
        LogRecord(
            time: Date(),
            severity: "WARN",
            scope: "engine",
            message: "\(count) telemetry records were dropped because more came than could be written"
        )
    }

    /// Records that wait to be written.
    package var queued: Int { queue.count }
    /// Records dropped since the store was opened.
    package var dropped: Int { queue.dropped }

    /// Ends the threads; the store is of no use afterwards.
    package func close() async {
        await flush()
        writerThread.stop()
        readerThread.stop()
    }

    /// Runs a query over what is recorded so far.
    func query(_ sql: String, _ parameters: [DuckDBValue]) async throws -> [[DuckDBValue]] {
        await flush()
        return try await readerThread.run { [reader] in try reader.value.query(sql, parameters).rows() }
    }

    private func removeOld() async {
        let before = Timestamp.nowMicroseconds() - Int64(retention.components.seconds) * 1_000_000
        do {
            try await writerThread.run { [writer] in try writer.value.remove(before: before) }
        } catch {
            logger.error("old telemetry cannot be removed", metadata: ["error": "\(error)"])
        }
    }
}

/// Something only one thread uses, carried past the compiler's checks.
// SAFETY: `value` is made and used on the one DatabaseThread its owner runs everything on; the owner never hands it elsewhere.
struct ThreadBound<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }
}
