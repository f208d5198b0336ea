// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import Logging
import Tables
import Testing

@Suite(.timeLimit(.minutes(5))) struct KeyedLeftoversTests {
    private static func with(_ body: (Lake) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "martlet-left-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: directory) }
        var root = URL(filePath: #filePath)
        for _ in 0..<3 { root.deleteLastPathComponent() }
        let configuration = LakeConfiguration(
            directory: directory.path,
            libraryPath: ProcessInfo.processInfo.environment["MARTLET_DUCKDB_LIBRARY"],
            libraryCandidates: [root.appending(path: ".venv").path]
        )
        let lake = Lake(
            configuration: configuration,
            logger: Logger(label: "lake", factory: { _ in SwiftLogNoOpLogHandler() })
        )
        do {
            try await lake.transact(changesTables: true) {
                try $0.execute(
                    """
                    CREATE TABLE martlet_table_offsets ("table" VARCHAR, guid VARCHAR, "partition" INTEGER, next_offset BIGINT, \
                    PRIMARY KEY (guid, "partition"))
                    """
                )
            }
            try await body(lake)
        } catch {
            await lake.close()
            throw error
        }
        await lake.close()
    }

    private static func make(_ name: String, guid: String, _ lake: Lake) async throws {
        try await lake.transact(changesTables: true) {
            try $0.execute(
                """
                CREATE TABLE "\(name)" (id VARCHAR); CREATE TABLE "\(name)__rejected" (id VARCHAR); \
                INSERT INTO martlet_table_offsets VALUES ('\(name)', '\(guid)', 0, 7), ('\(name)', '\(guid)', 1, 7)
                """
            )
        }
    }

    @Test func whatIsLeftOfDeletedTablesGoes() async throws {
        try await Self.with { lake in
            try await Self.make("gone", guid: "1", lake)
            try await Self.make("kept", guid: "2", lake)
            try await KeyedLeftovers.sweep(lake) { ["2"] }
            #expect(try await lake.tableNames() == ["kept", "kept__rejected", "martlet_table_offsets"])
            let rows = try await lake.query("SELECT DISTINCT guid FROM martlet_table_offsets").rows()
            #expect(rows == [[.string("2")]])
        }
    }

    /// Another sweep removes the leftover and a new table gets its name, after this one has looked and before it acts.
    @Test func aTableThatGotTheNameMeanwhileStays() async throws {
        try await Self.with { lake in
            try await Self.make("twice", guid: "1", lake)
            try await KeyedLeftovers.sweep(lake) {
                try await KeyedLeftovers.sweep(lake) { [] }
                try await Self.make("Twice", guid: "2", lake)
                return []
            }
            #expect(try await lake.tableNames() == ["Twice", "Twice__rejected", "martlet_table_offsets"])
            let rows = try await lake.query("SELECT guid, next_offset FROM martlet_table_offsets ORDER BY ALL").rows()
            #expect(rows == [[.string("2"), .int(7)], [.string("2"), .int(7)]])
        }
    }
}
