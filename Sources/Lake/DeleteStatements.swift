// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Prepared DELETE statements, kept because planning one takes longer than running it.
final class DeleteStatements {
    /// A statement and how many rows it names.
    struct Entry {
        let prepared: PreparedStatement
        let rows: Int
    }

    private var entries: [String: Entry] = [:]
    private static let entriesMax = 256
    private static let sizes = [1, 4, 16, 64, 256]

    /// A statement that deletes the rows equal to at least `rows` rows of values and returns `columns`, then the key.
    func statement(
        _ connection: Connection,
        _ schema: TableSchema,
        _ columns: [String],
        rows: Int,
        hasNull: Bool
    ) throws -> Entry {
        let size = Self.sizes.first { $0 >= rows } ?? rows
        let returned = (columns + schema.key).map { SQLText.identifier($0) }.joined(separator: ", ")
        let condition = Self.condition(columns, rows: size, hasNull: hasNull)
        let sql = "DELETE FROM \(schema.quotedName) WHERE \(condition) RETURNING \(returned)"
        if let entry = entries[sql] { return entry }
        if entries.count >= Self.entriesMax { entries.removeAll() }
        let entry = Entry(prepared: try connection.prepare(sql), rows: size)
        entries[sql] = entry
        return entry
    }

    /// Forgets all statements, because tables have changed.
    func removeAll() {
        entries.removeAll()
    }

    private static func condition(_ columns: [String], rows: Int, hasNull: Bool) -> String {
        let names = columns.map { SQLText.identifier($0) }
        if hasNull || rows == 1 {
            let equal = hasNull ? "IS NOT DISTINCT FROM" : "="
            let row = "(" + names.map { "\($0) \(equal) ?" }.joined(separator: " AND ") + ")"
            return [String](repeating: row, count: rows).joined(separator: " OR ")
        }
        let row = "(" + [String](repeating: "?", count: names.count).joined(separator: ", ") + ")"
        let values = [String](repeating: row, count: rows).joined(separator: ", ")
        let left = names.count == 1 ? names[0] : "(\(names.joined(separator: ", ")))"
        return "\(left) IN (SELECT * FROM (VALUES \(values)))"
    }
}
