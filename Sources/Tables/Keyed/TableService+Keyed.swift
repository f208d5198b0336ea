// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Lake
import MartletCore

// What the API can ask of a table that follows a topic and has a key.
extension TableService {
    /// Names that a new table may not take, and who has them.
    func takenNames() async throws -> TableDocument.TakenNames {
        let followers = runtime.keyed.all()
        let stored = Set(followers.flatMap(\.storedNames).map { $0.lowercased() })
        return TableDocument.TakenNames(
            keyed: try await runtime.services.space.lake.tableNames().filter { !stored.contains($0.lowercased()) },
            following: runtime.registry.all().map(\.name) + followers.map(\.name)
        )
    }

    /// What a keyed table is, holds and how it fares.
    func describe(_ table: KeyedTable) async throws -> TableDescription {
        let (resource, columns, status, offsets, isLoaded) = table.with { state in
            (state.resource, state.columns, state.status, state.offsets, state.isLoaded)
        }
        // Before its sink has opened it there is nothing to count, or DuckDB itself is what fails.
        var counts: (rows: Int64, rejects: Int64)?
        var missing: String?
        if isLoaded {
            do { counts = try await runtime.keyed.store(of: table).counts() } catch let error as LakeError {
                // Somebody dropped what only its topic may change; that must not hide the other tables of a list.
                missing =
                    "its rows cannot be read: \(error.message); where they were dropped by SQL, delete the table and create it again, "
                    + "which reads the topic from its start"
            }
        }
        var described = TableDescription(
            resource,
            columns: Self.columns(resource.spec, columns),
            rows: counts?.rows ?? 0
        )
        described.rejectedRows = counts?.rejects ?? 0
        (described.lagRecords, described.lagSeconds) = try await lag(resource.spec.topic, offsets)
        switch status.phase {
        case .running: described.state = .running
        case .starting, .paused: described.state = .paused
        case .failing: described.state = .failed
        }
        if missing != nil { described.state = .failed }
        described.reason = missing ?? status.reason ?? (status.phase == .starting ? "it is being started" : nil)
        return described
    }

    /// Changes settings, and adds or widens columns.
    func update(_ table: KeyedTable, _ document: Document, dryRun: Bool) async throws -> TableDescription {
        let columns = table.with { $0.columns }
        let resource = try await catalog.transaction(dryRun: dryRun) { transaction in
            try transaction.update(TableSpec.self, table.guid) { resource in
                try TableDocument.apply(document, to: &resource, columns: columns)
            }
        }
        if dryRun { return describe(resource) }
        let starts = try await KeyedTables.starts(resource.spec, runtime.services.log)
        try await runtime.keyed.exclusively(table) {
            table.with { $0.resource = resource }
            try await runtime.keyed.store(of: table).open(starts: starts)
        }
        return try await describe(table)
    }

    func delete(_ table: KeyedTable) async throws {
        try await catalog.tables.delete(table.guid)
        try await runtime.keyed.close(table)
    }

    /// Returns when everything the topic has now is in the table; there are no commits to show.
    func commit(_ table: KeyedTable) async throws -> TableCommit? {
        guard let sink = runtime.keyed.sink(of: table) else {
            throw ServiceError(.unavailable, "the table '\(table.name)' is being changed", fix: "try again in a moment")
        }
        try await sink.commit()
        return nil
    }

    func export(_ table: KeyedTable, format: TableFormat, to path: String) async throws -> String {
        _ = try await runtime.services.space.lake.export(
            table.name,
            format: format == .parquet ? .parquet : .csv,
            to: path
        )
        return path
    }

    static func noFiles(_ table: KeyedTable, _ what: String) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "table '\(table.name)' has a key: its rows lie in DuckDB's own file, and it has no files \(what)",
            fix: "nothing needs to be done: DuckDB looks after its file by itself"
        )
    }

    static func noReplay(_ table: KeyedTable) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "the rejects of '\(table.name)' cannot be replayed: it keeps the newest record of each key, and a reject may be older than "
                + "the row there is",
            fix:
                "publish the records again where they still hold; or create another table of topic '\(table.spec.topic)' with the fix, "
                + "which reads all of them in order"
        )
    }
}
