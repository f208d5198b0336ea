// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import MartletCore

/// Puts fetched records into a table's fresh rows.
struct RecordIntake: Sendable {
    /// More threads than one only help where there are several partitions and processors to spare.
    private static let threads = 2
    /// From so many bytes on a round stays in its batches.
    ///
    /// What is less is put into a table of DuckDB's, so that a trickle does not become thousands of batches of a few rows.
    private static let largeRoundBytes = 128 << 10

    /// From so many columns on a table of DuckDB's gets no more rows than one of its blocks of 2,048 has: beyond them it takes 256 KiB for
    /// each column at once.
    private static let manyColumns = 64
    private static let blockRows = 2048
    /// What a batch takes however few its records are.
    private static let batchMin = 64 << 10
    /// What a sink begins a batch with where there is no more.
    private static let batchLeast = 1 << 20

    typealias Columns = [AppendTableSchemaVersion.Column]
    /// Records that were read, and up to where in each partition.
    private struct Filled: Sendable {
        let metered: MeteredBatch
        let columns: Columns
        let share: [Fetched]
        let taken: [Int32: Int64]
        /// Bytes of the log that it took.
        let bytes: Int

        var batch: RowBatch { metered.batch }
    }

    let table: AppendTable
    let space: FreshSpace
    let pool: BatchPool
    let account: SinkMemory.Account

    /// Takes records as far as there is memory, and notes in `progress` how far each partition was taken, also where it throws.
    ///
    /// What was fetched may have been taken in part already.
    func take(_ fetched: [Fetched], _ progress: inout SinkProgress) async throws {
        _ = try await space.database()
        account.note(columns: columns(progress).count)
        let isLarge = fetched.reduce(0) { $0 + $1.bytes.count } >= Self.largeRoundBytes
        let columns = columns(progress)
        var begun: Begun?
        if !isLarge, !hasOpenRows(columns, progress) {
            // Without memory for the rows nothing is read.
            guard let charge = begin(columns) else { return }
            begun = charge
        }
        let (filled, failure) = await read(shares(of: fetched), columns, progress.taken, begun?.batch)
        var rows = begun?.rows
        let plain = filled.filter { $0.columns == columns }
        if isLarge {
            keep(plain, columns, &progress)
        } else if !plain.isEmpty {
            try await write(plain, columns, rows, &progress)
            rows = nil
        }
        // Columns are changed by one share after the other, so that each sees what the others brought.
        let changing = filled.filter { $0.columns != columns }
        for item in changing.sorted(by: { $0.share[0].partition < $1.share[0].partition }) {
            let before = self.columns(progress)
            var item: Filled? = item
            if before != columns, let share = item?.share {
                item = nil
                item = try await read(share, before, progress.taken, nil)
            }
            guard let item else { continue }
            if isLarge {
                keep([item], item.columns, &progress)
            } else {
                try await write([item], item.columns, rows, &progress)
                rows = nil
            }
        }
        if let failure { throw failure }
    }

    /// Memory for rows that are begun, and for the first batch that goes into them.
    private struct Begun {
        let rows: SinkMemory.Charge
        let batch: SinkMemory.Charge
    }

    private func begin(_ columns: Columns) -> Begun? {
        let rows = FreshRows.beginBytes(columns.count)
        let bytes = rows + Self.batchMin
        guard let charge = account.memory.reserve(bytes, least: bytes, for: account) else { return nil }
        return Begun(rows: charge.split(rows), batch: charge)
    }

    /// Whether the next small round goes into rows that there are.
    private func hasOpenRows(_ columns: Columns, _ progress: borrowing SinkProgress) -> Bool {
        guard let last = progress.current.last, last.batch == nil else { return false }
        return columns.count < Self.manyColumns || Int(last.rowCount) < Self.blockRows
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

    private func read(
        _ shares: [[Fetched]],
        _ columns: Columns,
        _ taken: [Int32: Int64],
        _ first: SinkMemory.Charge?
    ) async -> ([Filled], (any Error)?) {
        await withTaskGroup(of: Result<Filled?, any Error>.self) { group in
            for (index, share) in shares.enumerated() {
                group.addTask {
                    do {
                        return .success(try await read(share, columns, taken, index == 0 ? first : nil))
                    } catch {
                        return .failure(error)
                    }
                }
            }
            var filled: [Filled] = []
            var failure: (any Error)?
            for await result in group {
                switch result {
                case .success(let item): if let item { filled.append(item) }
                case .failure(let error): failure = error
                }
            }
            return (filled, failure)
        }
    }

    /// Reads records that were not taken yet into a batch; nil where there are none, or no memory.
    ///
    /// `charge` is memory for a batch that is reserved already.
    private func read(
        _ share: [Fetched],
        _ columns: Columns,
        _ before: [Int32: Int64],
        _ charge: SinkMemory.Charge?
    ) async throws -> Filled? {
        let left = share.filter { $0.next > before[$0.partition] ?? 0 }
        guard !left.isEmpty else { return nil }
        return try await space.threads.run {
            guard let metered = try batch(for: left, columns, charge) else { return nil }
            var taken: [Int32: Int64] = [:]
            var bytes = 0
            for item in left {
                let from = max(item.from, before[item.partition] ?? item.from)
                // The log compares the checksums of what it reads.
                let stop = try metered.batch.append(
                    item.bytes,
                    from: from,
                    partition: item.partition,
                    verifiesChecksums: false,
                    memoryMax: metered.charge.bytes,
                    decompression: item.decompression
                )
                taken[item.partition] = stop ?? item.next
                guard let stop else {
                    bytes += item.bytes.count
                    continue
                }
                bytes += item.bytes.count * Int(stop - from) / Int(max(1, item.next - item.from))
                break
            }
            // Until its rows are written others see what it really has.
            metered.charge.set(metered.batch.memoryBytes)
            let columns = metered.batch.columns
            return Filled(metered: metered, columns: columns, share: left, taken: taken, bytes: bytes)
        }
    }

    /// A batch with an account for what these records will need, or for the most a batch may.
    private func batch(
        for share: [Fetched],
        _ columns: Columns,
        _ reserved: SinkMemory.Charge?
    ) throws -> MeteredBatch? {
        let settings = table.batchSettings
        let bytes = share.reduce(0) { $0 + $1.bytes.count }
        let wanted = min(account.memory.batchMax, bytes * 3 + Self.batchMin)
        if let kept = pool.take(columns: columns, settings: settings) {
            // Without more memory it takes as much as it took before.
            if !kept.charge.grow(to: wanted), kept.charge.bytes < wanted / 2 { pool.empty() }
            return kept
        }
        if let reserved {
            // Where there is no more it takes as much as that allows.
            _ = reserved.grow(to: wanted)
            return MeteredBatch(try RowBatch(columns: columns, settings: settings), reserved)
        }
        let charge = account.memory.reserve(wanted, least: Self.batchLeast, for: account)
        guard let charge else { return nil }
        return MeteredBatch(try RowBatch(columns: columns, settings: settings), charge)
    }

    private static func note(_ work: [Filled], _ progress: inout SinkProgress) {
        for item in work {
            for (partition, next) in item.taken {
                progress.taken[partition] = max(progress.taken[partition] ?? 0, next)
            }
        }
    }

    // MARK: Large rounds

    /// Makes batches fresh rows as they are.
    private func keep(_ work: [Filled], _ columns: Columns, _ progress: inout SinkProgress) {
        guard !work.isEmpty else { return }
        let rows = work.map { item in
            FreshRows(SealedBatch(item.metered, pool: pool), columns: columns, bytes: item.bytes, space: space)
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
    private func write(
        _ work: [Filled],
        _ columns: Columns,
        _ charge: SinkMemory.Charge?,
        _ progress: inout SinkProgress
    ) async throws {
        let isWider = work.contains { $0.batch.hasWidenedColumns }
        let count = work.reduce(0) { $0 + $1.batch.rowCount }
        let rows = try await openRows(for: columns, isWider: isWider, adding: count, charge, &progress)
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
            for item in work {
                rows.added(
                    rows: item.batch.rowCount,
                    rejects: item.batch.rejectCount,
                    bytes: item.bytes,
                    memory: item.batch.byteCount
                )
                pool.put(item.metered)
            }
        }
        Self.note(work, &progress)
        if table.read({ $0.columns != columns }) { table.with { $0.columns = columns } }
    }

    /// The rows to fill; new ones where there are none that can get these columns.
    private func openRows(
        for columns: Columns,
        isWider: Bool,
        adding count: Int,
        _ charge: SinkMemory.Charge?,
        _ progress: inout SinkProgress
    ) async throws -> FreshRows {
        if let last = progress.current.last, last.batch == nil, !isWider,
            columns.count < Self.manyColumns || Int(last.rowCount) + count <= Self.blockRows
        {
            return last
        }
        let rows = FreshRows(columns: columns, space: space, charge: charge ?? account.memory.charge(account))
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
