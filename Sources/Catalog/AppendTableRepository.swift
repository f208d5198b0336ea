// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
import GRDB
package import MartletCore

/// Commits, files, schema versions and consumed offsets of append tables, by the GUID of the table's resource.
package struct AppendTableRepository: Sendable {
    private let store: SQLiteFile

    init(_ store: SQLiteFile) {
        self.store = store
    }

    /// What the last commit left.
    package func load(_ guid: String) async throws -> AppendTableState {
        try await store.read { db in
            AppendTableState(
                schemas: try Self.schemas(guid, db),
                files: try Self.files(db, "table_guid = ? AND removed_in IS NULL ORDER BY id", [guid]),
                offsets: try Self.offsets(guid, db),
                lastCommit: try Self.lastCommit(guid, db)
            )
        }
    }

    /// Writes one commit; durable on return, all of it or nothing.
    ///
    /// - Returns: What was committed, and the files added, with their ids.
    /// - Throws: `ServiceError` `.notFound` for a table that is gone, `.failedPrecondition` where records were taken already or a file to be
    ///   removed is not part of the table.
    package func commit(
        _ guid: String,
        _ change: AppendTableChange
    ) async throws -> (commit: TableCommit, files: [AppendTableFile]) {
        try await store.write { db in try Self.write(guid, change, db) }
    }

    /// The files as they were after a commit, and the schema version of that commit.
    ///
    /// - Throws: `ServiceError` `.notFound` for a commit that never was or whose files may be gone.
    package func snapshot(
        _ guid: String,
        asOf number: Int64
    ) async throws -> (files: [AppendTableFile], schemas: [AppendTableSchemaVersion]) {
        try await store.read { db in
            guard
                let version = try Int.fetchOne(
                    db,
                    sql: "SELECT schema_version FROM table_commits WHERE table_guid = ? AND number = ?",
                    arguments: [guid, number]
                )
            else {
                let last = try Self.lastCommit(guid, db)
                throw ServiceError(
                    .notFound,
                    "there is no commit \(number) of this table; the last is \(last)",
                    fix: "list the commits with: martlet tables history"
                )
            }
            let expired =
                try Int64.fetchOne(
                    db,
                    sql: "SELECT max(number) FROM table_commits WHERE table_guid = ? AND files_expired = 1",
                    arguments: [guid]
                ) ?? 0
            guard number > expired else {
                throw ServiceError(
                    .notFound,
                    "the files of commit \(number) are gone; the oldest that can be read is \(expired + 1)",
                    fix: "keep more history with: martlet tables update NAME --history"
                )
            }
            let files = try Self.files(
                db,
                "table_guid = ? AND added_in <= ? AND (removed_in IS NULL OR removed_in > ?) ORDER BY id",
                [guid, number, number]
            )
            return (files, try Self.schemas(guid, db).filter { $0.version <= version })
        }
    }

    /// The number of the last commit at or before a time; nil before the first.
    package func commit(_ guid: String, at time: Date) async throws -> Int64? {
        try await store.read { db in
            try Int64.fetchOne(
                db,
                sql: "SELECT max(number) FROM table_commits WHERE table_guid = ? AND time_micros <= ?",
                arguments: [guid, Timestamp.microseconds(time)]
            )
        }
    }

    /// One page of commits, newest first; the cursor is the number to go on below.
    package func history(_ guid: String, limit: Int, cursor: String?) async throws -> Page<TableCommit> {
        let below = cursor.flatMap { Int64($0) } ?? .max
        let rows = try await store.read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT number, kind, time_micros, schema_version, rows_added, rows_removed, rows_rejected, ranges,
                        files_added, files_removed, bytes_added
                    FROM table_commits WHERE table_guid = ? AND number < ? ORDER BY number DESC LIMIT ?
                    """,
                arguments: [guid, below, limit + 1]
            ).map(Self.commit)
        }
        let items = Array(rows.prefix(limit))
        return Page(items: items, nextCursor: rows.count > limit ? items.last.map { String($0.number) } : nil)
    }

    /// Forgets files that left the table in a commit made before a time, and not after a commit that is still read; marks what can
    /// no longer be read.
    ///
    /// - Returns: Their paths, which may be deleted now.
    package func expire(_ guid: String, before time: Date, notAfter read: Int64) async throws -> [String] {
        try await store.write { db in
            guard
                let before = try Int64.fetchOne(
                    db,
                    sql: "SELECT max(number) FROM table_commits WHERE table_guid = ? AND time_micros < ?",
                    arguments: [guid, Timestamp.microseconds(time)]
                )
            else { return [] }
            let last = min(before, read)
            let paths = try String.fetchAll(
                db,
                sql: "SELECT path FROM table_files WHERE table_guid = ? AND removed_in <= ?",
                arguments: [guid, last]
            )
            guard !paths.isEmpty else { return [] }
            try db.execute(
                sql: """
                    UPDATE table_commits SET files_expired = 1 WHERE table_guid = ? AND number <
                        (SELECT max(removed_in) FROM table_files WHERE table_guid = ? AND removed_in <= ?)
                    """,
                arguments: [guid, guid, last]
            )
            try db.execute(
                sql: "DELETE FROM table_files WHERE table_guid = ? AND removed_in <= ?",
                arguments: [guid, last]
            )
            return paths
        }
    }

    /// Removes the records of commits before a time, but never the last one.
    package func forgetCommits(_ guid: String, before time: Date) async throws {
        try await store.write { db in
            try db.execute(
                sql: """
                    DELETE FROM table_commits WHERE table_guid = ?1 AND time_micros < ?2 AND files_expired = 1
                        AND number < (SELECT max(number) FROM table_commits WHERE table_guid = ?1)
                    """,
                arguments: [guid, Timestamp.microseconds(time)]
            )
        }
    }

    /// Paths of all files the catalog knows, those kept for AS OF among them.
    package func paths(_ guid: String) async throws -> Set<String> {
        try await store.read { db in
            Set(try String.fetchAll(db, sql: "SELECT path FROM table_files WHERE table_guid = ?", arguments: [guid]))
        }
    }
}

extension AppendTableRepository {
    fileprivate static func write(
        _ guid: String,
        _ change: AppendTableChange,
        _ db: Database
    ) throws -> (commit: TableCommit, files: [AppendTableFile]) {
        guard try Int.fetchOne(db, sql: "SELECT 1 FROM tables WHERE guid = ?", arguments: [guid]) != nil else {
            throw ServiceError(.notFound, "the table was deleted while it was written")
        }
        let number = try lastCommit(guid, db) + 1
        let now = CatalogTransaction.now()
        if let schema = change.schema {
            try db.execute(
                sql: "INSERT INTO table_schemas (table_guid, version, columns) VALUES (?, ?, ?)",
                arguments: [guid, schema.version, try CatalogTransaction.json(schema.columns)]
            )
        }
        try advance(guid, change.ranges, db)
        var files = change.filesAdded
        for index in files.indices {
            files[index].addedIn = number
            try insert(&files[index], guid, db)
        }
        for id in change.filesRemoved {
            try db.execute(
                sql: "UPDATE table_files SET removed_in = ? WHERE id = ? AND table_guid = ? AND removed_in IS NULL",
                arguments: [number, id, guid]
            )
            guard db.changesCount == 1 else {
                throw ServiceError(
                    .failedPrecondition,
                    "a file of the table was removed by another commit",
                    fix: "try again"
                )
            }
        }
        let version =
            try Int.fetchOne(
                db,
                sql: "SELECT max(version) FROM table_schemas WHERE table_guid = ?",
                arguments: [guid]
            ) ?? 0
        let commit = TableCommit(
            number: number,
            kind: change.kind,
            time: CatalogTransaction.date(now),
            schemaVersion: version,
            rowsAdded: change.rowsAdded,
            rowsRemoved: change.rowsRemoved,
            rowsRejected: change.rowsRejected,
            filesAdded: files.count,
            filesRemoved: change.filesRemoved.count,
            bytesAdded: files.reduce(0) { $0 + $1.bytes },
            ranges: change.ranges
        )
        try db.execute(
            sql: """
                INSERT INTO table_commits (table_guid, number, kind, time_micros, schema_version, rows_added, rows_removed,
                    rows_rejected, ranges, files_added, files_removed, bytes_added, files_expired)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
                """,
            arguments: [
                guid, number, commit.kind.rawValue, now, version, commit.rowsAdded, commit.rowsRemoved,
                commit.rowsRejected, try CatalogTransaction.json(commit.ranges), commit.filesAdded, commit.filesRemoved,
                commit.bytesAdded,
            ]
        )
        return (commit, files)
    }

    private static func advance(_ guid: String, _ ranges: [TableCommit.OffsetRange], _ db: Database) throws {
        let known = try offsets(guid, db)
        for range in ranges {
            if let next = known[range.partition], next != range.from {
                throw ServiceError(
                    .failedPrecondition,
                    "records \(range.from)..<\(range.to) of partition \(range.partition) do not follow the last commit, which ended at \(next)"
                )
            }
            try db.execute(
                sql: """
                    INSERT INTO table_offsets (table_guid, partition, next_offset) VALUES (?, ?, ?)
                    ON CONFLICT (table_guid, partition) DO UPDATE SET next_offset = excluded.next_offset
                    """,
                arguments: [guid, range.partition, range.to]
            )
        }
    }

    private static func insert(_ file: inout AppendTableFile, _ guid: String, _ db: Database) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO table_files (table_guid, part, path, schema_version, rows, bytes, statistics, added_in, checksum)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            guid, file.part.rawValue, file.path, file.schemaVersion, file.rows, file.bytes,
            String(decoding: try JSONEncoder().encode(file.bounds), as: UTF8.self), file.addedIn,
            file.checksum.map { Int64($0) },
        ])
        file.id = db.lastInsertedRowID
    }

    private static func schemas(_ guid: String, _ db: Database) throws -> [AppendTableSchemaVersion] {
        let decoder = ResourceCoding.decoder()
        return try Row.fetchAll(
            db,
            sql: "SELECT version, columns FROM table_schemas WHERE table_guid = ? ORDER BY version",
            arguments: [guid]
        ).map { row in
            let text: String = row[1]
            return AppendTableSchemaVersion(
                version: row[0],
                columns: try decoder.decode([AppendTableSchemaVersion.Column].self, from: Data(text.utf8))
            )
        }
    }

    private static func files(
        _ db: Database,
        _ condition: String,
        _ arguments: StatementArguments
    ) throws -> [AppendTableFile] {
        let decoder = JSONDecoder()
        return try Row.fetchAll(
            db,
            sql: """
                SELECT id, part, path, schema_version, rows, bytes, statistics, added_in, removed_in, checksum
                FROM table_files WHERE \(condition)
                """,
            arguments: arguments
        ).map { row in
            let statistics: String = row[6]
            let checksum: Int64? = row[9]
            return AppendTableFile(
                id: row[0],
                part: AppendTableFile.Part(rawValue: row[1]) ?? .rows,
                path: row[2],
                schemaVersion: row[3],
                rows: row[4],
                bytes: row[5],
                checksum: checksum.map { UInt32(truncatingIfNeeded: $0) },
                bounds: try decoder.decode([String: AppendTableFile.Bounds].self, from: Data(statistics.utf8)),
                addedIn: row[7],
                removedIn: row[8]
            )
        }
    }

    private static func offsets(_ guid: String, _ db: Database) throws -> [Int32: Int64] {
        let rows = try Row.fetchAll(
            db,
            sql: "SELECT partition, next_offset FROM table_offsets WHERE table_guid = ?",
            arguments: [guid]
        )
        return Dictionary(rows.map { ($0[0], $0[1]) }) { $1 }
    }

    private static func lastCommit(_ guid: String, _ db: Database) throws -> Int64 {
        try Int64.fetchOne(
            db,
            sql: "SELECT max(number) FROM table_commits WHERE table_guid = ?",
            arguments: [guid]
        ) ?? 0
    }

    private static func commit(_ row: Row) throws -> TableCommit {
        let kind: String = row[1]
        let ranges: String = row[7]
        return TableCommit(
            number: row[0],
            kind: TableCommit.Kind(rawValue: kind) ?? .append,
            time: CatalogTransaction.date(row[2]),
            schemaVersion: row[3],
            rowsAdded: row[4],
            rowsRemoved: row[5],
            rowsRejected: row[6],
            filesAdded: row[8],
            filesRemoved: row[9],
            bytesAdded: row[10],
            ranges: try ResourceCoding.decoder().decode([TableCommit.OffsetRange].self, from: Data(ranges.utf8))
        )
    }
}
