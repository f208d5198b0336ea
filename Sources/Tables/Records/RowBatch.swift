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
    /// `bytes` are whole batches as the log returns them; a last one that is cut off is left out. A batch that
    /// cannot be decompressed, or the rest of one behind a damaged record, becomes one reject without a value.
    /// - Throws: where the bytes are no batches any more; what stood before is taken, ``nextOffset`` says how far.
    package func append(
        _ bytes: [UInt8],
        from: Int64 = 0,
        partition: Int32,
        verifiesChecksums: Bool = true
    ) throws(RecordBatchError) {
        try exclusively { (filler) throws(RecordBatchError) in
            filler.partition = partition
            var walk = RecordBatches(bytes, verifiesChecksums: verifiesChecksums)
            while true {
                do throws(RecordBatchError) {
                    guard let batch = try walk.nextBatch() else { return }
                    Self.add(batch, bytes, from, &filler)
                    filler.nextOffset = max(filler.nextOffset ?? .min, batch.header.nextOffset)
                } catch {
                    guard let base = error.baseOffset, let next = error.nextOffset else { throw error }
                    if next > from { filler.rejectBatch(nil, from: max(base, from), next: next, error.message) }
                    filler.nextOffset = max(filler.nextOffset ?? .min, next)
                }
            }
        }
    }

    private static func add(_ batch: RecordBatch, _ bytes: [UInt8], _ from: Int64, _ filler: inout RowFiller) {
        let header = batch.header
        guard !header.isControl, header.nextOffset > from else { return }
        guard header.codec == CompressionCodec.none else {
            do throws(RecordBatchError) {
                try batch.withDecompressed(in: bytes) { filler.addBatch($0, $1, from: from) }
            } catch {
                filler.rejectBatch(header, from: max(header.baseOffset, from), error.message)
            }
            return
        }
        bytes.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return }
            let start = base + batch.range.lowerBound
            if buffer.count - batch.range.upperBound >= padding {
                filler.addBatch(start, header, from: from)
                return
            }
            // The scan reads a little behind what it scans.
            let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: batch.range.count + padding)
            memcpy(copy, start, batch.range.count)
            memset(copy + batch.range.count, 0, padding)
            filler.addBatch(copy, header, from: from)
            copy.deallocate()
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
            let places = Self.places(filler)
            let system = filler.rows
            let states = UnsafePointer(filler.states)
            let isRaw = filler.settings.format == .raw
            precondition(
                appender.columnCount == SystemColumns.json.count + places.count
                    || isRaw && appender.columnCount == SystemColumns.raw.count,
                "RowBatch: the table has other columns than the rows"
            )
            try appender.append(rowCount: system.count) { (vectors, rows) throws(DuckDBError) in
                var writer = ChunkWriter(vectors, rows)
                writer.position(system)
                if !isRaw {
                    writer.put(system.key)
                    try writer.putHeaders(system)
                }
                for column in [system.id, system.type, system.source, system.subject, system.traceID] {
                    writer.put(column)
                }
                if isRaw {
                    writer.put(system.key)
                    writer.put(system.value)
                    try writer.putHeaders(system)
                }
                for place in places { writer.put(states[place].memory) }
            }
        }
    }

    /// Writes the rows of a keyed table to one with a BOOLEAN that is true where a row deletes its key, then ``columns``.
    package func writeKeyed(to appender: VectorAppender) throws(DuckDBError) {
        try exclusively { (filler) throws(DuckDBError) in
            let places = Self.places(filler)
            precondition(
                appender.columnCount == 1 + places.count,
                "RowBatch: the table has other columns than the rows"
            )
            let system = filler.rows
            let states = UnsafePointer(filler.states)
            try appender.append(rowCount: system.count) { (vectors, rows) throws(DuckDBError) in
                var writer = ChunkWriter(vectors, rows)
                writer.put(system.deletes)
                for place in places { writer.put(states[place].memory) }
            }
        }
    }

    /// Where each of the columns stands among the filler's states.
    private static func places(_ filler: borrowing RowFiller) -> [Int] {
        var places = [Int](repeating: 0, count: filler.columns.count)
        for index in 0..<filler.stateCount where filler.states[index].place >= 0 {
            places[filler.states[index].place] = index
        }
        return places
    }

    /// Writes the rejects to a table that has the columns of ``SystemColumns/rejects``.
    ///
    /// `rejectedAt` is in microseconds since 1970.
    package func writeRejects(to appender: VectorAppender, rejectedAt: Int64) throws(DuckDBError) {
        try exclusively { (filler) throws(DuckDBError) in
            precondition(
                appender.columnCount == SystemColumns.rejects.count,
                "RowBatch: the table has other columns than rejects"
            )
            let topic = filler.arena.text(filler.settings.topic)
            let system = filler.rejects
            try appender.append(rowCount: system.count) { (vectors, rows) throws(DuckDBError) in
                var writer = ChunkWriter(vectors, rows)
                writer.fill(topic)
                writer.position(system)
                writer.put(system.key)
                writer.put(system.value)
                try writer.putHeaders(system)
                writer.put(system.reason)
                writer.fill(rejectedAt)
            }
        }
    }
}

/// Fills one chunk, column by column.
private struct ChunkWriter {
    private let vectors: RowVectors
    private let rows: Range<Int>
    private var column = 0

    init(_ vectors: RowVectors, _ rows: Range<Int>) {
        self.vectors = vectors
        self.rows = rows
    }

    private mutating func next() -> RowVector {
        defer { column += 1 }
        return vectors[column]
    }

    mutating func position(_ system: SystemMemory) {
        put(system.partition)
        put(system.offset)
        put(system.timestamp)
    }

    mutating func fill<Value: BitwiseCopyable>(_ value: Value) {
        next().fill(value, count: rows.count)
    }

    mutating func put(_ memory: ColumnMemory) {
        Self.put(memory, rows, to: next())
    }

    private static func put(_ memory: ColumnMemory, _ rows: Range<Int>, to vector: RowVector) {
        let present = max(0, min(memory.capacity, rows.upperBound) - rows.lowerBound)
        vector.copy(
            from: memory.data + (present > 0 ? rows.lowerBound * memory.stride : 0),
            byteCount: present * memory.stride
        )
        vector.clear(from: present * memory.stride, byteCount: (rows.count - present) * memory.stride)
        setValidity(memory, rows, present, vector)
    }

    private static func setValidity(_ memory: ColumnMemory, _ rows: Range<Int>, _ present: Int, _ vector: RowVector) {
        // Chunks begin at multiples of 2,048, so that whole words can be copied; header columns are shifted where needed.
        let shift = UInt64(rows.lowerBound & 63)
        if present == 0 {
            vector.setValidity(nil, wordCount: 0, rowCount: rows.count)
        } else if shift == 0 {
            vector.setValidity(
                memory.validity + (rows.lowerBound >> 6),
                wordCount: (present + 63) >> 6,
                rowCount: rows.count
            )
        } else {
            var words = [UInt64](repeating: 0, count: (rows.count + 63) >> 6)
            for index in 0..<present where memory.isValid(rows.lowerBound + index) {
                words[index >> 6] |= 1 << UInt64(index & 63)
            }
            vector.setValidity(words, wordCount: words.count, rowCount: rows.count)
        }
    }

    /// Writes lists of the headers, empty ones where a record has none.
    mutating func putHeaders(_ system: SystemMemory) throws(DuckDBError) {
        let vector = next()
        let present = max(0, min(system.headers.capacity, rows.upperBound) - rows.lowerBound)
        let entries = system.headers.data.assumingMemoryBound(to: (offset: UInt64, length: UInt64).self)
        var elements = 0..<0
        for row in rows.lowerBound..<rows.lowerBound + present where entries[row].length > 0 {
            let start = Int(entries[row].offset)
            elements = (elements.isEmpty ? start : elements.lowerBound)..<start + Int(entries[row].length)
        }
        let first = rows.lowerBound
        let count = rows.count
        let base = UInt64(elements.lowerBound)
        vector.withData { data in
            let place = data.assumingMemoryBound(to: (offset: UInt64, length: UInt64).self)
            for index in 0..<count {
                let entry = index < present ? entries[first + index] : (offset: 0, length: 0)
                place[index] = entry.length == 0 ? (0, 0) : (entry.offset - base, entry.length)
            }
        }
        try vector.resizeList(elements.count)
        if elements.isEmpty { return }
        Self.put(system.headerNames, elements, to: vector.listElements.field(0))
        Self.put(system.headerValues, elements, to: vector.listElements.field(1))
    }
}
