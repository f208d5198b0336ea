// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Lake
import MartletCore

/// What a keyed table is in DuckDB: its rows, its rejects, and how far it has read its topic.
///
/// The three change in one transaction of DuckDB, which is what makes every record count exactly once.
struct KeyedStore: Sendable {
    typealias Column = AppendTableSchemaVersion.Column

    /// How far each keyed table has read each partition of its topic.
    static let offsetsTable = "martlet_table_offsets"

    let table: KeyedTable
    let lake: Lake

    // MARK: Opening

    /// Makes what is missing, and reads what there is; `starts` are the offsets a new table begins at.
    ///
    /// Declared columns that DuckDB lacks are added, and narrower ones are widened: a crash may have come between the catalog and this.
    func open(starts: [Int32: Int64]) async throws {
        let (spec, name, guid) = (table.spec, table.name, table.guid)
        let rejects = table.rejectsName
        let (columns, offsets) = try await lake.transact(changesTables: true) { connection in
            try Self.createOffsets(connection)
            var offsets = try Self.offsets(guid, connection)
            if offsets.isEmpty {
                let columns = TableColumns.merged([], declared: spec.columns)
                let key = spec.key.map { SQLText.identifier($0) }.joined(separator: ", ")
                let list = columns.map { "\(SQLText.identifier($0.name)) \($0.type)" }.joined(separator: ", ")
                try connection.execute("CREATE TABLE \(SQLText.identifier(name)) (\(list), PRIMARY KEY (\(key)))")
                let system = SystemColumns.rejects.map { "\(SQLText.identifier($0.name)) \($0.type)" }
                try connection.execute(
                    "CREATE TABLE \(SQLText.identifier(rejects)) (\(system.joined(separator: ", ")), PRIMARY KEY (_partition, _offset))"
                )
                try Self.store(starts, guid, name, connection)
                offsets = starts
            }
            let stored = try Self.columns(name, spec, connection)
            let wanted = TableColumns.merged(stored, declared: spec.columns)
            try Self.alter(name, from: stored, to: wanted, connection)
            return (wanted, offsets)
        }
        table.with { state in
            state.columns = columns
            state.offsets = offsets
            state.isLoaded = true
        }
    }

    private static func createOffsets(_ connection: Connection) throws {
        try connection.execute(
            """
            CREATE TABLE IF NOT EXISTS \(offsetsTable) ("table" VARCHAR, guid VARCHAR, "partition" INTEGER, \
            next_offset BIGINT, PRIMARY KEY (guid, "partition"));
            COMMENT ON TABLE \(offsetsTable) IS 'how far keyed tables have read their topics; written with their rows'
            """
        )
    }

    private static func offsets(_ guid: String, _ connection: Connection) throws -> [Int32: Int64] {
        var offsets: [Int32: Int64] = [:]
        let rows = try connection.query(
            "SELECT \"partition\", next_offset FROM \(offsetsTable) WHERE guid = ?",
            [.string(guid)]
        ).rows()
        for row in rows {
            guard case .int(let partition) = row[0], case .int(let offset) = row[1] else { continue }
            offsets[Int32(truncatingIfNeeded: partition)] = offset
        }
        return offsets
    }

    private static func store(
        _ offsets: [Int32: Int64],
        _ guid: String,
        _ name: String,
        _ connection: Connection
    ) throws {
        guard !offsets.isEmpty else { return }
        let rows = offsets.sorted { $0.key < $1.key }.map {
            "(\(SQLText.literal(name)), \(SQLText.literal(guid)), \($0.key), \($0.value))"
        }
        try connection.execute(
            """
            INSERT INTO \(offsetsTable) VALUES \(rows.joined(separator: ", ")) \
            ON CONFLICT (guid, "partition") DO UPDATE SET next_offset = excluded.next_offset
            """
        )
    }

    private static func columns(_ name: String, _ spec: TableSpec, _ connection: Connection) throws -> [Column] {
        let declared = Set(spec.columns.map { KeyedTable.folded($0.name) })
        let rows = try connection.query(
            """
            SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() \
            AND schema_name = 'main' AND lower(table_name) = lower(?) ORDER BY column_index
            """,
            [.string(name)]
        ).rows()
        var columns: [Column] = []
        for row in rows {
            guard case .string(let column) = row[0], case .string(let type) = row[1] else { continue }
            var found = Column(name: column, type: type, isDeclared: declared.contains(KeyedTable.folded(column)))
            if type == "DECIMAL(38,0)" { found.hasLargeIntegers = true }
            if type == "BIGINT", !found.isDeclared {
                let quoted = SQLText.identifier(column)
                let large = try connection.query(
                    """
                    SELECT count(*) FROM (SELECT 1 FROM \(SQLText.identifier(name)) \
                    WHERE \(quoted) NOT BETWEEN -9007199254740992 AND 9007199254740992 LIMIT 1)
                    """
                ).rows()
                found.hasLargeIntegers = large.first?.first != .int(0)
            }
            columns.append(found)
        }
        return columns
    }

    private static func alter(_ name: String, from old: [Column], to new: [Column], _ connection: Connection) throws {
        let types = Dictionary(
            old.map { (KeyedTable.folded($0.name), $0.type) },
            uniquingKeysWith: { first, _ in first }
        )
        for column in new {
            let statement = "ALTER TABLE \(SQLText.identifier(name))"
            let quoted = SQLText.identifier(column.name)
            guard let type = types[KeyedTable.folded(column.name)] else {
                try connection.execute("\(statement) ADD COLUMN \(quoted) \(column.type)")
                continue
            }
            if type != column.type { try connection.execute("\(statement) ALTER \(quoted) TYPE \(column.type)") }
        }
    }

    // MARK: Rounds

    /// Puts a round into the table; on return it is durable.
    func apply(_ round: KeyedRound) async throws {
        let (name, guid, key) = (table.name, table.guid, table.spec.key)
        let rejects = table.rejectsName
        let before = table.with { $0.columns }
        try await lake.transact(changesTables: round.columns != before) { connection in
            let quoted = SQLText.identifier(name)
            try Self.alter(name, from: before, to: round.columns, connection)
            if round.deletes > 0 {
                let isSame = key.map { "\(quoted).\(SQLText.identifier($0)) = gone.\(round.place(of: $0))" }
                try connection.execute(
                    """
                    DELETE FROM \(quoted) USING (FROM \(round.latest) WHERE deletes) AS gone \
                    WHERE \(isSame.joined(separator: " AND "))
                    """
                )
            }
            if round.upserts > 0 {
                let names = round.columns.map { SQLText.identifier($0.name) }
                let folded = Set(key.map { KeyedTable.folded($0) })
                let others = round.columns.filter { !folded.contains(KeyedTable.folded($0.name)) }.map {
                    "\(SQLText.identifier($0.name)) = excluded.\(SQLText.identifier($0.name))"
                }
                let action = others.isEmpty ? "NOTHING" : "UPDATE SET \(others.joined(separator: ", "))"
                try connection.execute(
                    """
                    INSERT INTO \(quoted) (\(names.joined(separator: ", "))) \
                    SELECT \(round.columns.map { round.place(of: $0.name) }.joined(separator: ", ")) \
                    FROM \(round.latest) WHERE NOT deletes \
                    ON CONFLICT (\(key.map { SQLText.identifier($0) }.joined(separator: ", "))) DO \(action)
                    """
                )
            }
            if round.rejects > 0 {
                try connection.execute(
                    "INSERT INTO \(SQLText.identifier(rejects)) FROM \(round.rejectsTable) ON CONFLICT DO NOTHING"
                )
            }
            try Self.store(round.offsets, guid, name, connection)
        }
        table.with { state in
            state.columns = round.columns
            for (partition, offset) in round.offsets { state.offsets[partition] = offset }
        }
    }

    // MARK: What is in it

    /// How many rows and rejects there are.
    func counts() async throws -> (rows: Int64, rejects: Int64) {
        let counts = try await lake.query(
            """
            SELECT (SELECT count(*) FROM \(SQLText.identifier(table.name))), \
            (SELECT count(*) FROM \(SQLText.identifier(table.rejectsName)))
            """
        ).rows()
        guard case .int(let rows)? = counts.first?.first, case .int(let rejects)? = counts.first?.last else {
            return (0, 0)
        }
        return (rows, rejects)
    }

    // MARK: Removing

    /// Removes rows, rejects and offsets together.
    func drop() async throws {
        let (names, guid) = (table.storedNames, table.guid)
        try await lake.transact(changesTables: true) { connection in
            try Self.createOffsets(connection)
            // Where nothing was made for the table, one of its name belongs to somebody else.
            guard try !Self.offsets(guid, connection).isEmpty else { return }
            try Self.drop(names, guid, connection)
        }
    }

    static func drop(_ names: [String], _ guid: String, _ connection: Connection) throws {
        for name in names { try connection.execute("DROP TABLE IF EXISTS \(SQLText.identifier(name))") }
        _ = try connection.query("DELETE FROM \(offsetsTable) WHERE guid = ?", [.string(guid)])
    }
}
