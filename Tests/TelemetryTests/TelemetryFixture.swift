// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Logging
import Telemetry

/// A store in a folder of its own.
func withTelemetryStore(_ body: (TelemetryStore) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "martlet-telemetry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    let library = try DuckDBLibrary.load(
        explicit: ProcessInfo.processInfo.environment["MARTLET_DUCKDB_LIBRARY"],
        candidates: [root.appending(path: ".venv").path]
    )
    let store = try await TelemetryStore.open(
        library: library,
        path: folder.appending(path: "telemetry.duckdb").path,
        temporaryDirectory: folder.path,
        retention: .seconds(86_400 * 36_500),
        logger: Logger(label: "test")
    )
    try await body(store)
    await store.close()
}
