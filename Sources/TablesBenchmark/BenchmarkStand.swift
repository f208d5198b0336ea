// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import CLinux
import DuckDB
import EventLog
import Foundation
import KafkaCodec
import Lake
import Logging
import MartletCore
import Tables

/// The engine's own stores and its table runtime on one directory, without the rest of the engine.
struct BenchmarkStand {
    /// The only topic and the only table.
    static let topic = "events"
    static let table = "events"

    let log: LocalLog
    let catalog: Catalog
    let lake: Lake
    let runtime: TableRuntime
    let service: TableService
    let directory: String
    let logger: Logger

    /// Where the stores lie below the directory.
    struct Paths {
        var log: String
        var lake: String

        /// Of their own.
        static let own = Paths(log: "/log", lake: "/lake")
        /// Where the engine has them in its data directory.
        static let engine = Paths(log: "", lake: "/tables")
    }

    /// Opens the stores, with the defaults of the engine; queries may take ten minutes.
    ///
    /// `MARTLET_TABLES_SINK_MEMORY_MIB` is what it is for the engine.
    static func open(
        _ directory: String,
        paths: Paths = .own,
        maintenance: Duration = .seconds(10),
        now: (@Sendable () -> Int64)? = nil
    ) async throws -> BenchmarkStand {
        let logger = Logger(label: "benchmark") { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = .warning
            return handler
        }
        for folder in [paths.log, paths.lake] {
            try FileManager.default.createDirectory(atPath: directory + folder, withIntermediateDirectories: true)
        }
        var settings = LocalLogSettings()
        if let now { settings.now = now }
        let log = try await LocalLog.open(directory: directory + paths.log, settings: settings, logger: logger)
        let catalog = try Catalog.open(path: "\(directory)/catalog.sqlite")
        let environment = ProcessInfo.processInfo.environment
        var configuration = LakeConfiguration(
            directory: directory + paths.lake,
            libraryPath: environment["MARTLET_DUCKDB_LIBRARY"],
            libraryCandidates: [environment["VIRTUAL_ENV"] ?? ".venv"]
        )
        configuration.queryTimeout = .seconds(600)
        let lake = Lake(configuration: configuration, logger: logger)
        try await lake.open()
        let runtime = TableRuntime(
            catalog: catalog,
            log: log,
            lake: lake,
            telemetry: NoTelemetry(),
            logger: logger,
            maintenanceInterval: maintenance,
            sinkMemoryBytes: environment["MARTLET_TABLES_SINK_MEMORY_MIB"].flatMap { Int($0) }.map { $0 << 20 }
                ?? TableRuntime.sinkMemoryBytes
        )
        return BenchmarkStand(
            log: log,
            catalog: catalog,
            lake: lake,
            runtime: runtime,
            service: TableService(runtime: runtime, temporaryDirectory: directory),
            directory: directory,
            logger: logger
        )
    }

    /// Makes the topic; what is acknowledged is on disk where `isDurable`.
    func createTopic(partitions: Int32, isDurable: Bool) async throws {
        let owner = ResourceMetadata.Owner(name: "benchmark")
        _ = try await catalog.transaction { transaction in
            try transaction.create(name: Self.topic, owner: owner, spec: TopicSpec(partitions: partitions))
        }
        try await log.createTopic(
            Self.topic,
            partitions: partitions,
            settings: TopicSettings(durability: isDurable ? .onDisk : .powerFailureLosesLastSecond)
        )
    }

    /// Makes the table, which begins at the start of the topic, and takes it up.
    func createTable(_ spec: TableSpec = TableSpec(topic: topic)) async throws {
        let owner = ResourceMetadata.Owner(name: "benchmark")
        _ = try await catalog.transaction { transaction in
            try transaction.create(name: Self.table, owner: owner, spec: spec)
        }
        try await runtime.prepare()
    }

    /// Runs `body` with the sinks running.
    func running<R: Sendable>(_ body: @Sendable @escaping () async throws -> R) async throws -> R {
        try await withThrowingTaskGroup(of: R?.self) { group in
            group.addTask {
                await runtime.run()
                return nil
            }
            group.addTask { try await body() }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            throw BenchmarkError(message: "the tables stopped by themselves")
        }
    }

    /// The rows of a query that may name the table.
    func query(_ sql: String) async throws -> [[DuckDBValue]] {
        try await lake.query(sql, names: runtime.names(in: sql, options: QueryOptions())).rows()
    }

    /// The one integer that a query gives.
    func integer(_ sql: String) async throws -> Int64 {
        let text = try await query(sql).first?.first?.text ?? ""
        guard let value = Int64(text) else { throw BenchmarkError(message: "\(sql) gave '\(text)'") }
        return value
    }

    /// Returns once the table has taken everything the topic has.
    func caughtUp() async throws {
        while true {
            guard let table = try await service.find(Self.table) else {
                throw BenchmarkError(message: "the table is gone")
            }
            if table.state == .failed { throw BenchmarkError(message: table.reason ?? "the table fails") }
            if table.lagRecords == 0, table.state == .running { return }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    func close() async throws {
        runtime.close()
        await lake.close()
        await log.close()
        try catalog.close()
    }
}

/// Keeps nothing.
private struct NoTelemetry: TelemetrySink {
    func record(spans: [SpanRecord]) {}
    func record(logs: [LogRecord]) {}
    func record(metrics: [MetricPoint]) {}
}
