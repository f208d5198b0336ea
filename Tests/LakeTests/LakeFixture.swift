// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import Logging

/// A lake on the real library in a directory of its own, closed and removed afterwards.
enum LakeFixture {
    static var virtualEnvironment: String {
        var root = URL(filePath: #filePath)
        for _ in 0..<3 { root.deleteLastPathComponent() }
        return root.appending(path: ".venv").path
    }

    static func configuration(_ directory: String) -> LakeConfiguration {
        LakeConfiguration(
            directory: directory,
            libraryPath: ProcessInfo.processInfo.environment["MARTLET_DUCKDB_LIBRARY"],
            libraryCandidates: [virtualEnvironment]
        )
    }

    static func make(_ directory: String, _ change: (inout LakeConfiguration) -> Void = { _ in }) -> Lake {
        var configuration = configuration(directory)
        change(&configuration)
        return Lake(
            configuration: configuration,
            logger: Logger(label: "lake", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    static func withDirectory<R>(_ body: (String) async throws -> R) async throws -> R {
        let directory = FileManager.default.temporaryDirectory.appending(path: "martlet-lake-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: directory) }
        return try await body(directory.path)
    }

    static func with<R>(
        _ change: (inout LakeConfiguration) -> Void = { _ in },
        _ body: (Lake) async throws -> R
    ) async throws -> R {
        try await withDirectory { directory in
            let lake = make(directory, change)
            do {
                let result = try await body(lake)
                await lake.close()
                return result
            } catch {
                await lake.close()
                throw error
            }
        }
    }
}

extension Lake {
    /// Commits a transaction given as the operations' JSON.
    @discardableResult
    func commit(_ operations: String) async throws -> TableCommitResult {
        try await commit(TableTransaction.decode(Array("{\"operations\":[\(operations)]}".utf8)))
    }

    func rows(_ sql: String) async throws -> [[DuckDBValue]] {
        try await query(sql).rows()
    }

    /// The error of a commit that must fail.
    func refusal(_ operations: String) async -> LakeError? {
        do {
            try await commit(operations)
            return nil
        } catch {
            return error as? LakeError
        }
    }
}

func upsert(_ table: String, key: String, columns: String, rows: String) -> String {
    func list(_ names: String) -> String { names.split(separator: ",").map { "\"\($0)\"" }.joined(separator: ",") }
    return #"{"op":"upsert","table":"\#(table)","key":[\#(list(key))],"columns":[\#(list(columns))],"rows":[\#(rows)]}"#
}

func delete(_ table: String, columns: String, rows: String) -> String {
    let list = columns.split(separator: ",").map { "\"\($0)\"" }.joined(separator: ",")
    return #"{"op":"delete","table":"\#(table)","columns":[\#(list)],"rows":[\#(rows)]}"#
}
