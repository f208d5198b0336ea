// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import MartletCore

extension DataChunk {
    /// Appends some of the rows as JSON arrays with commas between them; a comma comes first where `buffer` does not end in `[`.
    ///
    /// Integers up to 64 bits, finite doubles, booleans and NULL are JSON values; lists, structures, maps and JSON columns stand as
    /// they are; everything else is a string.
    /// - Throws: ``DuckDBError`` `unsupportedType` naming the column.
    package func appendJSON(_ rows: Range<Int>, to buffer: inout [UInt8]) throws(DuckDBError) {
        defer { withExtendedLifetime(self) {} }
        let readers = columns.indices.map { reader($0) }
        for row in rows {
            if buffer.last != 0x5B { buffer.append(0x2C) }
            buffer.append(0x5B)
            for (index, reader) in readers.enumerated() {
                if index > 0 { buffer.append(0x2C) }
                do {
                    try reader.appendRowJSON(row, to: &buffer)
                } catch {
                    throw unreadable(column: index, error)
                }
            }
            buffer.append(0x5D)
        }
    }

    /// About how many bytes the rows take, for bounds on memory: strings are counted, nested values are guessed.
    package var byteCount: Int {
        defer { withExtendedLifetime(self) {} }
        return columns.indices.reduce(0) { $0 + reader($1).byteCount(rowCount) }
    }
}

extension VectorReader {
    fileprivate func appendRowJSON(_ row: Int, to buffer: inout [UInt8]) throws(UnreadableType) {
        guard !isNull(row) else { return JSONWriter.appendNull(to: &buffer) }
        switch type {
        case .boolean: JSONWriter.append(load(row, as: UInt8.self) != 0, to: &buffer)
        case .bigint: JSONWriter.append(load(row, as: Int64.self), to: &buffer)
        case .integer: JSONWriter.append(Int64(load(row, as: Int32.self)), to: &buffer)
        case .double: append(load(row, as: Double.self), to: &buffer)
        case .varchar: withBytes(row) { JSONWriter.append(utf8: $0, to: &buffer) }
        case .list, .array, .structure, .map: try appendJSON(row, to: &buffer)
        case .json:
            withBytes(row) { text in
                // The type promises JSON; one value that breaks the promise must not break the answer.
                if Self.isJSON(text) {
                    buffer.append(contentsOf: text)
                } else {
                    JSONWriter.append(utf8: text, to: &buffer)
                }
            }
        default:
            switch try value(row) {
            case .int(let value): JSONWriter.append(value, to: &buffer)
            case .double(let value): append(value, to: &buffer)
            case let value: JSONWriter.append(value.text, to: &buffer)
            }
        }
    }

    private func append(_ value: Double, to buffer: inout [UInt8]) {
        if value.isFinite {
            JSONWriter.append(value, to: &buffer)
        } else {
            JSONWriter.append(DuckDBValue.double(value).text, to: &buffer)
        }
    }

    private static func isJSON(_ text: UnsafeRawBufferPointer) -> Bool {
        do {
            return try JSONCursor.withBytes(Array(text)) { cursor in
                _ = try cursor.skipValue()
                try cursor.finish()
                return true
            }
        } catch {
            return false
        }
    }

    fileprivate func byteCount(_ rows: Int) -> Int {
        switch type {
        case .varchar, .json, .blob:
            var count = 16 * rows
            for row in 0..<rows where !isNull(row) { withBytes(row) { count += $0.count } }
            return count
        case .list(let child), .array(let child, _):
            let entries = childEntries(rows)
            let vector = childVector
            return 16 * rows + (vector.map { VectorReader(api: api, vector: $0, type: child).byteCount(entries) } ?? 0)
        case .map(let key, let value):
            let entry = LogicalType.structure([.init(name: "key", type: key), .init(name: "value", type: value)])
            let entries = childEntries(rows)
            return 16 * rows
                + (childVector.map { VectorReader(api: api, vector: $0, type: entry).byteCount(entries) } ?? 0)
        case .structure(let fields):
            return fields.enumerated().reduce(0) { sum, field in
                let child = api.pointee.struct_vector_get_child(vector, idx_t(field.offset))
                return sum + VectorReader(api: api, vector: child, type: field.element.type).byteCount(rows)
            }
        default: return 8 * rows
        }
    }

    private var childVector: duckdb_vector? {
        if case .array = type { return api.pointee.array_vector_get_child(vector) }
        return api.pointee.list_vector_get_child(vector)
    }

    /// How many entries of the child vector the rows reach to.
    private func childEntries(_ rows: Int) -> Int {
        if case .array(_, let size) = type { return rows * size }
        var end = 0
        for row in 0..<rows where !isNull(row) {
            let entry = load(row, as: duckdb_list_entry.self)
            end = max(end, Int(entry.offset + entry.length))
        }
        return end
    }
}
