// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB

/// What a keyed table looks like.
package struct TableSchema: Sendable, Hashable {
    /// One column.
    package struct Column: Sendable, Hashable {
        /// The column's name as first written.
        package let name: String
        /// The type, or nil for one that Martlet does not write (tables made by SQL).
        package var type: ColumnType?
        /// The type as SQL.
        package var typeName: String
    }

    /// The table's name as first written; upper and lower case are the same.
    package let name: String
    /// The columns in order.
    package var columns: [Column]
    /// The key's columns in order; empty for a table made by SQL without one.
    package var key: [String]
    /// When the table was made, in microseconds since 1970, if known.
    package var created: Int64?
    /// When rows were last written, in microseconds since 1970, if known.
    package var updated: Int64?

    /// Position of a column by its name in any case.
    func index(of column: String) -> Int? {
        let wanted = column.lowercased()
        return columns.firstIndex { $0.name.lowercased() == wanted }
    }

    /// Positions of the key's columns.
    var keyIndices: [Int] { key.compactMap { index(of: $0) } }

    var quotedName: String { SQLText.identifier(name) }
}

/// The tables of the database file, by lowercased name.
struct TableCatalog {
    var tables: [String: TableSchema] = [:]

    subscript(name: String) -> TableSchema? {
        get { tables[name.lowercased()] }
        set { tables[name.lowercased()] = newValue }
    }

    /// Reads the tables of the main schema from DuckDB's own catalog.
    static func load(_ connection: Connection) throws -> TableCatalog {
        var catalog = TableCatalog()
        for row in try connection.query(tablesSQL).rows() {
            guard case .string(let name) = row[0] else { continue }
            var schema = TableSchema(name: name, columns: [], key: [])
            if case .string(let comment) = row[1] { (schema.created, schema.updated) = TableTimes.parse(comment) }
            catalog[name] = schema
        }
        for row in try connection.query(columnsSQL).rows() {
            guard case .string(let table) = row[0], case .string(let name) = row[1], case .string(let type) = row[2]
            else { continue }
            catalog[table]?.columns.append(TableSchema.Column(name: name, type: columnType(type), typeName: type))
        }
        for row in try connection.query(keysSQL).rows() {
            guard case .string(let table) = row[0], case .string(let column) = row[1] else { continue }
            catalog[table]?.key.append(column)
        }
        return catalog
    }

    private static let tablesSQL = """
        SELECT table_name, comment FROM duckdb_tables()
        WHERE database_name = current_database() AND schema_name = 'main' AND NOT temporary
        """
    private static let columnsSQL = """
        SELECT table_name, column_name, data_type FROM duckdb_columns()
        WHERE database_name = current_database() AND schema_name = 'main' ORDER BY table_name, column_index
        """
    private static let keysSQL = """
        SELECT table_name, unnest(constraint_column_names) FROM duckdb_constraints()
        WHERE database_name = current_database() AND schema_name = 'main' AND constraint_type = 'PRIMARY KEY'
        """

    static func columnType(_ name: String) -> ColumnType? {
        switch name {
        case "BOOLEAN": return .boolean
        case "BIGINT": return .bigint
        case "HUGEINT": return .hugeint
        case "DOUBLE": return .double
        case "VARCHAR": return .varchar
        case "JSON": return .json
        case "BLOB": return .blob
        case "DATE": return .date
        case "TIMESTAMP": return .timestamp
        default: break
        }
        guard name.hasPrefix("DECIMAL("), name.hasSuffix(")") else { return nil }
        let parts = name.dropFirst(8).dropLast().split(separator: ",").compactMap { UInt8($0) }
        return parts.count == 2 ? .decimal(width: parts[0], scale: parts[1]) : nil
    }
}

/// When a table was made and last written, kept in its comment in DuckDB's catalog.
enum TableTimes {
    static func comment(created: Int64?, updated: Int64?) -> String {
        "martlet created=\(created.map { String($0) } ?? "-") updated=\(updated.map { String($0) } ?? "-")"
    }

    static func parse(_ comment: String) -> (created: Int64?, updated: Int64?) {
        var times: [Substring: Int64] = [:]
        guard comment.hasPrefix("martlet ") else { return (nil, nil) }
        for part in comment.split(separator: " ").dropFirst() {
            let pair = part.split(separator: "=", maxSplits: 1)
            if pair.count == 2, let value = Int64(pair[1]) { times[pair[0]] = value }
        }
        return (times["created"], times["updated"])
    }
}
