// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Logging
import MartletCore

/// Writes fresh rows to files and commits them.
struct TableCommitter: Sendable {
    let table: AppendTable
    let services: SinkServices

    /// Name of the consumer group that shows how far a table is.
    static func group(of table: String) -> String { "__table.\(table)" }

    /// Commits rows with the offsets they were taken from.
    func commit(_ rows: [FreshRows], ranges: [TableCommit.OffsetRange]) async throws -> TableCommit {
        let started = ContinuousClock.now
        let startMicros = Timestamp.nowMicroseconds()
        // Only the sink changes the columns while it runs, so they stay the same until the commit is stored.
        let schema = nextSchema(rows)
        let version = schema?.version ?? table.read { $0.schemaVersion }
        let files = try await write(rows, schema: schema, version: version)
        let commit = try await table.changes.pass { try await store(rows, files, schema, ranges) }
        services.logger.debug(
            "rows committed",
            metadata: [
                "table": "\(table.name)", "commit": "\(commit.number)", "rows": "\(commit.rowsAdded)",
                "took": "\(ContinuousClock.now - started)",
            ]
        )
        services.tell(commit, of: table)
        let work = startMicros..<max(startMicros, Timestamp.nowMicroseconds())
        await note(commit)
        await trace(commit, rows, work)
        return commit
    }

    /// Tells the traces of the rows where they ended; the engine's own tables would trace themselves.
    private func trace(_ commit: TableCommit, _ rows: [FreshRows], _ work: Range<Int64>) async {
        let filled = rows.filter { $0.mayHaveTraces }
        guard !table.spec.isInternal, !filled.isEmpty else { return }
        do {
            let spans = try await services.space.files.run { [table, services] in
                try services.space.withConnection { connection in
                    try CommitSpans(table: table, commit: commit).read(filled, work: work, on: connection)
                }
            }
            if !spans.isEmpty { services.telemetry.record(spans: spans) }
        } catch {
            services.logger.warning(
                "the traces of a commit cannot be told",
                metadata: ["table": "\(table.name)", "error": "\(error)"]
            )
        }
    }

    /// The columns of these rows as a new version, where they differ from those of the last commit.
    private func nextSchema(_ rows: [FreshRows]) -> AppendTableSchemaVersion? {
        table.read { state in
            let columns = rows.last?.columns ?? state.columns
            guard state.schemas[state.schemaVersion] != columns else { return nil }
            return AppendTableSchemaVersion(version: state.schemaVersion + 1, columns: columns)
        }
    }

    private func write(
        _ rows: [FreshRows],
        schema: AppendTableSchemaVersion?,
        version: Int
    ) async throws -> [AppendTableFile] {
        let columns = schema?.columns ?? table.read { $0.schemas[version] ?? [] }
        let snapshot = TableSnapshot(
            layout: table.layout,
            columns: columns,
            schemas: [:],
            files: [],
            fresh: rows,
            commit: 0
        )
        let writer = ParquetWriter(layout: table.layout, keepsOrder: false, groupRows: groupRows(rows))
        let space = services.space
        _ = try await space.database()
        return try await space.files.run {
            try space.withConnection { connection in
                var files: [AppendTableFile] = []
                if rows.contains(where: { $0.rowCount > 0 }) {
                    files += try writer.write(snapshot.query(.rows), .rows, schemaVersion: version, on: connection)
                }
                if rows.contains(where: { $0.rejectCount > 0 }) {
                    files += try writer.write(
                        snapshot.query(.rejects),
                        .rejects,
                        schemaVersion: version,
                        on: connection
                    )
                }
                return files
            }
        }
    }

    /// As many rows as DuckDB takes by itself, or as there is memory for.
    private func groupRows(_ rows: [FreshRows]) -> Int {
        let count = rows.reduce(0) { $0 + $1.rowCount + $1.rejectCount }
        let bytes = rows.reduce(0) { $0 + $1.memoryBytes }
        return ParquetWriter.groupRows(within: services.memory.groupMax, bytes: bytes, rows: Int(count))
    }

    private func store(
        _ rows: [FreshRows],
        _ files: [AppendTableFile],
        _ schema: AppendTableSchemaVersion?,
        _ ranges: [TableCommit.OffsetRange]
    ) async throws -> TableCommit {
        let change = AppendTableChange(
            kind: .append,
            schema: schema,
            filesAdded: files,
            ranges: ranges,
            rowsAdded: rows.reduce(0) { $0 + $1.rowCount },
            rowsRejected: rows.reduce(0) { $0 + $1.rejectCount }
        )
        do {
            let (commit, stored) = try await services.catalog.appendTables.commit(table.guid, change)
            table.apply(commit, added: stored, schema: schema, written: rows)
            return commit
        } catch {
            // A failing disk can report an error for what it has stored all the same.
            guard let commit = try await findCommit(ranges, files, schema, rows) else {
                // The next attempt writes them anew, perhaps for lack of the very room they take.
                let known = try await services.catalog.appendTables.paths(table.guid)
                table.layout.folder.remove(files.map(\.path).filter { !known.contains($0) })
                throw error
            }
            return commit
        }
    }

    /// Takes over a commit of these files that the catalog has although it reported an error.
    private func findCommit(
        _ ranges: [TableCommit.OffsetRange],
        _ files: [AppendTableFile],
        _ schema: AppendTableSchemaVersion?,
        _ rows: [FreshRows]
    ) async throws -> TableCommit? {
        let tables = services.catalog.appendTables
        guard let last = try await tables.history(table.guid, limit: 1, cursor: nil).items.first,
            last.number > table.read({ $0.lastCommit }), last.ranges == ranges
        else { return nil }
        let paths = Set(files.map(\.path))
        let stored = try await tables.load(table.guid).files.filter { paths.contains($0.path) }
        table.apply(last, added: stored, schema: schema, written: rows)
        return last
    }

    /// Shows in the table's consumer group how far it is; the catalog stays the one that counts.
    private func note(_ commit: TableCommit) async {
        let topic = table.spec.topic
        var offsets: [TopicPartition: CommittedOffset] = [:]
        for range in commit.ranges {
            offsets[TopicPartition(topic: topic, partition: range.partition)] = CommittedOffset(
                offset: range.to,
                committedAt: Timestamp.nowMicroseconds() / 1000
            )
        }
        guard !offsets.isEmpty else { return }
        do {
            try await services.log.commit(group: Self.group(of: table.name), offsets: offsets)
        } catch {
            services.logger.warning(
                "a table's consumer group cannot be updated",
                metadata: ["table": "\(table.name)", "error": "\(error)"]
            )
        }
    }
}
