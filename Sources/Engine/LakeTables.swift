// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import MartletCore
import Tables

/// Tables and SQL as the API offers them: those that functions keep, and those that follow a topic.
struct LakeTables: TableServices {
    let lake: Lake
    let temporaryDirectory: String
    /// The tables that follow a topic; nil where the engine has none.
    var followers: (any AppendTableServices)? = nil
    /// What their names mean in queries.
    var runtime: TableRuntime? = nil

    func list(_ query: TableListQuery) async throws -> Page<MartletCore.TableDescription> {
        try await mapped {
            var all = try await followers?.all() ?? []
            let known = Set(all.map { $0.name.lowercased() })
            all += try await lake.tables().map(Self.describe).filter { !known.contains($0.name.lowercased()) }
            if let topic = query.topic { all = all.filter { $0.topic == topic } }
            if let name = query.list.name { all = all.filter { $0.name.contains(name) } }
            if let cursor = query.list.cursor { all = all.filter { $0.name > cursor } }
            all.sort { $0.name < $1.name }
            let page = Array(all.prefix(query.list.limit))
            return Page(items: page, nextCursor: all.count > page.count ? page.last?.name : nil)
        }
    }

    func get(_ name: String) async throws -> MartletCore.TableDescription {
        try await mapped {
            if let table = try await followers?.find(name) { return table }
            return Self.describe(try await lake.table(name))
        }
    }

    func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> MartletCore.TableDescription {
        guard let followers else {
            throw ServiceError(
                .failedPrecondition,
                "this engine has no tables that follow topics",
                fix: "functions make tables by writing to them through ctx.tables"
            )
        }
        return try await mapped { try await followers.create(document, by: caller, dryRun: dryRun) }
    }

    func update(
        _ name: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> MartletCore.TableDescription {
        try await following(name) { try await $0.update(name, document, by: caller, dryRun: dryRun) }
    }

    func delete(_ name: String, by caller: Caller) async throws {
        try await mapped {
            if let followers, try await followers.find(name) != nil {
                return try await followers.delete(name, by: caller)
            }
            try await lake.dropTable(name)
        }
    }

    func history(_ name: String, limit: Int, cursor: String?) async throws -> Page<TableCommit> {
        try await following(name) { try await $0.history(name, limit: limit, cursor: cursor) }
    }

    func commit(_ name: String) async throws -> TableCommit? {
        try await following(name) { try await $0.commit(name) }
    }

    func compact(_ name: String) async throws -> TableCompaction {
        try await following(name) { try await $0.compact(name) }
    }

    func repair(_ name: String, dryRun: Bool, quick: Bool) async throws -> [TableFinding] {
        try await following(name) { try await $0.repair(name, dryRun: dryRun, quick: quick) }
    }

    func replay(_ name: String) async throws -> TableReplay {
        try await following(name) { try await $0.replay(name) }
    }

    func export(_ name: String, format: TableFormat) async throws -> String {
        try await mapped {
            if let followers, try await followers.find(name) != nil {
                return try await followers.export(name, format: format)
            }
            let path =
                "\(temporaryDirectory)/export-\(String(UInt64.random(in: .min ... .max), radix: 36)).\(format.rawValue)"
            _ = try await lake.export(name, format: format == .parquet ? .parquet : .csv, to: path)
            return path
        }
    }

    func query(
        _ sql: String,
        parameters: [JSONValue],
        timeout: Duration,
        options: QueryOptions
    ) async throws -> QueryAnswer {
        try await mapped {
            let stream = try await lake.query(
                TableRuntime.rewritten(sql),
                parameters: parameters.map(Self.parameter),
                timeout: timeout,
                names: try await runtime?.names(in: sql, options: options)
            )
            let columns = stream.columns.map {
                MartletCore.TableDescription.Column(name: $0.name, type: $0.type.description, isKey: false)
            }
            let source = BatchSource(stream)
            let batches = AsyncThrowingStream<[[JSONValue]], any Error> { try await source.next() }
            return QueryAnswer(columns: columns, batches: batches)
        }
    }

    /// Does what only tables that follow a topic can, and says why where the table is another.
    private func following<T>(
        _ name: String,
        _ body: (any AppendTableServices) async throws -> T
    ) async throws -> T {
        try await mapped {
            if let followers, try await followers.find(name) != nil { return try await body(followers) }
            let table = try await lake.table(name)
            throw ServiceError(
                .failedPrecondition,
                "table '\(table.schema.name)' follows no topic: functions keep its rows",
                fix: "this is for tables made with: martlet tables create NAME --topic TOPIC"
            )
        }
    }

    private func mapped<T>(_ body: () async throws -> T) async throws -> T {
        do { return try await body() } catch is CancellationError { throw CancellationError() } catch {
            throw error.asServiceError
        }
    }

    private static func describe(_ table: Lake.TableDescription) -> MartletCore.TableDescription {
        MartletCore.TableDescription(
            name: table.schema.name,
            columns: table.schema.columns.map { column in
                .init(name: column.name, type: column.typeName, isKey: table.schema.key.contains(column.name))
            },
            rows: table.rowCount
        )
    }

    static func parameter(_ value: JSONValue) -> DuckDBValue {
        switch value {
        case .null: .null
        case .bool(let value): .bool(value)
        case .int(let value): .int(value)
        case .double(let value): .double(value)
        case .number(let text): number(text)
        case .string(let value): .string(value)
        case .array, .object: .string(value.text)
        }
    }

    fileprivate static func json(_ value: DuckDBValue) -> JSONValue {
        switch value {
        case .null: .null
        case .bool(let value): .bool(value)
        case .int(let value): .int(value)
        case .double(let value): value.isFinite ? .double(value) : .string(DuckDBValue.double(value).text)
        case .json(let text): (try? JSONValue(parsing: Array(text.utf8), keepingRepeatedKeys: true)) ?? .string(text)
        default: .string(value.text)
        }
    }

    /// A number that is no `int` and would be written differently as a `double`: exact as far as a type of DuckDB's is.
    private static func number(_ text: String) -> DuckDBValue {
        if let value = Int128(text) { return .hugeint(value) }
        let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        let digits = text.count { $0.isNumber }
        if digits > 15, digits <= 38, parts.count == 2, let unscaled = Int128(parts[0] + parts[1]) {
            let scale = UInt8(parts[1].utf8.count)
            return .decimal(DecimalValue(unscaled: unscaled, width: UInt8(digits), scale: scale))
        }
        return Double(text).map { $0.isFinite ? .double($0) : .string(text) } ?? .string(text)
    }
}

/// Pulls batches from a query; one consumer at a time, as `AsyncThrowingStream(unfolding:)` guarantees.
private actor BatchSource {
    private var iterator: QueryStream.Iterator

    init(_ stream: QueryStream) {
        iterator = stream.makeAsyncIterator()
    }

    func next() async throws -> [[JSONValue]]? {
        do {
            var current = iterator
            let batch = try await current.next()
            iterator = current
            return batch.map { batch in
                (0..<batch.rowCount).map { row in batch.columns.map { LakeTables.json($0[row]) } }
            }
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw error.asServiceError
        }
    }
}
