// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB

/// Changes to keyed tables that happen in order and together or not at all.
///
/// The wire form is in docs/formats/worker-protocol.md, "Table transactions".
package struct TableTransaction: Sendable {
    /// The trace context of the invocation that asks for it.
    package var traceparent: String?
    /// The operations in order.
    package var operations: [TableOperation]

    /// Makes a transaction.
    package init(traceparent: String? = nil, operations: [TableOperation]) {
        self.traceparent = traceparent
        self.operations = operations
    }

    /// How many rows all operations have together.
    package var rowCount: Int { operations.reduce(0) { $0 + $1.rows.count } }
}

/// One operation on one table.
package enum TableOperation: Sendable {
    /// Inserts rows, or replaces the named columns of those whose key exists.
    case upsert(table: String, key: [String], rows: TableRows)
    /// Removes the rows whose named columns equal one of the given rows.
    case delete(table: String, rows: TableRows)

    /// The table's name.
    package var table: String {
        switch self {
        case .upsert(let table, _, _), .delete(let table, _): table
        }
    }

    /// The rows.
    package var rows: TableRows {
        switch self {
        case .upsert(_, _, let rows), .delete(_, let rows): rows
        }
    }
}

/// Rows held column by column.
package struct TableRows: Sendable {
    /// The columns in order; names differ even when upper and lower case are the same.
    package var columns: [TableColumn]
    /// How many rows there are.
    package var count: Int
}

/// One column of rows.
package struct TableColumn: Sendable {
    /// The column's name.
    package let name: String
    /// The values, or nil when all are NULL, so that they have no type.
    package var values: ColumnBuffer?
}

/// What a committed transaction did to each table.
package struct TableCommitResult: Sendable, Hashable {
    /// Counts for one table.
    package struct Counts: Sendable, Hashable {
        /// How many rows were given to upserts.
        package var upserted = 0
        /// How many rows deletes removed.
        package var deleted = 0

        /// Makes counts.
        package init(upserted: Int = 0, deleted: Int = 0) {
            self.upserted = upserted
            self.deleted = deleted
        }
    }

    /// The counts by table name, in the order the transaction names them.
    package var tables: [(name: String, counts: Counts)] = []

    /// The counts of one table.
    package subscript(table: String) -> Counts? { tables.first { $0.name == table }?.counts }

    mutating func add(table: String, upserted: Int = 0, deleted: Int = 0) {
        let index =
            tables.firstIndex { $0.name == table || $0.name.lowercased() == table.lowercased() }
            ?? {
                tables.append((table, Counts()))
                return tables.count - 1
            }()
        tables[index].counts.upserted += upserted
        tables[index].counts.deleted += deleted
    }

    /// Whether the same tables have the same counts in the same order.
    package static func == (left: TableCommitResult, right: TableCommitResult) -> Bool {
        left.tables.elementsEqual(right.tables) { $0.name == $1.name && $0.counts == $1.counts }
    }

    /// Feeds names and counts to the hasher.
    package func hash(into hasher: inout Hasher) {
        for (name, counts) in tables {
            hasher.combine(name)
            hasher.combine(counts)
        }
    }
}

/// Bounds of table transactions.
package enum TableLimits {
    /// Size of a transaction's text.
    package static let bodyBytesMax = 64 << 20
    /// Rows of one transaction.
    package static let rowsMax = 1_000_000
    /// Columns of one table.
    package static let columnsMax = 1_000
    /// Operations of one transaction.
    package static let operationsMax = 10_000
    /// Length of a table's or column's name.
    package static let nameBytesMax = 128

    /// Whether a text may name a table or a column: `[A-Za-z_][A-Za-z0-9_]{0,127}`.
    package static func isName(_ text: String) -> Bool {
        let bytes = text.utf8
        guard let first = bytes.first, bytes.count <= nameBytesMax, !(first &- 0x30 <= 9) else { return false }
        return bytes.allSatisfy { byte in
            byte &- 0x30 <= 9 || (byte | 0x20) &- 0x61 <= 25 || byte == 0x5F
        }
    }
}
