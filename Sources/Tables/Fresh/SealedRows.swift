// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import MartletCore

/// The rows or the rejects of a sealed batch: what to read, and how.
struct SealedPart {
    let columns: [LogicalType.Field]
    let written: [WrittenColumn]
    let system: SystemMemory

    init(_ columns: [SystemColumns.Definition], _ written: [WrittenColumn], _ system: SystemMemory) {
        self.columns = columns.map { LogicalType.Field(name: $0.name, type: SystemColumns.logicalType($0.type)) }
        self.written = written
        self.system = system
    }
}

/// A batch that is full: its rows and rejects are what they are until the last who reads them is gone.
final class SealedBatch: Sendable {
    let rowCount: Int
    let rejectCount: Int
    /// Bytes of memory it holds.
    let memoryBytes: Int
    /// Whether a row belongs to a trace.
    let hasTraces: Bool
    let rows: SealedRows
    let rejects: SealedRows

    private let charge: SinkMemory.Charge

    init(_ metered: MeteredBatch, pool: BatchPool) {
        let batch = metered.batch
        let lease = BatchLease(metered, pool: pool)
        (rowCount, rejectCount, memoryBytes) = (batch.rowCount, batch.rejectCount, batch.memoryBytes)
        charge = metered.charge
        charge.set(memoryBytes)
        let parts = batch.seal(rejectedAt: Timestamp.nowMicroseconds())
        hasTraces = parts.rows.system.traceID.capacity > 0
        rows = SealedRows(parts.rows, lease)
        rejects = SealedRows(parts.rejects, lease)
    }

    /// Ends the sink's account: the rows are in a file, and who still reads them here has a memory of its own.
    func settle() { charge.set(0) }
}

/// Gives a batch back once neither its rows nor its rejects are read any more.
private final class BatchLease: Sendable {
    private let metered: MeteredBatch
    private let pool: BatchPool

    init(_ metered: MeteredBatch, pool: BatchPool) {
        self.metered = metered
        self.pool = pool
    }

    deinit {
        metered.batch.unseal()
        pool.put(metered)
    }
}

// SAFETY: everything is read only: the lease keeps the memory, which nobody writes before the lease is gone.
/// What DuckDB reads of a sealed batch.
final class SealedRows: RowSource, @unchecked Sendable {
    private let part: SealedPart
    private let lease: BatchLease

    fileprivate init(_ part: SealedPart, _ lease: BatchLease) {
        self.part = part
        self.lease = lease
    }

    var sourceColumns: [LogicalType.Field] { part.columns }
    var sourceRowCount: Int { part.system.count }

    func fill(_ vector: RowVector, column: Int, rows: Range<Int>) throws(DuckDBError) {
        try part.written[column].write(rows, of: part.system, to: vector)
    }
}
