// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation

/// The real library and a directory for one test's files, removed afterwards.
enum DuckDBFixture {
    /// `MARTLET_DUCKDB_LIBRARY`, else the virtual environment `.venv` at the root of the repository.
    static func library() throws -> DuckDBLibrary {
        let environment = ProcessInfo.processInfo.environment
        return try DuckDBLibrary.load(explicit: environment["MARTLET_DUCKDB_LIBRARY"], candidates: [virtualEnvironment])
    }

    static var virtualEnvironment: String {
        var root = URL(filePath: #filePath)
        for _ in 0..<3 { root.deleteLastPathComponent() }
        return root.appending(path: ".venv").path
    }

    static func memory(_ configuration: DatabaseConfiguration = DatabaseConfiguration()) throws -> Connection {
        try Database(library: library(), path: nil, configuration: configuration).connect()
    }

    static func withDirectory<R>(_ body: (String) throws -> R) throws -> R {
        let directory = FileManager.default.temporaryDirectory.appending(path: "martlet-duckdb-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        return try body(directory.path)
    }
}
