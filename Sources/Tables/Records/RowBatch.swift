// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
package import DuckDB
internal import Glibc
package import KafkaCodec
internal import MartletCore
internal import Synchronization

// SAFETY: the state is reached only through `exclusively`, which traps when two threads meet there; handing over is ordered
// by the acquiring and releasing exchange of `isBusy`.
/// Records of a topic as columns in memory, ready to be written to an append table.
///
/// Filling is deterministic: the same records onto the same columns give the same rows, rejects and columns. Use it on one
/// thread at a time; it may be handed from thread to thread, and a call while another runs is a programming error.
package final class RowBatch: @unchecked Sendable {
    private var filler: RowFiller
    private let isBusy = Atomic<Bool>(false)

    /// Makes an empty batch that begins with `columns`, which are a json table's own columns and empty for a raw table.
    /// - Throws: `RowBatchError` where a column's type is none that tables have.
    package init(columns: [AppendTableSchemaVersion.Column], settings: RowBatchSettings) throws(RowBatchError) {
        filler = try RowFiller(columns: settings.format == .raw ? [] : columns, settings: settings)
    }

    deinit { filler.free() }

    private func exclusively<R, E: Error>(_ body: (inout RowFiller) throws(E) -> R) throws(E) -> R {
        precondition(!isBusy.exchange(true, ordering: .acquiring), "RowBatch: used by two threads at once")
        defer { isBusy.store(false, ordering: .releasing) }
        return try body(&filler)
    }

    // MARK: Filling

    /// Adds every record at or after `from` as one row or one reject.
    ///
    /// `bytes` are whole batches as the log returns them; a last one that is cut off is left out. A batch that cannot be
    /// decompressed, or the rest of one behind a damaged record, becomes one reject without a value.
    /// A compressed batch that was taken in part stays in `decompression`, so that the call that goes on finds it there.
    /// - Returns: The offset to go on from where the batch came to hold `memoryMax` bytes of memory, which it goes beyond by no more than a few
    ///   hundred records; nil where everything was taken.
    /// - Throws: where the bytes are no batches any more; what stood before is taken, ``nextOffset`` says how far.
    @discardableResult
    package func append(
        _ bytes: [UInt8],
        from: Int64 = 0,
        partition: Int32,
        verifiesChecksums: Bool = true,
        memoryMax: Int = .max,
        decompression: Decompression? = nil
    ) throws(RecordBatchError) -> Int64? {
        try exclusively { (filler) throws(RecordBatchError) in
            filler.partition = partition
            filler.untilLook = 0
            var walk = RecordBatches(bytes, verifiesChecksums: verifiesChecksums)
            while true {
                do throws(RecordBatchError) {
                    guard let batch = try walk.nextBatch() else { return nil }
                    if let stop = Self.add(batch, bytes, from, memoryMax, decompression, &filler) {
                        filler.nextOffset = max(filler.nextOffset ?? .min, stop)
                        return stop
                    }
                    filler.nextOffset = max(filler.nextOffset ?? .min, batch.header.nextOffset)
                } catch {
                    guard let base = error.baseOffset, let next = error.nextOffset else { throw error }
                    if next > from { filler.rejectBatch(nil, from: max(base, from), next: next, error.message) }
                    filler.nextOffset = max(filler.nextOffset ?? .min, next)
                }
            }
        }
    }

    private static func add(
        _ batch: RecordBatch,
        _ bytes: [UInt8],
        _ from: Int64,
        _ memoryMax: Int,
        _ decompression: Decompression?,
        _ filler: inout RowFiller
    ) -> Int64? {
        let header = batch.header
        guard !header.isControl, header.nextOffset > from else { return nil }
        guard header.codec == CompressionCodec.none else {
            do throws(RecordBatchError) {
                return try (decompression ?? Decompression()).withPlain(batch, in: bytes) { plain in
                    filler.addBatch(plain.start, plain.header, from: from, memoryMax: memoryMax)
                }
            } catch {
                filler.rejectBatch(header, from: max(header.baseOffset, from), error.message)
                return nil
            }
        }
        return bytes.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return nil }
            let start = base + batch.range.lowerBound
            if buffer.count - batch.range.upperBound >= padding {
                return filler.addBatch(start, header, from: from, memoryMax: memoryMax)
            }
            // The scan reads a little behind what it scans.
            let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: batch.range.count + padding)
            memcpy(copy, start, batch.range.count)
            memset(copy + batch.range.count, 0, padding)
            defer { copy.deallocate() }
            return filler.addBatch(copy, header, from: from, memoryMax: memoryMax)
        }
    }

    private static let padding = 32

    /// Forgets rows and rejects but keeps the columns as they are now, and most of the memory.
    package func removeAll() {
        exclusively { filler in
            for index in 0..<filler.stateCount { filler.states[index].memory.erase(first: filler.rows.count + 1) }
            filler.rows.erase()
            filler.rejects.erase()
            filler.arena.reset()
            filler.nextOffset = nil
            filler.maxTimestamp = nil
            filler.addedCount = 0
            filler.hasWidened = false
        }
    }

    // MARK: What is in it

    /// How many rows there are.
    package var rowCount: Int { exclusively { $0.rows.count } }
    /// How many rejects there are.
    package var rejectCount: Int { exclusively { $0.rejects.count } }
    /// Bytes of the values, rejects included.
    package var byteCount: Int {
        exclusively { filler in
            var sum = filler.arena.byteCount + filler.rows.byteCount + filler.rejects.byteCount
            for index in 0..<filler.stateCount {
                let memory = filler.states[index].memory
                sum += min(memory.capacity, filler.rows.count) * memory.stride
            }
            return sum
        }
    }
    /// Bytes of memory it holds, filled or not.
    package var memoryBytes: Int { exclusively { $0.memoryBytes } }
    /// Whether a batch of these columns and settings would begin as this one does once it is emptied.
    func continues(_ columns: [AppendTableSchemaVersion.Column], _ settings: RowBatchSettings) -> Bool {
        exclusively { $0.settings == settings && $0.columns == columns }
    }
    /// The table's own columns as they have to be for these rows; new ones stand at the end.
    package var columns: [AppendTableSchemaVersion.Column] { exclusively { $0.columns } }
    /// How many columns at the end of ``columns`` are new: `ALTER TABLE … ADD COLUMN` is enough for them.
    package var addedColumnCount: Int { exclusively { $0.addedCount } }
    /// Whether a column that was there got a wider type.
    package var hasWidenedColumns: Bool { exclusively { $0.hasWidened } }
    /// The offset after the last batch taken, or nil before the first.
    package var nextOffset: Int64? { exclusively { $0.nextOffset } }
    /// The newest timestamp of a record taken, in milliseconds since 1970.
    package var maxTimestamp: Int64? { exclusively { $0.maxTimestamp } }

    // MARK: Writing

    /// Writes the rows to a table that has the columns of ``SystemColumns/all(format:columns:)``.
    package func write(to appender: VectorAppender) throws(DuckDBError) {
        try exclusively { (filler) throws(DuckDBError) in
            try Self.write(filler.rows, filler.rowColumns(), to: appender)
        }
    }

    /// Writes the rows of a keyed table to one with a BOOLEAN that is true where a row deletes its key, then ``SystemColumns/keyed``
    /// where the settings keep the origin, then ``columns``.
    package func writeKeyed(to appender: VectorAppender) throws(DuckDBError) {
        try exclusively { (filler) throws(DuckDBError) in
            let origin = filler.settings.keepsOrigin ? filler.originColumns() : []
            try Self.write(filler.rows, [.memory(filler.rows.deletes)] + origin + filler.valueColumns(), to: appender)
        }
    }

    /// Writes the rejects to a table that has the columns of ``SystemColumns/rejects``.
    ///
    /// `rejectedAt` is in microseconds since 1970.
    package func writeRejects(to appender: VectorAppender, rejectedAt: Int64) throws(DuckDBError) {
        try exclusively { (filler) throws(DuckDBError) in
            try Self.write(filler.rejects, filler.rejectColumns(rejectedAt: rejectedAt), to: appender)
        }
    }

    private static func write(
        _ system: SystemMemory,
        _ columns: [WrittenColumn],
        to appender: VectorAppender
    ) throws(DuckDBError) {
        precondition(appender.columnCount == columns.count, "RowBatch: the table has other columns than the rows")
        try appender.append(rowCount: system.count) { (vectors, rows) throws(DuckDBError) in
            for (index, column) in columns.enumerated() {
                try column.write(rows, of: system, to: vectors[index])
            }
        }
    }

    // MARK: Sealing

    /// Ends filling until ``unseal()``: what is in the batch stays as it is, and is read by many at once.
    func seal(rejectedAt: Int64) -> (rows: SealedPart, rejects: SealedPart) {
        precondition(!isBusy.exchange(true, ordering: .acquiring), "RowBatch: sealed while it is used")
        let settings = filler.settings
        return (
            SealedPart(
                SystemColumns.all(format: settings.format, columns: filler.columns),
                filler.rowColumns(),
                filler.rows
            ), SealedPart(SystemColumns.rejects, filler.rejectColumns(rejectedAt: rejectedAt), filler.rejects)
        )
    }

    /// Allows filling again; nobody may read what was sealed any more.
    func unseal() { isBusy.store(false, ordering: .releasing) }
}
