// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Transactions that go into one DuckDB transaction, with their changes merged table by table.
///
/// For each table the plan is a list of segments; a segment first deletes, then upserts rows with distinct keys. A delete
/// whose columns all belong to the key is moved before the upserts it follows by dropping the rows it would remove from
/// them; any other delete that follows upserts begins a new segment.
struct GroupPlan {
    /// The tables as they will be after the group.
    private(set) var catalog: TableCatalog
    /// Segments by lowercased table name, in order.
    private(set) var segments: [String: [Segment]] = [:]
    /// Tables in the order in which they were first named.
    private(set) var tableOrder: [String] = []
    /// One result for each planned transaction; deletes are counted while they run.
    private(set) var results: [TableCommitResult] = []
    private(set) var rowCount = 0
    private var nextDelete = 0

    init(catalog: TableCatalog) {
        self.catalog = catalog
    }

    /// Adds a transaction, or throws and leaves the plan as it was.
    mutating func add(_ transaction: TableTransaction, now: Int64) throws(LakeError) {
        // Resolving reports every refusal; what follows cannot fail, so a refused transaction leaves no trace.
        var draft = catalog
        var resolved: [ResolvedOperation] = []
        for (index, operation) in transaction.operations.enumerated() {
            do throws(LakeError) {
                resolved.append(try OperationResolver.resolve(operation, in: &draft, now: now))
                draft[operation.table]?.updated = now
            } catch {
                var located = error
                located.operation = index
                located.table = operation.table
                throw located
            }
        }
        catalog = draft
        let index = results.count
        results.append(TableCommitResult())
        for operation in resolved {
            rowCount += operation.rowCount
            merge(operation, transaction: index)
        }
    }

    /// Counts a row that DuckDB deleted.
    mutating func countDeleted(_ table: String, transaction: Int) {
        results[transaction].add(table: table, deleted: 1)
    }

    private mutating func merge(_ operation: ResolvedOperation, transaction: Int) {
        let table = operation.schemaName.lowercased()
        if segments[table] == nil {
            segments[table] = []
            tableOrder.append(table)
        }
        // Taken out so that the segments are changed in place.
        var list = segments[table] ?? []
        segments[table] = []
        defer { segments[table] = list }
        switch operation.kind {
        case .nothing: results[transaction].add(table: operation.table)
        case .upsert(let keyIndices):
            results[transaction].add(table: operation.table, upserted: operation.rowCount)
            if list.isEmpty { list.append(Segment()) }
            for row in 0..<operation.rowCount {
                let key = RowKey(keyIndices.map { operation.columns[$0].values }, row: row)
                if !list[list.count - 1].upsert(operation, row: row, key: key) {
                    list.append(Segment())
                    _ = list[list.count - 1].upsert(operation, row: row, key: key)
                }
            }
        case .delete(let keyPositions):
            results[transaction].add(table: operation.table)
            let isByKey = keyPositions != nil
            if list.isEmpty || (!isByKey && list[list.count - 1].hasUpserts) { list.append(Segment()) }
            for row in 0..<operation.rowCount {
                let values = RowKey(operation.columns.map(\.values), row: row)
                let removed = list[list.count - 1].delete(
                    operation,
                    row: row,
                    values: values,
                    keyPositions: keyPositions,
                    id: DeleteID(transaction: transaction, number: nextDelete)
                )
                nextDelete += 1
                if removed > 0 { results[transaction].add(table: operation.table, deleted: removed) }
            }
        }
    }
}

/// One row of a delete operation.
struct DeleteID: Hashable {
    let transaction: Int
    let number: Int
}

/// An operation whose columns have the types of the table's columns.
final class ResolvedOperation: Sendable {
    enum Kind {
        /// Nothing to do: a delete from a table that does not exist.
        case nothing
        /// Positions of the key's columns among the operation's columns, in key order.
        case upsert(keyIndices: [Int])
        /// Positions of the operation's columns in the key, or nil when one is not part of it.
        case delete(keyPositions: [Int]?)
    }

    /// The name the transaction uses.
    let table: String
    /// The name the table has.
    let schemaName: String
    let kind: Kind
    let columns: [(name: String, values: ColumnBuffer)]
    let rowCount: Int
    /// Distinguishes sets of columns: names in order.
    let columnSet: String

    init(table: String, schemaName: String, kind: Kind, columns: [(name: String, values: ColumnBuffer)], rowCount: Int)
    {
        self.table = table
        self.schemaName = schemaName
        self.kind = kind
        self.columns = columns
        self.rowCount = rowCount
        columnSet = columns.map(\.name).joined(separator: ",")
    }
}

/// Deletes, then upserts of distinct keys, on one table.
struct Segment {
    /// A row of an operation, or nil when a later change has replaced it.
    struct RowReference {
        let operation: ResolvedOperation
        let row: Int
    }

    /// Deletes by one set of columns.
    struct DeleteSet {
        let columns: [String]
        var rows: [RowReference] = []
        /// The first delete of each combination of values.
        var first: [RowKey: DeleteID] = [:]
    }

    /// Upserts of one set of columns.
    struct UpsertSet {
        let columns: [String]
        var rows: [RowReference?] = []
    }

    private(set) var deletes: [String: DeleteSet] = [:]
    private(set) var upserts: [String: UpsertSet] = [:]
    /// Which delete first removed a pending upsert of a key.
    private(set) var removals: [RowKey: DeleteID] = [:]
    private var places: [RowKey: Place] = [:]
    /// Keys of pending upserts by the values of some of the key's columns.
    private var partial: [[Int]: [RowKey: [RowKey]]] = [:]

    private struct Place {
        let set: String
        let index: Int
    }

    var hasUpserts: Bool { !places.isEmpty }

    /// Adds a row; false when the key is pending with other columns, which one statement cannot express.
    mutating func upsert(_ operation: ResolvedOperation, row: Int, key: RowKey) -> Bool {
        if let place = places[key] {
            guard place.set == operation.columnSet else { return false }
            upserts[place.set]?.rows[place.index] = RowReference(operation: operation, row: row)
            return true
        }
        let set = operation.columnSet
        let index = upserts[set]?.rows.count ?? 0
        upserts[set, default: UpsertSet(columns: operation.columns.map(\.name))].rows.append(
            RowReference(operation: operation, row: row)
        )
        places[key] = Place(set: set, index: index)
        for positions in partial.keys {
            partial[positions]?[Self.part(operation, row, positions), default: []].append(key)
        }
        return true
    }

    /// Adds a delete and drops the pending upserts it covers; returns how many.
    mutating func delete(
        _ operation: ResolvedOperation,
        row: Int,
        values: RowKey,
        keyPositions: [Int]?,
        id: DeleteID
    ) -> Int {
        let set = operation.columnSet
        if deletes[set] == nil { deletes[set] = DeleteSet(columns: operation.columns.map(\.name)) }
        if deletes[set]?.first[values] == nil {
            deletes[set]?.first[values] = id
            deletes[set]?.rows.append(RowReference(operation: operation, row: row))
        }
        guard let keyPositions, !places.isEmpty else { return 0 }
        let keys = index(keyPositions)[values] ?? []
        var removed = 0
        for key in keys {
            guard let place = places.removeValue(forKey: key) else { continue }
            upserts[place.set]?.rows[place.index] = nil
            if removals[key] == nil { removals[key] = id }
            removed += 1
        }
        partial[keyPositions]?[values] = nil
        return removed
    }

    /// Whether the segment's deletes remove every row that these upserts could meet, so that they only insert.
    func coversByDeletes(_ set: UpsertSet) -> Bool {
        for delete in deletes.values {
            guard let sample = delete.rows.first?.operation, case .delete(let positions?) = sample.kind else {
                continue
            }
            let isCovered = set.rows.allSatisfy { reference in
                guard let reference else { return true }
                return delete.first[Self.part(reference.operation, reference.row, positions)] != nil
            }
            if isCovered { return true }
        }
        return false
    }

    /// The pending keys by the values of some of the key's columns, built when first asked for.
    private mutating func index(_ positions: [Int]) -> [RowKey: [RowKey]] {
        if let index = partial[positions] { return index }
        var index: [RowKey: [RowKey]] = [:]
        for (key, place) in places {
            guard let reference = upserts[place.set]?.rows[place.index] else { continue }
            index[Self.part(reference.operation, reference.row, positions), default: []].append(key)
        }
        partial[positions] = index
        return index
    }

    private static func part(_ operation: ResolvedOperation, _ row: Int, _ positions: [Int]) -> RowKey {
        guard case .upsert(let keyIndices) = operation.kind else { return RowKey() }
        return RowKey(positions.map { operation.columns[keyIndices[$0]].values }, row: row)
    }
}
