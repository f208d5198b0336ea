// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore

/// Puts fetched records into a table's fresh rows.
struct RecordIntake: Sendable {
    /// More threads than one only help where there are several partitions and processors to spare.
    private static let threads = 2

    let table: AppendTable
    let space: FreshSpace

    private enum Outcome: Sendable {
        case written
        /// The records need other columns than those there are, and were not written.
        case other
    }

    /// Takes records, and notes in `progress` how far each partition was taken, also where it throws.
    func take(_ fetched: [Fetched], _ progress: inout SinkProgress) async throws {
        let rows = try await openRows(&progress)
        var shares: [[Fetched]] = []
        for (_, items) in Dictionary(grouping: fetched, by: \.partition).sorted(by: { $0.key < $1.key }) {
            if shares.count < Self.threads {
                shares.append(items)
            } else {
                shares[Int(items[0].partition) % Self.threads] += items
            }
        }
        let columns = rows.columns
        var left: [[Fetched]] = []
        var failure: (any Error)?
        await withTaskGroup(of: (Int, Result<Outcome, any Error>).self) { group in
            for (index, share) in shares.enumerated() {
                group.addTask {
                    do {
                        let outcome = try await space.threads.run {
                            try Self.fill(share, rows, columns, table, space)
                        }
                        return (index, .success(outcome))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            for await (index, result) in group {
                switch result {
                case .success(.written): Self.note(shares[index], &progress)
                case .success(.other): left.append(shares[index])
                case .failure(let error): failure = error
                }
            }
        }
        // Columns are changed by one share after the other, so that both see what the other brought.
        for share in left.sorted(by: { $0[0].partition < $1[0].partition }) {
            try await takeAlone(share, &progress)
            Self.note(share, &progress)
        }
        publish(progress.current.last?.columns)
        if let failure { throw failure }
    }

    private static func note(_ share: [Fetched], _ progress: inout SinkProgress) {
        for item in share { progress.taken[item.partition] = max(progress.taken[item.partition] ?? 0, item.next) }
    }

    /// The rows to fill, made where there are none.
    private func openRows(_ progress: inout SinkProgress) async throws -> FreshRows {
        if let last = progress.current.last { return last }
        return try await addRows(table.read { $0.columns }, &progress)
    }

    private func addRows(
        _ columns: [AppendTableSchemaVersion.Column],
        _ progress: inout SinkProgress
    ) async throws -> FreshRows {
        let rows = FreshRows(number: space.nextGeneration(), columns: columns, space: space)
        let layout = table.layout
        let database = try await space.database()
        try await space.threads.run {
            try Self.create(rows, layout, on: database.connect())
        }
        progress.current.append(rows)
        table.with { $0.fresh.append(rows) }
        return rows
    }

    /// Makes the two tables of fresh rows.
    static func create(_ rows: FreshRows, _ layout: TableLayout, on connection: Connection) throws {
        let columns = SystemColumns.all(format: layout.format, columns: rows.columns)
        try connection.execute("CREATE TABLE \(rows.rowsTable) \(SystemColumns.sql(columns))")
        try connection.execute("CREATE TABLE \(rows.rejectsTable) \(SystemColumns.sql(SystemColumns.rejects))")
    }

    /// Reads records and writes them where the columns fit; blocks.
    private static func fill(
        _ share: [Fetched],
        _ rows: FreshRows,
        _ columns: [AppendTableSchemaVersion.Column],
        _ table: AppendTable,
        _ space: FreshSpace
    ) throws -> Outcome {
        let batch = try read(share, columns, table)
        guard batch.columns == columns else { return .other }
        try write(batch, share, to: rows, space)
        return .written
    }

    private static func read(
        _ share: [Fetched],
        _ columns: [AppendTableSchemaVersion.Column],
        _ table: AppendTable
    ) throws -> RowBatch {
        let batch = try RowBatch(columns: columns, settings: table.batchSettings)
        for item in share { try batch.append(item.bytes, from: item.from, partition: item.partition) }
        return batch
    }

    private static func write(_ batch: RowBatch, _ share: [Fetched], to rows: FreshRows, _ space: FreshSpace) throws {
        if batch.rowCount + batch.rejectCount > 0 {
            let connection = try space.connect()
            try connection.transaction { try rows.append(batch, on: connection) }
        }
        rows.added(
            rows: batch.rowCount,
            rejects: batch.rejectCount,
            bytes: share.reduce(0) { $0 + $1.bytes.count }
        )
    }

    /// Takes records that change the columns.
    private func takeAlone(_ share: [Fetched], _ progress: inout SinkProgress) async throws {
        var rows = try await openRows(&progress)
        let before = rows.columns
        let (after, isWider) = try await space.threads.run { () -> ([AppendTableSchemaVersion.Column], Bool) in
            let batch = try Self.read(share, before, table)
            return (batch.columns, batch.hasWidenedColumns)
        }
        if isWider {
            rows = try await addRows(after, &progress)
        }
        let target = rows
        try await space.threads.run {
            if !isWider { try Self.addColumns(from: before, to: after, target, space) }
            target.set(columns: after)
            let batch = try Self.read(share, after, table)
            try Self.write(batch, share, to: target, space)
        }
    }

    private static func addColumns(
        from before: [AppendTableSchemaVersion.Column],
        to after: [AppendTableSchemaVersion.Column],
        _ rows: FreshRows,
        _ space: FreshSpace
    ) throws {
        let connection = try space.connect()
        let known = Set(before.map(\.name))
        for column in after where !known.contains(column.name) {
            try connection.execute(
                "ALTER TABLE \(rows.rowsTable) ADD COLUMN IF NOT EXISTS \(SQLText.identifier(column.name)) \(column.type)"
            )
        }
    }

    private func publish(_ columns: [AppendTableSchemaVersion.Column]?) {
        guard let columns, table.read({ $0.columns != columns }) else { return }
        table.with { $0.columns = columns }
    }
}
