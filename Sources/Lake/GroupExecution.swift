// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Carries out a plan on the writer's connection, inside a transaction that the caller opens and commits.
struct GroupExecution {
    let connection: Connection
    let before: TableCatalog
    let deletes: DeleteStatements

    /// How many rows one DELETE statement names.
    private static let deleteRowsMax = 256

    func run(_ plan: inout GroupPlan) throws {
        let after = plan.catalog
        for table in plan.tableOrder {
            guard let schema = after[table], schema.columns != before[table]?.columns else { continue }
            deletes.removeAll()
            try alter(table, to: schema)
        }
        for table in plan.tableOrder {
            guard let schema = after[table] else { continue }
            for segment in plan.segments[table] ?? [] {
                for set in segment.deletes.values { try delete(set, in: segment, from: schema, counting: &plan) }
                for set in segment.upserts.values {
                    try upsert(set, into: schema, isInsert: segment.coversByDeletes(set))
                }
            }
        }
    }

    // MARK: Definitions

    private func alter(_ table: String, to schema: TableSchema) throws {
        guard let old = before[table] else {
            let columns = schema.columns.map { "\(SQLText.identifier($0.name)) \($0.typeName)" }
            let key = schema.key.map { SQLText.identifier($0) }.joined(separator: ", ")
            try connection.execute(
                "CREATE TABLE \(schema.quotedName) (\(columns.joined(separator: ", ")), PRIMARY KEY (\(key)))"
            )
            let comment = TableTimes.comment(created: schema.created, updated: schema.updated)
            try connection.execute("COMMENT ON TABLE \(schema.quotedName) IS \(SQLText.literal(comment))")
            return
        }
        for column in schema.columns {
            let name = SQLText.identifier(column.name)
            guard let index = old.index(of: column.name) else {
                try connection.execute("ALTER TABLE \(schema.quotedName) ADD COLUMN \(name) \(column.typeName)")
                continue
            }
            guard old.columns[index].typeName != column.typeName else { continue }
            try checkExactness(schema, column, from: old.columns[index])
            try connection.execute("ALTER TABLE \(schema.quotedName) ALTER \(name) TYPE \(column.typeName)")
        }
    }

    /// Integers that a double cannot hold, and decimals without room for more digits, keep their column as it is.
    private func checkExactness(_ schema: TableSchema, _ column: TableSchema.Column, from old: TableSchema.Column)
        throws
    {
        let name = SQLText.identifier(column.name)
        var condition: String?
        if column.type == .double {
            condition = "\(name) NOT BETWEEN -\(TypeWidening.exactDouble) AND \(TypeWidening.exactDouble)"
        } else if case .decimal? = column.type {
            condition = "\(name) IS NOT NULL AND TRY_CAST(\(name) AS \(column.typeName)) IS NULL"
        }
        guard let condition else { return }
        let rows = try connection.query("SELECT \(name) FROM \(schema.quotedName) WHERE \(condition) LIMIT 1").rows()
        guard let value = rows.first?.first else { return }
        throw LakeError(
            .typeConflict,
            "The column has type \(old.typeName) and holds \(value.text), which \(column.typeName) cannot hold exactly, so it "
                + "cannot be widened.",
            table: schema.name,
            column: column.name
        )
    }

    // MARK: Rows

    private func upsert(_ set: Segment.UpsertSet, into schema: TableSchema, isInsert: Bool) throws {
        let rows = set.rows.compactMap { $0 }
        guard !rows.isEmpty else { return }
        var columns: [(name: String, type: ColumnType)] = []
        var buffers: [ColumnBuffer] = []
        for (position, name) in set.columns.enumerated() {
            guard let index = schema.index(of: name), let type = schema.columns[index].type else {
                preconditionFailure("GroupExecution: column \(name) was not planned")
            }
            columns.append((schema.columns[index].name, type))
            buffers.append(try gather(rows, position, as: type, schema, name))
        }
        let appender =
            isInsert
            ? try Appender(connection: connection, table: schema.name, columns: columns)
            : try Appender(
                connection: connection,
                statement: Self.upsertStatement(schema, columns.map(\.name)),
                rows: "martlet_rows",
                columns: columns
            )
        try appender.append(buffers)
        try appender.flush()
    }

    private static func upsertStatement(_ schema: TableSchema, _ columns: [String]) -> String {
        let names = columns.map { SQLText.identifier($0) }.joined(separator: ", ")
        let key = Set(schema.key.map { $0.lowercased() })
        let others = columns.filter { !key.contains($0.lowercased()) }.map { SQLText.identifier($0) }
        let action =
            others.isEmpty
            ? "NOTHING" : "UPDATE SET " + others.map { "\($0) = excluded.\($0)" }.joined(separator: ", ")
        return """
            INSERT INTO \(schema.quotedName) (\(names)) SELECT \(names) FROM martlet_rows \
            ON CONFLICT (\(schema.key.map { SQLText.identifier($0) }.joined(separator: ", "))) DO \(action)
            """
    }

    private func gather(
        _ rows: [Segment.RowReference],
        _ position: Int,
        as type: ColumnType,
        _ schema: TableSchema,
        _ column: String
    ) throws -> ColumnBuffer {
        var buffer = ColumnBuffer(type)
        for reference in rows {
            do {
                try buffer.append(row: reference.row, of: reference.operation.columns[position].values)
            } catch {
                throw LakeError(
                    .typeConflict,
                    "\(error.value) cannot be kept exactly as \(error.type).",
                    table: schema.name,
                    column: column,
                    row: reference.row
                )
            }
        }
        return buffer
    }

    private func delete(
        _ set: Segment.DeleteSet,
        in segment: Segment,
        from schema: TableSchema,
        counting plan: inout GroupPlan
    ) throws {
        var start = 0
        while start < set.rows.count {
            let rows = set.rows[start..<min(start + Self.deleteRowsMax, set.rows.count)]
            start = rows.endIndex
            var parameters = rows.map { reference in
                reference.operation.columns.map { $0.values.value(reference.row) }
            }
            let hasNull = parameters.contains { $0.contains(.null) }
            let statement = try deletes.statement(connection, schema, set.columns, rows: rows.count, hasNull: hasNull)
            // Rows repeated to fill the statement delete nothing more.
            while parameters.count < statement.rows, let last = parameters.last { parameters.append(last) }
            try statement.prepared.bind(parameters.flatMap { $0 })
            let result = try statement.prepared.execute()
            for row in try result.rows() {
                guard let id = set.first[RowKey(Array(row.prefix(set.columns.count)))] else { continue }
                let key = RowKey(Array(row.suffix(schema.key.count)))
                if segment.removals[key] != id { plan.countDeleted(schema.name, transaction: id.transaction) }
            }
        }
    }
}
