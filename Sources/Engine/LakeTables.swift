// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import Lake
import MartletCore

/// Tables and SQL as the API offers them.
struct LakeTables: TableServices {
    let lake: Lake
    let temporaryDirectory: String

    func tables(_ query: ListQuery) async throws -> Page<MartletCore.TableDescription> {
        try await mapped {
            var all = try await lake.tables().map(Self.describe)
            if let name = query.name { all = all.filter { $0.name.contains(name) } }
            if let cursor = query.cursor { all = all.filter { $0.name > cursor } }
            let page = Array(all.prefix(query.limit))
            return Page(items: page, nextCursor: all.count > page.count ? page.last?.name : nil)
        }
    }

    func table(_ name: String) async throws -> MartletCore.TableDescription {
        try await mapped { Self.describe(try await lake.table(name)) }
    }

    func drop(_ name: String) async throws {
        try await mapped { try await lake.dropTable(name) }
    }

    func export(_ name: String, format: TableFormat) async throws -> String {
        let path =
            "\(temporaryDirectory)/export-\(String(UInt64.random(in: .min ... .max), radix: 36)).\(format.rawValue)"
        return try await mapped {
            _ = try await lake.export(name, format: format == .parquet ? .parquet : .csv, to: path)
            return path
        }
    }

    func query(_ sql: String, parameters: [JSONValue], timeout: Duration) async throws -> QueryAnswer {
        try await mapped {
            let stream = try await lake.query(sql, parameters: parameters.map(Self.parameter), timeout: timeout)
            let columns = stream.columns.map {
                MartletCore.TableDescription.Column(name: $0.name, type: $0.type.description, isKey: false)
            }
            let source = BatchSource(stream)
            let batches = AsyncThrowingStream<[[JSONValue]], any Error> { try await source.next() }
            return QueryAnswer(columns: columns, batches: batches)
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
        case .json(let text): (try? JSONValue(parsing: text)) ?? .string(text)
        default: .string(value.text)
        }
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
