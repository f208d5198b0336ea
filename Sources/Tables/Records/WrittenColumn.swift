// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import MartletCore

/// Where the values of a column are that is written to DuckDB.
enum WrittenColumn {
    case memory(ColumnMemory)
    /// Lists of the records' headers, empty where a record has none.
    case headers
    /// The same text in every row.
    case text(StringEntry)
    /// The same time in every row, in microseconds since 1970.
    case micros(Int64)

    /// Fills a vector with some of the rows, at most 2,048.
    func write(_ rows: Range<Int>, of system: SystemMemory, to vector: RowVector) throws(DuckDBError) {
        switch self {
        case .memory(let memory): Self.put(memory, rows, to: vector)
        case .headers: try Self.putHeaders(system, rows, to: vector)
        case .text(let entry): vector.fill(entry, count: rows.count)
        case .micros(let micros): vector.fill(micros, count: rows.count)
        }
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

    private static func putHeaders(
        _ system: SystemMemory,
        _ rows: Range<Int>,
        to vector: RowVector
    ) throws(DuckDBError) {
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
        put(system.headerNames, elements, to: vector.listElements.field(0))
        put(system.headerValues, elements, to: vector.listElements.field(1))
    }
}

extension RowFiller {
    /// The columns from the records' values, in the table's order.
    func valueColumns() -> [WrittenColumn] {
        var places = [Int](repeating: 0, count: columns.count)
        for index in 0..<stateCount where states[index].place >= 0 { places[states[index].place] = index }
        return places.map { .memory(states[$0].memory) }
    }

    /// Where a keyed table's rows come from, as ``SystemColumns/keyed`` has it.
    func originColumns() -> [WrittenColumn] {
        [rows.partition, rows.offset, rows.timestamp, rows.id, rows.type, rows.source, rows.subject, rows.traceID].map {
            .memory($0)
        }
    }

    /// All columns of the rows, as ``SystemColumns/all(format:columns:)`` has them.
    func rowColumns() -> [WrittenColumn] {
        let position = [rows.partition, rows.offset, rows.timestamp].map { WrittenColumn.memory($0) }
        let attributes = [rows.id, rows.type, rows.source, rows.subject, rows.traceID].map { WrittenColumn.memory($0) }
        if settings.format == .raw {
            return position + attributes + [.memory(rows.key), .memory(rows.value), .headers]
        }
        return position + [.memory(rows.key), .headers] + attributes + valueColumns()
    }

    /// All columns of the rejects, as ``SystemColumns/rejects`` has them.
    mutating func rejectColumns(rejectedAt: Int64) -> [WrittenColumn] {
        let position = [rejects.partition, rejects.offset, rejects.timestamp].map { WrittenColumn.memory($0) }
        let payload: [WrittenColumn] = [.memory(rejects.key), .memory(rejects.value), .headers]
        return [.text(arena.text(settings.topic))] + position + payload
            + [.memory(rejects.reason), .micros(rejectedAt)]
    }
}
