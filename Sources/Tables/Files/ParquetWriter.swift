// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Foundation
import MartletCore

/// Writes rows to Parquet files that are durable when they are known.
struct ParquetWriter: Sendable {
    let layout: TableLayout
    /// Columns the rows are ordered by in each file; empty keeps the order they have.
    var sortColumns: [String] = []
    /// Whether rows stand in the files in the order the query gives them.
    ///
    /// Keeping it, DuckDB holds what is finished until what stands before it is; without, groups of rows are written as they are full.
    var keepsOrder = true
    /// Rows of a group, which is in memory while it is written; nil is DuckDB's 122,880.
    var groupRows: Int?

    /// As many rows as DuckDB takes by itself, or as there is memory for; `rows` rows take `bytes` of it.
    static func groupRows(within memory: Int, bytes: Int, rows: Int) -> Int {
        let fitting = memory / max(1, bytes / max(1, rows))
        return min(122_880, max(2048, fitting / 2048 * 2048))
    }

    /// Writes what a query gives, whose columns are those of a schema version; blocks.
    ///
    /// - Returns: The files; the catalog does not know them yet, and what is never committed is swept at the next start.
    /// - Throws: `DuckDBError` or `ServiceError`; what was written is removed.
    func write(
        _ query: String,
        _ part: AppendTableFile.Part,
        schemaVersion: Int,
        on connection: Connection
    ) throws -> [AppendTableFile] {
        let name = String(UInt64.random(in: .min ... .max), radix: 36)
        var target = layout.folder.folder(part)
        var options = "FORMAT parquet, COMPRESSION zstd, RETURN_STATS\(layout.writeOptions)"
        let rows = [groupRows, layout.groupRows].compactMap { $0 }.min()
        if let rows { options += ", ROW_GROUP_SIZE \(rows)" }
        if part == .rows, !layout.partitionColumns.isEmpty {
            if let folder = try onlyPartition(of: query, on: connection) {
                target += "/" + folder
                try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
                target += "/\(name).parquet"
            } else {
                let columns = layout.partitionColumns.map(SQLText.identifier).joined(separator: ", ")
                options += ", PARTITION_BY (\(columns)), FILENAME_PATTERN '\(name)-{i}', OVERWRITE_OR_IGNORE"
            }
        } else {
            target += "/\(name).parquet"
        }
        let isOneFile = target.hasSuffix(".parquet")
        // DuckDB does not take this together with PARTITION_BY.
        if isOneFile { options += ", PRESERVE_ORDER \(keepsOrder)" }
        let leftOut =
            isOneFile && part == .rows && !layout.partitionColumns.isEmpty
            ? " EXCLUDE (\(layout.partitionColumns.map(SQLText.identifier).joined(separator: ", ")))" : ""
        let order =
            sortColumns.isEmpty ? "" : " ORDER BY \(sortColumns.map(SQLText.identifier).joined(separator: ", "))"
        do {
            let result = try connection.prepare(
                "COPY (SELECT *\(leftOut) FROM (\(query))\(order)) TO \(SQLText.literal(target)) (\(options))"
            ).executePatiently()
            var files: [AppendTableFile] = []
            while let chunk = try result.nextChunk() {
                // Name, rows, bytes, footer's bytes, statistics by column; what follows has a type of its own.
                let columns = try (0..<5).map { try chunk.values(column: $0) }
                files += (0..<chunk.rowCount).compactMap { row in
                    file(columns.map { $0[row] }, part, schemaVersion)
                }
            }
            try layout.folder.synchronize(files.map { layout.folder.absolute($0.path) })
            for index in files.indices {
                files[index].checksum = try FileChecksum.of(layout.folder.absolute(files[index].path))
            }
            return files
        } catch {
            let prefix = name + (isOneFile ? ".parquet" : "-")
            layout.folder.remove(
                layout.folder.files().keys.filter { ($0.split(separator: "/").last ?? "").hasPrefix(prefix) }
            )
            throw error
        }
    }

    /// The folder of the only partition, where there is one and its value needs no encoding.
    ///
    /// One file written straight is twice as fast as DuckDB's partitioned writing, and it is the usual case.
    private func onlyPartition(of query: String, on connection: Connection) throws -> String? {
        guard layout.partitionColumns.count == layout.timePartitions.count else { return nil }
        // Folders are in the order of time: where the first and the last are the same, there is no other.
        let folders = layout.timePartitions.map(\.expression).joined(separator: ", ")
        let ends = "SELECT unnest([min(_timestamp), max(_timestamp)]) AS _timestamp FROM (\(query))"
        let rows = try connection.query(
            "SELECT DISTINCT \(folders) FROM (\(ends) HAVING count(*) = count(_timestamp))"
        ).rows()
        guard rows.count == 1 else { return nil }
        var path: [String] = []
        for (column, value) in zip(layout.partitionColumns, rows[0]) {
            guard case .string(let text) = value else { return nil }
            path.append("\(column)=\(text)")
        }
        return path.joined(separator: "/")
    }

    /// A file of what COPY says it wrote.
    private func file(_ row: [DuckDBValue], _ part: AppendTableFile.Part, _ version: Int) -> AppendTableFile? {
        guard row.count >= 5, case .string(let path) = row[0] else { return nil }
        func number(_ value: DuckDBValue) -> Int64 { Int64(value.text) ?? 0 }
        var bounds: [String: AppendTableFile.Bounds] = [:]
        if let statistics = try? JSONValue(parsing: row[4].text), let columns = statistics.objectValue {
            for column in columns.members {
                // Nested columns are written "a"."b"; only whole columns can be compared with a literal.
                let name = column.key.dropFirst().dropLast()
                guard column.key.hasPrefix("\""), column.key.hasSuffix("\""), !name.contains("\""),
                    column.value["min_is_exact"]?.stringValue == "true",
                    column.value["max_is_exact"]?.stringValue == "true",
                    let min = column.value["min"]?.stringValue, let max = column.value["max"]?.stringValue
                else { continue }
                bounds[String(name)] = AppendTableFile.Bounds(min: min, max: max)
            }
        }
        let relative = layout.folder.relative(path)
        for piece in relative.split(separator: "/") {
            guard let equals = piece.firstIndex(of: "=") else { continue }
            let column = String(piece[..<equals])
            guard layout.timePartitions.contains(where: { $0.column == column }) else { continue }
            let value = String(piece[piece.index(after: equals)...])
            bounds[column] = AppendTableFile.Bounds(min: value, max: value)
        }
        return AppendTableFile(
            part: part,
            path: relative,
            schemaVersion: version,
            rows: number(row[1]),
            bytes: number(row[2]),
            bounds: bounds
        )
    }
}
