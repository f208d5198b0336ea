// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import Foundation
import MartletCore
import Synchronization

/// The keyed table `files`, and tables that follow topics, kept in a catalog; commits of them are made up.
struct TestTables: TableServices {
    let catalog: Catalog
    /// The options of the last query.
    let options = TestOptions()

    static let files = TableDescription(
        name: "files",
        columns: [.init(name: "path", type: "VARCHAR", isKey: true), .init(name: "n", type: "BIGINT", isKey: false)],
        rows: 2
    )

    static func commit(_ number: Int64, _ kind: TableCommit.Kind = .append) -> TableCommit {
        TableCommit(
            number: number,
            kind: kind,
            time: Date(timeIntervalSince1970: 1_775_000_000 + Double(number)),
            schemaVersion: 1,
            rowsAdded: 10,
            rowsRemoved: 0,
            rowsRejected: 1,
            filesAdded: 1,
            filesRemoved: 0,
            bytesAdded: 2048,
            ranges: [.init(partition: 0, from: (number - 1) * 11, to: number * 11)]
        )
    }

    static func describe(_ table: Resource<TableSpec>) -> TableDescription {
        let system = TableDescription.Column(name: "_offset", type: "BIGINT", isKey: false, isSystem: true)
        let declared = table.spec.columns.map {
            TableDescription.Column(name: $0.name, type: $0.type, isKey: table.spec.key.contains($0.name))
        }
        var description = TableDescription(table, columns: [system] + declared, rows: 42)
        description.location = "/data/tables/append/\(table.name)"
        description.files = 3
        description.bytes = 6144
        description.commits = 3
        description.lastCommit = commit(3)
        description.schemaVersion = 1
        description.freshRows = 12
        description.rejectedRows = 3
        description.lagRecords = 5
        description.lagSeconds = 0.25
        description.state = .running
        return description
    }

    func list(_ query: TableListQuery) async throws -> Page<TableDescription> {
        var all = try await catalog.snapshot { try $0.list(TableSpec.self, ListQuery()) }.items.map(Self.describe)
        all.append(Self.files)
        if let topic = query.topic { all = all.filter { $0.topic == topic } }
        return Page(items: all.sorted { $0.name < $1.name })
    }

    func get(_ name: String) async throws -> TableDescription {
        if name == "files" { return Self.files }
        return Self.describe(try await following(name))
    }

    func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> TableDescription {
        guard let name = document.value["name"]?.stringValue, let topic = document.value["topic"]?.stringValue else {
            throw ServiceError.invalid(field: "topic", "is missing", line: document.lines["topic"])
        }
        let columns = (document.value["columns"]?.arrayValue ?? []).map {
            TableSpec.Column(name: $0["name"]?.stringValue ?? "", type: $0["type"]?.stringValue ?? "")
        }
        return Self.describe(
            try await catalog.transaction(dryRun: dryRun) { tx in
                try tx.create(
                    name: name,
                    owner: ResourceMetadata.Owner(name: caller.name),
                    spec: TableSpec(topic: topic, columns: columns)
                )
            }
        )
    }

    func update(
        _ name: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> TableDescription {
        _ = try await following(name)
        let seconds = document.value["commit_seconds"]?.intValue
        return Self.describe(
            try await catalog.transaction(dryRun: dryRun) { tx in
                try tx.update(TableSpec.self, name) { if let seconds { $0.spec.commitSeconds = Int(seconds) } }
            }
        )
    }

    func delete(_ name: String, by caller: Caller) async throws {
        if name == "files" { return }
        try await catalog.transaction { _ = try $0.delete(TableSpec.self, name) }
    }

    func history(_ name: String, limit: Int, cursor: String?) async throws -> Page<TableCommit> {
        _ = try await following(name)
        let below = cursor.flatMap { Int64($0) } ?? 4
        let numbers = (1..<max(below, 1)).reversed().prefix(limit)
        return Page(items: numbers.map { Self.commit($0) }, nextCursor: numbers.last.flatMap { $0 > 1 ? "\($0)" : nil })
    }

    func commit(_ name: String) async throws -> TableCommit? {
        try await following(name).name == "idle" ? nil : Self.commit(4)
    }

    func compact(_ name: String) async throws -> TableCompaction {
        _ = try await following(name)
        return TableCompaction(
            filesBefore: 3,
            filesAfter: 1,
            bytesBefore: 6144,
            bytesAfter: 4096,
            rows: 30,
            commit: Self.commit(4, .compaction)
        )
    }

    func repair(_ name: String, dryRun: Bool, quick: Bool) async throws -> [TableFinding] {
        _ = try await following(name)
        return [
            TableFinding(
                kind: .orphanFile,
                path: "rows/day=2026-11-21/x.parquet",
                problem: "the catalog does not list it",
                action: "remove it",
                isDone: !dryRun
            )
        ]
    }

    func replay(_ name: String) async throws -> TableReplay {
        _ = try await following(name)
        return TableReplay(replayed: 2, stillRejected: 1, commit: Self.commit(4, .replay))
    }

    func export(_ name: String, format: TableFormat) async throws -> String {
        _ = try await get(name)
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-export-\(UUID().uuidString)")
            .path
        try Data(String(repeating: "row\n", count: 200_000).utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    func query(
        _ sql: String,
        parameters: [JSONValue],
        timeout: Duration,
        options: QueryOptions
    ) async throws -> QueryAnswer {
        guard sql.lowercased().hasPrefix("select") else {
            throw ServiceError.invalid(field: "sql", "syntax error at position 1")
        }
        self.options.set(options)
        let rows: [[JSONValue]] = (0..<5).map { index in
            [.int(Int64(index)), index == 1 ? .null : .string(index == 2 ? "" : "a,\"b\"\n\(index)")]
        }
        let fails = sql.contains("fail")
        let batches = AsyncThrowingStream<[[JSONValue]], any Error> { continuation in
            continuation.yield(Array(rows.prefix(2)))
            continuation.yield(Array(rows.dropFirst(2)))
            continuation.finish(throwing: fails ? ServiceError(.timeout, "the query took too long") : nil)
        }
        return QueryAnswer(
            columns: [
                .init(name: "i", type: "INTEGER", isKey: false), .init(name: "t, x", type: "VARCHAR", isKey: false),
            ],
            batches: batches
        )
    }

    private func following(_ name: String) async throws -> Resource<TableSpec> {
        if name == "files" { throw ServiceError(.failedPrecondition, "table 'files' follows no topic") }
        return try await catalog.snapshot { try $0.get(TableSpec.self, name) }
    }
}

/// Keeps the options of the last query.
final class TestOptions: Sendable {
    private let last = Mutex(QueryOptions())

    func set(_ options: QueryOptions) { last.withLock { $0 = options } }
    func get() -> QueryOptions { last.withLock { $0 } }
}
