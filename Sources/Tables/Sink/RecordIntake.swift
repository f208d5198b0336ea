// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore

/// Puts fetched records into a table's fresh rows.
struct RecordIntake: Sendable {
    /// More threads than one only help where there are several partitions and processors to spare.
    private static let threads = 2
    /// From so many bytes on a round gets tables of its own: DuckDB takes over what is appended to an empty table as it is, and
    /// copies it once more where there are rows already and fewer than 122,880 come.
    private static let largeRoundBytes = 2 << 20

    let table: AppendTable
    let space: FreshSpace

    /// Takes records, and notes in `progress` how far each partition was taken, also where it throws.
    func take(_ fetched: [Fetched], _ progress: inout SinkProgress) async throws {
        var rows = try await openRows(&progress)
        if fetched.reduce(0, { $0 + $1.bytes.count }) >= Self.largeRoundBytes, !rows.isEmpty {
            rows = try await addRows(rows.columns, &progress)
        }
        let target = rows
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
        var ready: [(batch: RowBatch, share: [Fetched])] = []
        await withTaskGroup(of: (Int, Result<RowBatch, any Error>).self) { group in
            for (index, share) in shares.enumerated() {
                group.addTask {
                    do {
                        return (index, .success(try await space.threads.run { try Self.read(share, columns, table) }))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            for await (index, result) in group {
                switch result {
                case .success(let batch) where batch.columns == columns: ready.append((batch, shares[index]))
                case .success: left.append(shares[index])
                case .failure(let error): failure = error
                }
            }
        }
        if !ready.isEmpty {
            // One transaction: what DuckDB gets at once it need not copy again.
            let work = ready
            try await space.threads.run { try Self.write(work, to: target, space) }
            for (_, share) in work { Self.note(share, &progress) }
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
        _ = try await space.database()
        let space = space
        try await space.threads.run {
            try space.withConnection { try Self.create(rows, layout, on: $0) }
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

    /// Reads records into columns; blocks.
    private static func read(
        _ share: [Fetched],
        _ columns: [AppendTableSchemaVersion.Column],
        _ table: AppendTable
    ) throws -> RowBatch {
        let batch = try RowBatch(columns: columns, settings: table.batchSettings)
        for item in share {
            // The log compares the checksums of what it reads.
            try batch.append(item.bytes, from: item.from, partition: item.partition, verifiesChecksums: false)
        }
        return batch
    }

    private static func write(
        _ work: [(batch: RowBatch, share: [Fetched])],
        to rows: FreshRows,
        _ space: FreshSpace
    ) throws {
        let batches = work.map(\.batch)
        if batches.contains(where: { $0.rowCount + $0.rejectCount > 0 }) {
            try space.withConnection { connection in
                try connection.transaction { try rows.append(batches, on: connection) }
            }
        }
        for (batch, share) in work {
            rows.added(
                rows: batch.rowCount,
                rejects: batch.rejectCount,
                bytes: share.reduce(0) { $0 + $1.bytes.count }
            )
        }
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
            try Self.write([(batch, share)], to: target, space)
        }
    }

    private static func addColumns(
        from before: [AppendTableSchemaVersion.Column],
        to after: [AppendTableSchemaVersion.Column],
        _ rows: FreshRows,
        _ space: FreshSpace
    ) throws {
        let known = Set(before.map(\.name))
        try space.withConnection { connection in
            for column in after where !known.contains(column.name) {
                try connection.execute(
                    "ALTER TABLE \(rows.rowsTable) ADD COLUMN IF NOT EXISTS \(SQLText.identifier(column.name)) \(column.type)"
                )
            }
        }
    }

    private func publish(_ columns: [AppendTableSchemaVersion.Column]?) {
        guard let columns, table.read({ $0.columns != columns }) else { return }
        table.with { $0.columns = columns }
    }
}
