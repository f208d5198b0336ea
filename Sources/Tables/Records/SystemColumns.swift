// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
internal import DuckDB
package import MartletCore

/// The columns every append table has in front of those from the records' values, and the columns of its rejects.
package enum SystemColumns {
    /// A column as SQL defines it.
    package struct Definition: Sendable, Equatable {
        /// The name, not quoted.
        package let name: String
        /// The SQL type.
        package let type: String
    }

    private static let headersType = "STRUCT(\"key\" VARCHAR, \"value\" BLOB)[]"
    private static let position = [
        Definition(name: "_partition", type: "INTEGER"), Definition(name: "_offset", type: "BIGINT"),
        Definition(name: "_timestamp", type: "TIMESTAMP"),
    ]
    private static let attributes = ["_id", "_type", "_source", "_subject", "_trace_id"].map {
        Definition(name: $0, type: "VARCHAR")
    }
    private static let payload = [
        Definition(name: "key", type: "BLOB"), Definition(name: "value", type: "BLOB"),
        Definition(name: "headers", type: headersType),
    ]

    /// In front of a json table's own columns.
    package static let json =
        position
        + [Definition(name: "_key", type: "BLOB"), Definition(name: "_headers", type: headersType)] + attributes
    /// All columns of a raw table.
    package static let raw = position + attributes + payload
    /// All columns of a table's rejects.
    package static let rejects =
        [Definition(name: "_topic", type: "VARCHAR")] + position + payload
        + [Definition(name: "reason", type: "VARCHAR"), Definition(name: "rejected_at", type: "TIMESTAMP")]

    /// All columns of a table, system columns first, as ``RowBatch/write(to:)`` fills them.
    package static func all(
        format: TableSpec.Format,
        columns: [AppendTableSchemaVersion.Column]
    ) -> [Definition] {
        switch format {
        case .raw: raw
        case .json: json + columns.map { Definition(name: $0.name, type: $0.type) }
        }
    }

    /// A column's type as rows in memory have it; the types are those of ``ColumnState`` and of the system columns.
    static func logicalType(_ sql: String) -> LogicalType {
        let name = sql.uppercased()
        if let known = logicalTypes[name] { return known }
        if sql == headersType {
            let fields = [
                LogicalType.Field(name: "key", type: .varchar), LogicalType.Field(name: "value", type: .blob),
            ]
            return .list(.structure(fields))
        }
        let numbers = name.dropFirst("DECIMAL(".count).dropLast().split(separator: ",").map { text in
            UInt8(text.filter { $0 != " " }) ?? 0
        }
        precondition(name.hasPrefix("DECIMAL(") && numbers.count == 2, "SystemColumns: no column has the type \(sql)")
        return .decimal(width: numbers[0], scale: numbers[1])
    }

    private static let logicalTypes: [String: LogicalType] = [
        "BOOLEAN": .boolean, "INTEGER": .integer, "BIGINT": .bigint, "HUGEINT": .hugeint, "DOUBLE": .double,
        "VARCHAR": .varchar, "JSON": .json, "BLOB": .blob, "DATE": .date, "TIMESTAMP": .timestamp,
    ]

    /// The list of a `CREATE TABLE`, in parentheses.
    package static func sql(_ definitions: [Definition]) -> String {
        "(" + definitions.map { SQLText.identifier($0.name) + " " + $0.type }.joined(separator: ", ") + ")"
    }

    /// Those that a keyed table may declare, in the order ``RowBatch/writeKeyed(to:)`` writes them.
    package static let keyed = position + attributes

    /// The type a system column is declared with in a keyed table; nil for one that it cannot have.
    static func declaredType(_ folded: [UInt8]) -> String? {
        guard let found = keyed.first(where: { Array($0.name.utf8) == folded }) else { return nil }
        return found.type == "INTEGER" ? "BIGINT" : found.type
    }

    /// Whether a name is a system column's in any case.
    static func isReserved(_ folded: [UInt8]) -> Bool { reserved.contains(folded) }

    /// Whether a name is that of the folders that append tables are divided into by time, in any case.
    ///
    /// Readers take these columns from the folders' names, so that a value of that name in a file would be lost.
    static func isPartition(_ folded: [UInt8]) -> Bool { partitions.contains(folded) }

    private static let partitions = Set(["record_day", "record_hour"].map { Array($0.utf8) })
    private static let reserved = Set(json.map { Array($0.name.utf8) })
}
