// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import MartletCore

/// All tables as SQL shows them: DuckDB itself knows nothing of those whose rows are in files.
enum TableList {
    /// What `system.tables` is called where no other table has that name.
    static let name = "tables"

    /// The rows of `system.tables`: `name`, `kind` (append, keyed, function or view) and the `topic` a table follows.
    static func query(_ registry: TableRegistry, keyed: [KeyedTable]) -> String {
        var rows = registry.all().map { row($0.name, "append", $0.spec.topic) }
        rows += keyed.map { row($0.name, "keyed", $0.spec.topic) }
        rows += registry.allViews().map { "(\(SQLText.literal(TableRegistry.systemPrefix + $0.name)), 'view', NULL)" }
        let followers = rows.isEmpty ? "" : "SELECT * FROM (VALUES \(rows.joined(separator: ", "))) UNION ALL "
        let hidden = (keyed.flatMap(\.storedNames) + [KeyedStore.offsetsTable]).map { SQLText.literal($0.lowercased()) }
        let own = "database_name = current_database() AND schema_name = 'main' AND NOT internal"
        return """
            SELECT * FROM (\(followers)\
            SELECT table_name, 'function', NULL FROM duckdb_tables() WHERE \(own) \
            AND lower(table_name) NOT IN (\(hidden.joined(separator: ", "))) \
            UNION ALL SELECT view_name, 'view', NULL FROM duckdb_views() WHERE \(own)) AS t(name, kind, topic)
            """
    }

    private static func row(_ name: String, _ kind: String, _ topic: String) -> String {
        "(\(SQLText.literal(name)), '\(kind)', \(SQLText.literal(topic)))"
    }

    /// A statement as it is to be run: `SHOW TABLES` asks for all tables.
    static func rewritten(_ sql: String) -> String {
        guard sql.utf8.count < 200 else { return sql }
        let words = sql.lowercased().split { $0.isWhitespace || $0 == ";" }
        guard words == ["show", "tables"] else { return sql }
        return "SELECT name FROM system.tables ORDER BY name"
    }
}

extension TableRuntime {
    /// A statement as it is to be run: `SHOW TABLES` shows those that follow topics too.
    package static func rewritten(_ sql: String) -> String { TableList.rewritten(sql) }
}
