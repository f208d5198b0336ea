// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Foundation
import Logging
import MartletCore

/// Keeps an append table in shape while it is written and read: merges small files, removes old rows, deletes what nobody can read.
struct TableMaintenance: Sendable {
    /// Files of at least this many bytes are left as they are.
    static let targetBytes: Int64 = 128 << 20
    /// A merge takes at most this many bytes, so that it ends.
    private static let mergeBytesMax: Int64 = 512 << 20
    /// So many files of a partition are merged without being asked.
    private static let automaticMin = 8

    /// How many times what they take in a file values take in memory, about.
    private static let valueFactor = 6

    let table: AppendTable
    let services: SinkServices

    /// Does what is due.
    func run() async {
        do {
            try await table.maintenance.pass {
                try await removeOld()
                while try await merge(atLeast: Self.automaticMin, tiered: true) != nil {}
                try await deleteUnreadable()
            }
        } catch is CancellationError {
            return
        } catch {
            services.logger.warning(
                "a table cannot be maintained",
                metadata: ["table": "\(table.name)", "error": "\(error)"]
            )
        }
    }

    /// Merges all small files now.
    func compact() async throws -> TableCompaction {
        try await table.maintenance.pass {
            let before = table.read { Array($0.files.values) }
            var last: TableCommit?
            var rows: Int64 = 0
            while let commit = try await merge(atLeast: 2, tiered: false) {
                last = commit
                rows += commit.rowsAdded
            }
            let after = table.read { Array($0.files.values) }
            return TableCompaction(
                filesBefore: before.count,
                filesAfter: after.count,
                bytesBefore: before.reduce(0) { $0 + $1.bytes },
                bytesAfter: after.reduce(0) { $0 + $1.bytes },
                rows: rows,
                commit: last
            )
        }
    }

    // MARK: Merging

    /// Merges the files of one partition; nil where none has enough.
    private func merge(atLeast count: Int, tiered: Bool) async throws -> TableCommit? {
        let files = table.read { state in state.files.values.filter { state.damage[$0.path] == nil } }
        guard let chosen = Self.choose(files, atLeast: count, tiered: tiered) else { return nil }
        let damage = try await damage(of: chosen)
        guard damage.isEmpty else {
            // What is damaged stays as it is, for a repair; the others can still be merged.
            services.note(damage: damage, of: table)
            return try await merge(atLeast: count, tiered: tiered)
        }
        let part = chosen[0].part
        let (version, columns, schemas) = table.read {
            ($0.schemaVersion, $0.schemas[$0.schemaVersion] ?? [], $0.schemas)
        }
        let source = TableSnapshot(
            layout: table.layout,
            columns: columns,
            schemas: schemas,
            files: chosen,
            fresh: [],
            commit: 0
        )
        var writer = ParquetWriter(layout: table.layout)
        if part == .rows { writer.sortColumns = table.spec.sortBy }
        writer.groupRows = ParquetWriter.groupRows(
            within: services.memory.mergeMax / 2,
            bytes: Self.valueFactor * Int(chosen.reduce(0) { $0 + $1.bytes }),
            rows: Int(chosen.reduce(0) { $0 + $1.rows })
        )
        let database = try await services.space.database()
        let output = writer
        let memory = services.memory
        let written = try await services.space.maintenance.run {
            let bytes = memory.mergeMax
            memory.begin(.merge, bytes)
            defer { memory.end(.merge, bytes) }
            return try output.write(source.query(part), part, schemaVersion: version, on: database.connect())
        }
        let rows = chosen.reduce(0) { $0 + $1.rows }
        guard written.reduce(0, { $0 + $1.rows }) == rows else {
            table.layout.folder.remove(written.map(\.path))
            throw ServiceError(
                .internal,
                "a merge of \(chosen.count) files of the table '\(table.name)' did not give the same number of rows; the files stay",
                fix: "run: martlet tables repair \(table.name) --dry-run"
            )
        }
        return try await store(
            AppendTableChange(
                kind: .compaction,
                filesAdded: written,
                filesRemoved: chosen.map(\.id),
                rowsAdded: part == .rows ? rows : 0,
                rowsRemoved: part == .rows ? rows : 0
            )
        )
    }

    /// What is wrong with files that are to be merged: a new file would hide it.
    private func damage(of files: [AppendTableFile]) async throws -> [String: String] {
        let inspector = FileInspector(folder: table.layout.folder)
        return try await services.space.maintenance.run {
            let problems = files.compactMap { file in inspector.problem(file, .full, nil).map { (file.path, $0) } }
            return Dictionary(problems) { first, _ in first }
        }
    }

    /// The files to merge: of one partition, oldest first.
    ///
    /// Without being asked, only files of about the same size are merged, so that each row is written a few times and not with
    /// every commit.
    static func choose(_ files: [AppendTableFile], atLeast count: Int, tiered: Bool) -> [AppendTableFile]? {
        let small = files.filter { $0.bytes < targetBytes }
        let groups = Dictionary(grouping: small) { file in
            "\(file.part.rawValue)/" + file.path.split(separator: "/").dropLast().joined(separator: "/")
        }
        for (_, members) in groups.sorted(by: { $0.key < $1.key }) where members.count >= count {
            var chosen: [AppendTableFile] = []
            var bytes: Int64 = 0
            for file in members.sorted(by: { ($0.bytes, $0.id) < ($1.bytes, $1.id) }) {
                if bytes + file.bytes > mergeBytesMax { break }
                if tiered, chosen.count >= count, file.bytes > bytes { break }
                chosen.append(file)
                bytes += file.bytes
            }
            if chosen.count >= count { return chosen.sorted { $0.id < $1.id } }
        }
        return nil
    }

    func store(_ change: AppendTableChange, written: [FreshRows] = []) async throws -> TableCommit {
        try await table.changes.pass {
            do {
                let (commit, files) = try await services.catalog.appendTables.commit(table.guid, change)
                table.apply(
                    commit,
                    added: files,
                    removed: change.filesRemoved,
                    schema: change.schema,
                    written: written
                )
                services.tell(commit, of: table)
                return commit
            } catch {
                // A failing disk can report an error for what it has stored all the same: what the catalog lists stays.
                let known = try await services.catalog.appendTables.paths(table.guid)
                table.layout.folder.remove(change.filesAdded.map(\.path).filter { !known.contains($0) })
                throw error
            }
        }
    }

    // MARK: Retention

    private func removeOld() async throws {
        let spec = table.spec
        let files = table.read { Array($0.files.values) }
        let old = Self.expired(files, spec, now: Timestamp.nowMicroseconds())
        guard !old.isEmpty else { return }
        _ = try await store(
            AppendTableChange(
                kind: .retention,
                filesRemoved: old.map(\.id),
                rowsRemoved: old.reduce(0) { $0 + ($1.part == .rows ? $1.rows : 0) }
            )
        )
    }

    /// Files all of whose rows are older than the retention, and the oldest ones beyond the table's size.
    static func expired(_ files: [AppendTableFile], _ spec: TableSpec, now: Int64) -> [AppendTableFile] {
        var expired: [AppendTableFile] = []
        var left = files
        if let milliseconds = spec.retentionMilliseconds {
            let (kept, isForever) = milliseconds.multipliedReportingOverflow(by: 1000)
            let cutoff = isForever ? Int64.min : now - kept
            expired = files.filter { newest($0).map { $0 < cutoff } ?? false }
            let ids = Set(expired.map(\.id))
            left.removeAll { ids.contains($0.id) }
        }
        if let limit = spec.retentionBytes {
            var bytes = left.reduce(0) { $0 + $1.bytes }
            for file in left.sorted(by: { (newest($0) ?? .max, $0.id) < (newest($1) ?? .max, $1.id) })
            where bytes > limit {
                expired.append(file)
                bytes -= file.bytes
            }
        }
        return expired
    }

    /// Microseconds of the newest record in a file.
    private static func newest(_ file: AppendTableFile) -> Int64? {
        file.bounds["_timestamp"].flatMap { CalendarText.parseTimestamp($0.max) }
    }

    /// Deletes files that left the table so long ago that no AS OF and no query reads them.
    private func deleteUnreadable() async throws {
        let spec = table.spec
        let now = Date()
        let cutoff = now.addingTimeInterval(-Double(spec.historySeconds))
        let oldest = table.oldestRead()
        let paths = try await services.catalog.appendTables.expire(table.guid, before: cutoff, notAfter: oldest)
        table.layout.folder.remove(paths)
        guard spec.isInternal, let retention = spec.retentionMilliseconds else { return }
        try await services.catalog.appendTables.forgetCommits(
            table.guid,
            before: now.addingTimeInterval(-Double(retention) / 1000)
        )
    }
}
