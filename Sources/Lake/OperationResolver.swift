// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Fits operations to the tables, making tables and widening columns in a draft of the catalog.
enum OperationResolver {
    static func resolve(
        _ operation: TableOperation,
        in catalog: inout TableCatalog,
        now: Int64
    ) throws(LakeError) -> ResolvedOperation {
        switch operation {
        case .upsert(let table, let key, let rows):
            return try resolveUpsert(table, key, rows, in: &catalog, now: now)
        case .delete(let table, let rows): return try resolveDelete(table, rows, in: catalog)
        }
    }

    // MARK: Upserts

    private static func resolveUpsert(
        _ table: String,
        _ key: [String],
        _ rows: TableRows,
        in catalog: inout TableCatalog,
        now: Int64
    ) throws(LakeError) -> ResolvedOperation {
        if rows.count == 0 {
            return ResolvedOperation(table: table, schemaName: table, kind: .nothing, columns: [], rowCount: 0)
        }
        try checkKeyValues(key, rows)
        var schema = catalog[table] ?? TableSchema(name: table, columns: [], key: key, created: now)
        guard schema.key.map({ $0.lowercased() }).sorted() == key.map({ $0.lowercased() }).sorted() else {
            throw LakeError(
                .keyMismatch,
                schema.key.isEmpty
                    ? "The table has no key, so rows cannot be upserted into it."
                    : "The table's key is (\(schema.key.joined(separator: ", "))), not (\(key.joined(separator: ", "))); a key "
                        + "cannot change."
            )
        }
        var columns: [(name: String, values: ColumnBuffer)] = []
        for column in rows.columns {
            guard let fitted = try fit(column, rowCount: rows.count, to: &schema) else { continue }
            columns.append(fitted)
        }
        catalog[table] = schema
        let names = columns.map { $0.name.lowercased() }
        let keyIndices = schema.key.compactMap { name in names.firstIndex(of: name.lowercased()) }
        return ResolvedOperation(
            table: table,
            schemaName: schema.name,
            kind: .upsert(keyIndices: keyIndices),
            columns: columns,
            rowCount: rows.count
        )
    }

    private static func checkKeyValues(_ key: [String], _ rows: TableRows) throws(LakeError) {
        for name in key {
            guard let column = rows.columns.first(where: { $0.name.lowercased() == name.lowercased() }) else {
                throw LakeError(.keyMismatch, "The key column is not among the columns.", column: name)
            }
            guard let values = column.values else {
                throw LakeError(.invalidKey, "A key must not be NULL.", column: name, row: 0)
            }
            for row in 0..<rows.count {
                if values.isNull(row) {
                    throw LakeError(.invalidKey, "A key must not be NULL.", column: name, row: row)
                }
                if case .doubles(let numbers) = values.storage, numbers[row].isNaN {
                    throw LakeError(.invalidKey, "A key must not be NaN.", column: name, row: row)
                }
            }
        }
    }

    /// The column with the table's type, which is widened or made when needed; nil for a new column of NULLs alone.
    private static func fit(
        _ column: TableColumn,
        rowCount: Int,
        to schema: inout TableSchema
    ) throws(LakeError) -> (name: String, values: ColumnBuffer)? {
        guard let index = schema.index(of: column.name) else {
            guard let values = column.values else { return nil }
            guard schema.columns.count < TableLimits.columnsMax else {
                throw LakeError(
                    .tooLarge,
                    "The table already has \(TableLimits.columnsMax) columns.",
                    column: column.name
                )
            }
            schema.columns.append(
                TableSchema.Column(name: column.name, type: values.type, typeName: values.type.description)
            )
            return (column.name, values)
        }
        let existing = schema.columns[index]
        guard let type = existing.type else {
            throw LakeError(
                .typeConflict,
                "The column has type \(existing.typeName), which upserts cannot write.",
                column: existing.name
            )
        }
        guard let values = column.values else { return (existing.name, nulls(type, rowCount)) }
        guard let wider = TypeWidening.common(type, values.type) else {
            let row = (0..<rowCount).first { !values.isNull($0) }
            throw LakeError(
                .typeConflict,
                "The column has type \(type); a value of type \(values.type) does not fit and the column cannot be widened to it.",
                column: existing.name,
                row: row
            )
        }
        if wider != type {
            guard !schema.key.contains(where: { $0.lowercased() == existing.name.lowercased() }) else {
                throw LakeError(
                    .typeConflict,
                    "The column has type \(type); a value of type \(values.type) does not fit, and a key column cannot be widened.",
                    column: existing.name,
                    row: (0..<rowCount).first { !values.isNull($0) }
                )
            }
            schema.columns[index].type = wider
            schema.columns[index].typeName = wider.description
        }
        return (existing.name, try convert(values, to: wider, column: existing.name))
    }

    private static func nulls(_ type: ColumnType, _ count: Int) -> ColumnBuffer {
        var values = ColumnBuffer(type)
        for _ in 0..<count { values.appendNull() }
        return values
    }

    private static func convert(_ values: ColumnBuffer, to type: ColumnType, column: String) throws(LakeError)
        -> ColumnBuffer
    {
        do {
            return try values.converted(to: type)
        } catch {
            throw LakeError(
                .typeConflict,
                "\(error.value) cannot be kept exactly as \(error.type).",
                column: column,
                row: error.row
            )
        }
    }

    // MARK: Deletes

    private static func resolveDelete(
        _ table: String,
        _ rows: TableRows,
        in catalog: TableCatalog
    ) throws(LakeError) -> ResolvedOperation {
        guard let schema = catalog[table], rows.count > 0 else {
            return ResolvedOperation(table: table, schemaName: table, kind: .nothing, columns: [], rowCount: 0)
        }
        var columns: [(name: String, values: ColumnBuffer)] = []
        for column in rows.columns {
            guard let index = schema.index(of: column.name) else {
                throw LakeError(.unknownColumn, "The table has no such column to delete by.", column: column.name)
            }
            guard let type = schema.columns[index].type else {
                throw LakeError(
                    .typeConflict,
                    "The column has type \(schema.columns[index].typeName), by which rows cannot be deleted.",
                    column: column.name
                )
            }
            guard let values = column.values else {
                columns.append((schema.columns[index].name, nulls(type, rows.count)))
                continue
            }
            guard TypeWidening.common(type, values.type) == type else {
                throw LakeError(
                    .typeConflict,
                    "The column has type \(type) and never equals a value of type \(values.type).",
                    column: column.name,
                    row: (0..<rows.count).first { !values.isNull($0) }
                )
            }
            columns.append((schema.columns[index].name, try convert(values, to: type, column: column.name)))
        }
        let key = schema.key.map { $0.lowercased() }
        let positions = columns.compactMap { key.firstIndex(of: $0.name.lowercased()) }
        return ResolvedOperation(
            table: table,
            schemaName: schema.name,
            kind: .delete(keyPositions: !key.isEmpty && positions.count == columns.count ? positions : nil),
            columns: columns,
            rowCount: rows.count
        )
    }
}
