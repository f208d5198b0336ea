// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Foundation
import Lake
import Logging
import MartletCore
import Tables
import Telemetry

/// A store over a log, a catalog and tables in a folder of its own, with its sinks running.
func withTelemetryStore(_ body: (TelemetryStore) async throws -> Void) async throws {
    try await withTelemetryStoreAndLog { store, _ in try await body(store) }
}

/// As ``withTelemetryStore(_:)``, with the log.
func withTelemetryStoreAndLog(_ body: (TelemetryStore, LocalLog) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "martlet-telemetry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    let logger = Logger(label: "test")
    let catalog = try Catalog.open(path: folder.appending(path: "catalog.sqlite").path)
    let log = try await LocalLog.open(directory: folder.path, logger: logger)
    let lake = Lake(
        configuration: LakeConfiguration(
            directory: folder.appending(path: "tables").path,
            libraryPath: ProcessInfo.processInfo.environment["MARTLET_DUCKDB_LIBRARY"],
            libraryCandidates: [root.appending(path: ".venv").path]
        ),
        logger: logger
    )
    try await lake.open()
    // A busy machine is no reason to answer early here.
    let store = TelemetryStore(log: log, logger: logger, catchUpMax: .seconds(30))
    let tables = TableRuntime(catalog: catalog, log: log, lake: lake, telemetry: store, logger: logger)
    try await tables.prepare(
        internal: SystemTable.allCases.map { $0.definition(retention: .seconds(86_400 * 36_500)) }
    )
    try await tables.prepare()
    store.read(from: tables, in: lake)
    let sinks = Task { await tables.run() }
    do {
        try await body(store, log)
    } catch {
        sinks.cancel()
        throw error
    }
    sinks.cancel()
    await sinks.value
    tables.close()
    await lake.close()
    await log.close()
    try catalog.close()
}
