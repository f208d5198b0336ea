// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import MartletCore

extension TableTransaction {
    /// Reads the wire form, checking names, limits and value types.
    /// - Throws: ``LakeError`` naming the operation, table, column and row.
    package static func decode(_ body: [UInt8]) throws(LakeError) -> TableTransaction {
        guard body.count <= TableLimits.bodyBytesMax else {
            throw LakeError(
                .tooLarge,
                "The transaction has \(body.count) bytes; at most \(TableLimits.bodyBytesMax) are allowed. Split it."
            )
        }
        var decoder = Decoder()
        do {
            return try JSONCursor.withBytes(body) { try decoder.transaction(&$0) }
        } catch let error as LakeError {
            throw error
        } catch let error as ColumnBuilder.Refusal {
            throw decoder.fault(error.code, error.message)
        } catch {
            throw decoder.fault(.malformedTransaction, "The transaction is not valid: \(error)")
        }
    }
}

/// Walks the text of a transaction and knows where it is.
private struct Decoder {
    private var operation: Int?
    private var table: String?
    private var column: String?
    private var row: Int?
    private var rowTotal = 0

    func fault(_ code: LakeError.Code, _ message: String) -> LakeError {
        LakeError(code, message, operation: operation, table: table, column: column, row: row)
    }

    mutating func transaction(_ cursor: inout JSONCursor) throws -> TableTransaction {
        var transaction = TableTransaction(operations: [])
        var hasOperations = false
        try cursor.beginObject()
        while let key = try cursor.nextKey() {
            switch key {
            case "traceparent": transaction.traceparent = try cursor.readNullIfPresent() ? nil : cursor.readString()
            case "operations":
                hasOperations = true
                try cursor.beginArray()
                while try cursor.nextElement() {
                    operation = transaction.operations.count
                    guard transaction.operations.count < TableLimits.operationsMax else {
                        throw fault(
                            .tooLarge,
                            "A transaction may have \(TableLimits.operationsMax) operations. Split it."
                        )
                    }
                    transaction.operations.append(try self.operation(&cursor))
                    table = nil
                }
                operation = nil
            default:
                throw fault(.malformedTransaction, "Unknown field \"\(key)\"; known are traceparent and operations.")
            }
        }
        guard hasOperations else { throw fault(.malformedTransaction, "The field \"operations\" is missing.") }
        return transaction
    }

    private mutating func operation(_ cursor: inout JSONCursor) throws -> TableOperation {
        var kind: String?
        var key: [String]?
        var columns: [String]?
        var rows: TableRows?
        // The columns may stand behind the rows; then the rows are read once more from this place.
        var deferred: JSONCursor?
        try cursor.beginObject()
        while let field = try cursor.nextKey() {
            switch field {
            case "op": kind = try cursor.readString()
            case "table":
                table = try cursor.readString()
                try checkName(table ?? "")
            case "key": key = try names(&cursor, what: "key")
            case "columns": columns = try names(&cursor, what: "columns")
            case "rows":
                if let columns {
                    rows = try self.rows(&cursor, columns)
                } else {
                    deferred = cursor
                    _ = try cursor.skipValue()
                }
            default:
                throw fault(
                    .malformedTransaction,
                    "Unknown field \"\(field)\"; known are op, table, key, columns and rows."
                )
            }
        }
        guard let table else { throw fault(.malformedTransaction, "The field \"table\" is missing.") }
        guard let columns else { throw fault(.malformedTransaction, "The field \"columns\" is missing.") }
        guard !columns.isEmpty else { throw fault(.malformedTransaction, "\"columns\" is empty.") }
        if var deferred { rows = try self.rows(&deferred, columns) }
        guard let rows else { throw fault(.malformedTransaction, "The field \"rows\" is missing.") }
        switch kind {
        case "upsert":
            guard let key, !key.isEmpty else { throw fault(.malformedTransaction, "An upsert needs a \"key\".") }
            for name in key where !columns.contains(name) {
                throw fault(.malformedTransaction, "The key column \(name) is not among the columns.")
            }
            return .upsert(table: table, key: key, rows: rows)
        case "delete":
            guard key == nil else { throw fault(.malformedTransaction, "A delete has no \"key\".") }
            return .delete(table: table, rows: rows)
        case let other?: throw fault(.malformedTransaction, "Unknown op \"\(other)\"; known are upsert and delete.")
        case nil: throw fault(.malformedTransaction, "The field \"op\" is missing.")
        }
    }

    private func checkName(_ name: String) throws {
        guard TableLimits.isName(name) else {
            throw fault(
                .invalidName,
                "\"\(name.prefix(200))\" is no name; names are 1 to \(TableLimits.nameBytesMax) ASCII letters, digits and "
                    + "underscores and do not begin with a digit."
            )
        }
    }

    private mutating func names(_ cursor: inout JSONCursor, what: String) throws -> [String] {
        var names: [String] = []
        var seen: Set<String> = []
        try cursor.beginArray()
        while try cursor.nextElement() {
            let name = try cursor.readString()
            try checkName(name)
            guard seen.insert(name.lowercased()).inserted else {
                throw fault(
                    .malformedTransaction,
                    "\"\(what)\" names \(name) twice (upper and lower case are the same)."
                )
            }
            names.append(name)
            guard names.count <= TableLimits.columnsMax else {
                throw fault(.tooLarge, "\"\(what)\" has more than \(TableLimits.columnsMax) names.")
            }
        }
        return names
    }

    private mutating func rows(_ cursor: inout JSONCursor, _ columns: [String]) throws -> TableRows {
        var builders = columns.map { ColumnBuilder(name: $0) }
        var count = 0
        try cursor.beginArray()
        while try cursor.nextElement() {
            row = count
            rowTotal += 1
            guard rowTotal <= TableLimits.rowsMax else {
                throw fault(.tooLarge, "A transaction may have \(TableLimits.rowsMax) rows. Split it.")
            }
            var index = 0
            try cursor.beginArray()
            while try cursor.nextElement() {
                guard index < columns.count else {
                    throw fault(.malformedTransaction, "The row has more values than the \(columns.count) columns.")
                }
                column = columns[index]
                try builders[index].append(from: &cursor)
                index += 1
            }
            column = nil
            guard index == columns.count else {
                throw fault(.malformedTransaction, "The row has \(index) values for \(columns.count) columns.")
            }
            count += 1
        }
        row = nil
        return TableRows(columns: builders.map(\.column), count: count)
    }
}
