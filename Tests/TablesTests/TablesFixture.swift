// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Foundation
import KafkaCodec
import MartletCore
import Tables

/// Records, and the real library to read rows back with.
enum TablesFixture {
    typealias Column = AppendTableSchemaVersion.Column

    static func memory(_ configuration: DatabaseConfiguration = DatabaseConfiguration()) throws -> Connection {
        let environment = ProcessInfo.processInfo.environment
        var root = URL(filePath: #filePath)
        for _ in 0..<3 { root.deleteLastPathComponent() }
        let library = try DuckDBLibrary.load(
            explicit: environment["MARTLET_DUCKDB_LIBRARY"],
            candidates: [root.appending(path: ".venv").path]
        )
        return try Database(library: library, path: nil, configuration: configuration).connect()
    }

    static func settings(
        _ format: TableSpec.Format = .json,
        _ unknownFields: TableSpec.UnknownFields = .add,
        columnsMax: Int = 1000
    ) -> RowBatchSettings {
        RowBatchSettings(
            table: "clicks",
            topic: "raw-clicks",
            format: format,
            unknownFields: unknownFields,
            columnsMax: columnsMax
        )
    }

    /// A batch of values with offsets from `base`.
    static func batch(_ values: [[UInt8]?], base: Int64 = 0, timestamp: Int64 = 1_000) -> [UInt8] {
        records(
            values.enumerated().map { Record(timestamp: timestamp + Int64($0), key: nil, value: $1, headers: []) },
            base: base
        )
    }

    static func records(_ records: [Record], base: Int64 = 0) -> [UInt8] {
        var bytes = RecordBatchEncoder.encode(records)
        RecordBatchHeader.assign(baseOffset: base, leaderEpoch: 0, in: &bytes)
        return bytes
    }

    /// A batch filled with JSON texts.
    static func fill(
        _ texts: [String],
        columns: [Column] = [],
        settings: RowBatchSettings = settings()
    ) throws -> RowBatch {
        let batch = try RowBatch(columns: columns, settings: settings)
        try batch.append(self.batch(texts.map { Array($0.utf8) }), partition: 3)
        return batch
    }

    /// The rows of a new table `t` that a batch is written to, as a query gives them.
    static func rows(
        _ batch: RowBatch,
        _ query: String,
        format: TableSpec.Format = .json
    ) throws -> [[DuckDBValue]] {
        let connection = try memory()
        try write(batch, to: connection, format: format)
        return try connection.query(query).rows()
    }

    static func write(_ batch: RowBatch, to connection: Connection, format: TableSpec.Format = .json) throws {
        let definitions = SystemColumns.all(format: format, columns: batch.columns)
        try connection.execute("CREATE TABLE t\(SystemColumns.sql(definitions))")
        let appender = try VectorAppender(connection: connection, table: "t")
        try batch.write(to: appender)
        try appender.flush()
        try connection.execute("CREATE TABLE rejects\(SystemColumns.sql(SystemColumns.rejects))")
        let rejects = try VectorAppender(connection: connection, table: "rejects")
        try batch.writeRejects(to: rejects, rejectedAt: 42)
        try rejects.flush()
    }

    /// The reasons of a batch's rejects, in order.
    static func reasons(_ batch: RowBatch) throws -> [String] {
        try rows(batch, "SELECT reason FROM rejects ORDER BY _offset").map { row in
            guard case .string(let reason) = row[0] else { return "" }
            return reason
        }
    }
}
