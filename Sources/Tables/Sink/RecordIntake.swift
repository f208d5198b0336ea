// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore

/// Puts fetched records into a table's fresh rows.
struct RecordIntake: Sendable {
    /// More threads than one only help where there are several partitions and processors to spare.
    private static let threads = 2
    /// From so many bytes on a round stays in its batches. What is less is put into a table of DuckDB's, so that a trickle does not become
    /// thousands of batches of a few rows.
    private static let largeRoundBytes = 512 << 10

    typealias Columns = [AppendTableSchemaVersion.Column]
    private typealias Filled = (batch: RowBatch, share: [Fetched])

    let table: AppendTable
    let space: FreshSpace
    let pool: BatchPool

    /// Takes records, and notes in `progress` how far each partition was taken, also where it throws.
    func take(_ fetched: [Fetched], _ progress: inout SinkProgress) async throws {
        _ = try await space.database()
        let isLarge = fetched.reduce(0) { $0 + $1.bytes.count } >= Self.largeRoundBytes
        let columns = columns(progress)
        let (filled, failure) = await read(shares(of: fetched), columns)
        let plain = filled.filter { $0.batch.columns == columns }
        let changing = filled.filter { $0.batch.columns != columns }
        if isLarge {
            keep(plain, columns, &progress)
        } else if !plain.isEmpty {
            try await write(plain, columns, &progress)
        }
        // Columns are changed by one share after the other, so that each sees what the others brought.
        for item in changing.sorted(by: { $0.share[0].partition < $1.share[0].partition }) {
            let before = self.columns(progress)
            let batch = before == columns ? item.batch : try await read(item.share, before)
            let after = batch.columns
            if isLarge {
                keep([(batch, item.share)], after, &progress)
            } else {
                try await write([(batch, item.share)], after, &progress)
            }
        }
        if let failure { throw failure }
    }

    /// The columns that the next record is read with.
    private func columns(_ progress: borrowing SinkProgress) -> Columns {
        progress.current.last?.columns ?? table.read { $0.columns }
    }

    /// Fetched records by the thread that reads them; those of a partition stay together.
    private func shares(of fetched: [Fetched]) -> [[Fetched]] {
        var shares: [[Fetched]] = []
        for (_, items) in Dictionary(grouping: fetched, by: \.partition).sorted(by: { $0.key < $1.key }) {
            if shares.count < Self.threads {
                shares.append(items)
            } else {
                shares[Int(items[0].partition) % Self.threads] += items
            }
        }
        return shares
    }

    // MARK: Reading

    private func read(_ shares: [[Fetched]], _ columns: Columns) async -> ([Filled], (any Error)?) {
        await withTaskGroup(of: (Int, Result<RowBatch, any Error>).self) { group in
            for (index, share) in shares.enumerated() {
                group.addTask {
                    do {
                        return (index, .success(try await read(share, columns)))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            var filled: [Filled] = []
            var failure: (any Error)?
            for await (index, result) in group {
                switch result {
                case .success(let batch): filled.append((batch, shares[index]))
                case .failure(let error): failure = error
                }
            }
            return (filled, failure)
        }
    }

    /// Reads records into a batch.
    private func read(_ share: [Fetched], _ columns: Columns) async throws -> RowBatch {
        try await space.threads.run {
            let batch = try pool.take(columns: columns, settings: table.batchSettings)
            for item in share {
                // The log compares the checksums of what it reads.
                try batch.append(item.bytes, from: item.from, partition: item.partition, verifiesChecksums: false)
            }
            return batch
        }
    }

    private static func note(_ work: [Filled], _ progress: inout SinkProgress) {
        for item in work.flatMap(\.share) {
            progress.taken[item.partition] = max(progress.taken[item.partition] ?? 0, item.next)
        }
    }

    // MARK: Large rounds

    /// Makes batches fresh rows as they are.
    private func keep(_ work: [Filled], _ columns: Columns, _ progress: inout SinkProgress) {
        guard !work.isEmpty else { return }
        let rows = work.map { batch, share in
            FreshRows(
                SealedBatch(batch, pool: pool),
                columns: columns,
                bytes: share.reduce(0) { $0 + $1.bytes.count },
                space: space
            )
        }
        progress.current += rows
        table.with { state in
            state.fresh += rows
            state.columns = columns
        }
        Self.note(work, &progress)
    }

    // MARK: Small rounds

    /// Adds the rows of batches that have the same columns to a table of DuckDB's.
    private func write(_ work: [Filled], _ columns: Columns, _ progress: inout SinkProgress) async throws {
        let rows = try await openRows(for: columns, isWider: work.contains { $0.batch.hasWidenedColumns }, &progress)
        try await space.threads.run {
            if rows.columns != columns {
                try addColumns(columns, to: rows)
                rows.set(columns: columns)
            }
            if work.contains(where: { $0.batch.rowCount + $0.batch.rejectCount > 0 }) {
                // One transaction: what DuckDB gets at once it need not copy again.
                try space.withConnection { connection in
                    try connection.transaction { try rows.append(work.map(\.batch), on: connection) }
                }
            }
            for (batch, share) in work {
                rows.added(
                    rows: batch.rowCount,
                    rejects: batch.rejectCount,
                    bytes: share.reduce(0) { $0 + $1.bytes.count }
                )
                pool.put(batch)
            }
        }
        Self.note(work, &progress)
        if table.read({ $0.columns != columns }) { table.with { $0.columns = columns } }
    }

    /// The rows to fill; new ones where there are none that can get these columns.
    private func openRows(
        for columns: Columns,
        isWider: Bool,
        _ progress: inout SinkProgress
    ) async throws -> FreshRows {
        if let last = progress.current.last, last.batch == nil, !isWider { return last }
        let rows = FreshRows(columns: columns, space: space)
        let format = table.layout.format
        try await space.threads.run {
            try space.withConnection { try rows.create(format, on: $0) }
        }
        progress.current.append(rows)
        table.with { $0.fresh.append(rows) }
        return rows
    }

    private func addColumns(_ columns: Columns, to rows: FreshRows) throws {
        let known = Set(rows.columns.map(\.name))
        try space.withConnection { connection in
            for column in columns where !known.contains(column.name) {
                try connection.execute(
                    "ALTER TABLE \(rows.rowsTable) ADD COLUMN IF NOT EXISTS \(SQLText.identifier(column.name)) \(column.type)"
                )
            }
        }
    }
}
