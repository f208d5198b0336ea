// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// A table whose rows are not in DuckDB's file, so that DuckDB's catalog does not keep its name.
package struct FileTable: Sendable, Hashable {
    /// As people write it; `system.` and a word for one of the engine's own.
    package let name: String
    /// The topic its rows come from.
    package let topic: String
    /// Name of its rejects.
    package let rejects: String
    /// Whether it is one of the engine's own.
    package let isInternal: Bool

    package init(name: String, topic: String, rejects: String, isInternal: Bool = false) {
        self.name = name
        self.topic = topic
        self.rejects = rejects
        self.isInternal = isInternal
    }
}

/// The names that SQL may neither take nor change, and what to use instead.
struct ReservedNames: Sendable {
    /// What the engine's own tables in DuckDB's file begin with.
    static let prefix = "martlet_"

    /// By each lower-case name a table has.
    private var tables: [String: FileTable] = [:]

    init(_ tables: some Sequence<FileTable> = []) {
        for table in tables {
            self.tables[table.name.lowercased()] = table
            self.tables[table.rejects.lowercased()] = table
        }
    }

    /// Whether a table or view of this name would stand before a table of files.
    func isTaken(_ name: String) -> Bool { tables[name.lowercased()] != nil }

    static func isEngineName(_ name: String) -> Bool { name.lowercased().hasPrefix(prefix) }

    /// Why a statement may not do this to a name, or nil where it may.
    ///
    /// `path` is the name as the statement qualifies it, `schemas` are those in which a name without a schema is looked up.
    func refusal(_ action: StatementTargets.Action, _ path: [String], schemas: Set<String> = []) -> LakeError? {
        guard let name = path.last else { return nil }
        if action == .createSchema {
            guard name.lowercased() == Self.systemSchema else { return nil }
            return refused("the schema '\(name)' is that of the engine's own tables", "choose another name")
        }
        if Self.isEngineName(name) { return engineName(name, action) }
        let qualifiers = path.dropLast().map { $0.lowercased() }
        let key = qualifiers.last == Self.systemSchema ? "\(Self.systemSchema).\(name.lowercased())" : name.lowercased()
        let isOurs = qualifiers.allSatisfy { schemas.contains($0) || $0 == Self.systemSchema }
        guard isOurs, let table = tables[key] else { return nil }
        return key == table.name.lowercased() ? rows(table, action) : rejects(table, action)
    }

    private static let systemSchema = "system"

    func engineName(_ name: String, _ action: StatementTargets.Action) -> LakeError {
        let why = "'\(name)': names that begin with '\(Self.prefix)' are the engine's own"
        switch action {
        case .create, .createSchema: return refused(why, "choose another name")
        default:
            return refused(
                "\(why), and only the engine changes what they hold",
                "read it with SELECT; martlet tables delete NAME removes a table with all the engine keeps of it"
            )
        }
    }

    private func rows(_ table: FileTable, _ action: StatementTargets.Action) -> LakeError {
        let what = "'\(table.name)' is an append table"
        let topic = table.topic
        if table.isInternal {
            let fix = "its retention can be changed: martlet tables update \(table.name) --retention 3d"
            return refused("\(what) of the engine itself, which SQL only reads", fix)
        }
        switch action {
        case .create, .createSchema:
            return refused(
                "\(what) that follows topic '\(topic)': a table or view of that name would hide it",
                "choose another name, or remove the append table first: martlet tables delete \(table.name)"
            )
        case .drop:
            return refused(
                "\(what), which SQL cannot drop",
                "remove it with its files and history: martlet tables delete \(table.name)"
            )
        case .alter:
            return refused(
                "\(what), which SQL cannot alter",
                "add or widen columns with: martlet tables update \(table.name) --column NAME=TYPE"
            )
        case .insert:
            return refused(
                "\(what): its rows are the records of topic '\(topic)' and nothing else",
                "publish to its topic: martlet topics publish \(topic) --data '{…}'"
            )
        case .change:
            return refused(
                "\(what): its rows are the records of topic '\(topic)', and stay as they were published",
                "publish what is new (martlet topics publish \(topic) --data '{…}'); remove old rows with martlet tables update "
                    + "\(table.name) --retention 30d, or all with martlet tables delete \(table.name)"
            )
        }
    }

    private func rejects(_ table: FileTable, _ action: StatementTargets.Action) -> LakeError {
        if action == .create {
            return refused(
                "'\(table.rejects)' is the name of the rejects of append table '\(table.name)'",
                "choose another name"
            )
        }
        let fix =
            table.isInternal
            ? "read it with SELECT"
            : "after a fix (martlet tables update \(table.name)) read them again: martlet tables replay \(table.name); they go with "
                + "martlet tables delete \(table.name)"
        return refused(
            "'\(table.rejects)' holds the rejects of append table '\(table.name)', which SQL only reads",
            fix
        )
    }

    private func refused(_ message: String, _ fix: String) -> LakeError {
        var error = LakeError(.reserved, message)
        error.fix = fix
        return error
    }
}

/// Sees to it that a statement that writes leaves reserved names alone.
///
/// What the text names is refused at once, with what to use instead. What counts is the catalog, compared before the commit: however a
/// statement was written, a name that is reserved cannot have been taken, and tables of the engine cannot have changed.
struct WriteGuard {
    let reserved: @Sendable () -> ReservedNames

    /// What a transaction must leave as it is.
    struct State {
        fileprivate var names: Set<String>
        fileprivate var engineTables: [[String]]
    }

    /// Refuses a statement that names what it may not change.
    func check(_ sql: String, on connection: Connection) throws {
        guard let targets = StatementTargets(sql) else { return }
        let reserved = reserved()
        for target in targets.found {
            guard let refusal = reserved.refusal(target.action, target.path, schemas: Self.ownSchemas) else { continue }
            // A table that hides an append table, from before that was refused, can be got out of the way.
            if target.action == .drop || target.action == .alter, let name = target.path.last,
                !ReservedNames.isEngineName(name), try Self.names(on: connection).contains(name.lowercased())
            {
                continue
            }
            throw refusal
        }
    }

    /// What a name of a reserved table may be qualified with: its schema, the database, and the schema of tables that end with the
    /// connection.
    private static let ownSchemas: Set = ["main", "tables", "temp"]

    /// What there is before the statement, in its transaction.
    func state(on connection: Connection) throws -> State {
        State(names: try Self.names(on: connection), engineTables: try Self.engineTables(on: connection))
    }

    /// Refuses to commit what was done since `before`, in the same transaction.
    func check(since before: State, on connection: Connection) throws {
        let reserved = reserved()
        for name in try Self.names(on: connection).subtracting(before.names).sorted() {
            let isSchema = name == Self.systemSchema
            let refusal = reserved.refusal(isSchema ? .createSchema : .create, [isSchema ? "system" : name])
            if let refusal { throw refusal }
        }
        guard try Self.engineTables(on: connection) != before.engineTables else { return }
        throw reserved.engineName("\(ReservedNames.prefix)…", .change)
    }

    /// How a schema `system` shows among the names; with one, DuckDB finds the name ambiguous and no table of the engine is found.
    private static let systemSchema = "system."

    /// Tables and views that a name without a schema may mean, and a schema `system`, in lower case.
    private static func names(on connection: Connection) throws -> Set<String> {
        let rows = try connection.query(
            """
            SELECT lower(table_name) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main' \
            UNION ALL SELECT lower(view_name) FROM duckdb_views() WHERE database_name = current_database() AND NOT internal \
            AND schema_name = 'main' \
            UNION ALL SELECT '\(systemSchema)' FROM duckdb_schemas() WHERE database_name = current_database() \
            AND lower(schema_name) = 'system'
            """
        ).rows()
        return Set(rows.map { $0[0].text })
    }

    /// Definitions and contents of the engine's own tables; they are small.
    private static func engineTables(on connection: Connection) throws -> [[String]] {
        let tables = try connection.query(
            """
            SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database() \
            AND starts_with(lower(table_name), \(SQLText.literal(ReservedNames.prefix))) ORDER BY ALL
            """
        ).rows().map { $0.map(\.text) }
        return try tables.map { table in
            let name = "\(SQLText.identifier(table[0])).\(SQLText.identifier(table[1]))"
            let content = try connection.query("SELECT count(*), sum(hash(t)) FROM \(name) AS t").rows()
            return table + (content.first ?? []).map(\.text)
        }
    }
}
