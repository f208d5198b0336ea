// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import MartletCore

/// Some rows of a result, at most 2,048, column by column; it outlives its result and its connection.
// SAFETY: nothing is written after init, DuckDB's functions that read flat vectors change nothing, and deinit frees alone.
package final class DataChunk: @unchecked Sendable {
    /// The columns in order.
    package let columns: [ResultColumn]
    /// How many rows there are.
    package let rowCount: Int
    private let database: Database
    private var handle: duckdb_data_chunk?

    private var api: UnsafePointer<martlet_duckdb_api> { database.library.functions }

    init(connection: Connection, columns: [ResultColumn], handle: duckdb_data_chunk) {
        database = connection.database
        self.columns = columns
        self.handle = handle
        rowCount = Int(connection.api.pointee.data_chunk_get_size(handle))
    }

    deinit {
        api.pointee.destroy_data_chunk(&handle)
    }

    /// The values of all columns.
    package func allValues() throws(DuckDBError) -> [[DuckDBValue]] {
        var values: [[DuckDBValue]] = []
        values.reserveCapacity(columns.count)
        for index in columns.indices { values.append(try self.values(column: index)) }
        return values
    }

    /// The values of one column.
    package func values(column: Int) throws(DuckDBError) -> [DuckDBValue] {
        let reader = self.reader(column)
        defer { withExtendedLifetime(self) {} }
        do {
            var values: [DuckDBValue] = []
            values.reserveCapacity(rowCount)
            for row in 0..<rowCount { values.append(try reader.value(row)) }
            return values
        } catch {
            throw unreadable(column: column, error)
        }
    }

    func unreadable(column: Int, _ error: UnreadableType) -> DuckDBError {
        DuckDBError(
            .unsupportedType,
            "Column \(columns[column].name) has \(error.type), which cannot be read; cast it to VARCHAR in the query."
        )
    }

    /// Calls `body` with each row's 64-bit value and whether it is not NULL, for BIGINT and TIMESTAMP columns.
    package func forEachInt64(column: Int, _ body: (_ row: Int, _ value: Int64?) -> Void) {
        let reader = reader(column)
        switch reader.type {
        case .bigint, .timestamp, .timestampTZ, .timestampNanoseconds, .time: break
        default:
            preconditionFailure("DataChunk: column \(columns[column].name) is \(reader.type), not a 64-bit integer")
        }
        withExtendedLifetime(self) {
            for row in 0..<rowCount { body(row, reader.isNull(row) ? nil : reader.load(row, as: Int64.self)) }
        }
    }

    /// Calls `body` with each row's value, for DOUBLE columns.
    package func forEachDouble(column: Int, _ body: (_ row: Int, _ value: Double?) -> Void) {
        let reader = reader(column)
        precondition(reader.type == .double, "DataChunk: column \(columns[column].name) is \(reader.type), not DOUBLE")
        withExtendedLifetime(self) {
            for row in 0..<rowCount { body(row, reader.isNull(row) ? nil : reader.load(row, as: Double.self)) }
        }
    }

    /// Calls `body` with each row's bytes, valid only inside it, for VARCHAR, JSON and BLOB columns.
    package func forEachBytes(column: Int, _ body: (_ row: Int, _ bytes: UnsafeRawBufferPointer?) -> Void) {
        let reader = reader(column)
        switch reader.type {
        case .varchar, .json, .blob: break
        default: preconditionFailure("DataChunk: column \(columns[column].name) is \(reader.type), not a string")
        }
        withExtendedLifetime(self) {
            for row in 0..<rowCount {
                if reader.isNull(row) { body(row, nil) } else { reader.withBytes(row) { body(row, $0) } }
            }
        }
    }

    func reader(_ column: Int) -> VectorReader {
        VectorReader(
            api: api,
            vector: api.pointee.data_chunk_get_vector(handle, idx_t(column)),
            type: columns[column].type
        )
    }
}

/// A type that cannot be read.
struct UnreadableType: Error {
    let type: LogicalType
}

/// Reads one flat vector; valid while its chunk is.
struct VectorReader {
    let api: UnsafePointer<martlet_duckdb_api>
    let vector: duckdb_vector?
    let type: LogicalType
    /// Whether there may be nulls.
    var hasValidity: Bool { validity != nil }
    /// Where the values stand; nil for types that are made of their children.
    var base: UnsafeRawPointer? { data.map { UnsafeRawPointer($0) } }
    private let data: UnsafeMutableRawPointer?
    private let validity: UnsafeMutablePointer<UInt64>?

    init(api: UnsafePointer<martlet_duckdb_api>, vector: duckdb_vector?, type: LogicalType) {
        self.api = api
        self.vector = vector
        self.type = type
        data = api.pointee.vector_get_data(vector)
        validity = api.pointee.vector_get_validity(vector)
    }

    func isNull(_ row: Int) -> Bool {
        guard let validity else { return false }
        return validity[row >> 6] >> UInt64(row & 63) & 1 == 0
    }

    func load<T: BitwiseCopyable>(_ row: Int, as type: T.Type = T.self) -> T {
        guard let data else { preconditionFailure("VectorReader: \(self.type) has no data") }
        return data.load(fromByteOffset: row * MemoryLayout<T>.stride, as: T.self)
    }

    /// Calls `body` with the bytes of a string, which DuckDB keeps inside the 16-byte entry up to 12 bytes.
    func withBytes<R>(_ row: Int, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        guard let data else { preconditionFailure("VectorReader: \(type) has no data") }
        let entry = UnsafeRawPointer(data) + row * 16
        let count = Int(entry.load(as: UInt32.self))
        if count <= 12 { return body(UnsafeRawBufferPointer(start: entry + 4, count: count)) }
        return body(
            UnsafeRawBufferPointer(start: entry.load(fromByteOffset: 8, as: UnsafeRawPointer.self), count: count)
        )
    }

    func string(_ row: Int) -> String {
        withBytes(row) { String(decoding: $0, as: UTF8.self) }
    }

    func value(_ row: Int) throws(UnreadableType) -> DuckDBValue {
        if isNull(row) { return .null }
        switch type {
        case .boolean: return .bool(load(row, as: UInt8.self) != 0)
        case .tinyint, .smallint, .integer, .bigint, .utinyint, .usmallint, .uinteger: return .int(integer(row))
        case .ubigint:
            let value: UInt64 = load(row)
            return Int64(exactly: value).map { .int($0) } ?? .hugeint(Int128(value))
        case .hugeint: return .hugeint(wide(row))
        case .uhugeint: return .uhugeint(UInt128(truncatingIfNeeded: wide(row)))
        case .float: return .double(Double(load(row, as: Float.self)))
        case .double: return .double(load(row))
        case .decimal(let width, let scale):
            return .decimal(DecimalValue(unscaled: unscaled(row, width: width), width: width, scale: scale))
        case .varchar: return .string(string(row))
        case .json: return .json(string(row))
        case .blob: return .blob(withBytes(row) { Array($0) })
        case .uuid: return .uuid(uuid(row))
        case .date: return .date(load(row))
        case .time: return .time(load(row))
        case .timestamp: return .timestamp(load(row))
        case .timestampSeconds: return .timestamp(load(row, as: Int64.self).multipliedSaturating(by: 1_000_000))
        case .timestampMilliseconds: return .timestamp(load(row, as: Int64.self).multipliedSaturating(by: 1000))
        case .timestampNanoseconds: return .timestampNanoseconds(load(row))
        case .timestampTZ: return .timestampTZ(load(row))
        case .interval:
            return .interval(
                months: load(row * 4, as: Int32.self),
                days: load(row * 4 + 1, as: Int32.self),
                micros: load(row * 2 + 1, as: Int64.self)
            )
        case .enumeration(let names): return .string(names[enumerationIndex(row, count: names.count)])
        case .list, .array, .structure, .map:
            var buffer: [UInt8] = []
            try appendJSON(row, to: &buffer)
            return .json(String(decoding: buffer, as: UTF8.self))
        case .sqlNull: return .null
        case .other: throw UnreadableType(type: type)
        }
    }

    private func integer(_ row: Int) -> Int64 {
        switch type {
        case .tinyint: Int64(load(row, as: Int8.self))
        case .smallint: Int64(load(row, as: Int16.self))
        case .integer: Int64(load(row, as: Int32.self))
        case .utinyint: Int64(load(row, as: UInt8.self))
        case .usmallint: Int64(load(row, as: UInt16.self))
        case .uinteger: Int64(load(row, as: UInt32.self))
        default: load(row)
        }
    }

    func wide(_ row: Int) -> Int128 {
        let lower: UInt64 = load(row * 2)
        let upper: Int64 = load(row * 2 + 1)
        return Int128(upper) << 64 | Int128(lower)
    }

    /// DuckDB stores decimals of up to 4, 9 and 18 digits in 2, 4 and 8 bytes, wider ones in 16.
    func unscaled(_ row: Int, width: UInt8) -> Int128 {
        switch width {
        case ...4: Int128(load(row, as: Int16.self))
        case ...9: Int128(load(row, as: Int32.self))
        case ...18: Int128(load(row, as: Int64.self))
        default: wide(row)
        }
    }

    func enumerationIndex(_ row: Int, count: Int) -> Int {
        switch count {
        case ...256: Int(load(row, as: UInt8.self))
        case ...65_536: Int(load(row, as: UInt16.self))
        default: Int(load(row, as: UInt32.self))
        }
    }

    /// DuckDB keeps a UUID as a HUGEINT with its highest bit flipped, so that it sorts as text does.
    private func uuid(_ row: Int) -> String {
        let bits = UInt128(truncatingIfNeeded: wide(row)) ^ (1 << 127)
        let bytes = (0..<16).map { UInt8(truncatingIfNeeded: bits >> UInt128(120 - 8 * $0)) }
        let digits = Array(CalendarText.hexadecimal(bytes))
        return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }.joined(separator: "-")
    }

    // MARK: Nested values as JSON

    func appendJSON(_ row: Int, to buffer: inout [UInt8]) throws(UnreadableType) {
        if isNull(row) {
            JSONWriter.appendNull(to: &buffer)
            return
        }
        switch type {
        case .list(let child):
            try appendElements(
                load(row, as: duckdb_list_entry.self),
                of: VectorReader(api: api, vector: api.pointee.list_vector_get_child(vector), type: child),
                to: &buffer
            )
        case .array(let child, let size):
            try appendElements(
                duckdb_list_entry(offset: UInt64(row * size), length: UInt64(size)),
                of: VectorReader(api: api, vector: api.pointee.array_vector_get_child(vector), type: child),
                to: &buffer
            )
        case .structure(let fields):
            buffer.append(0x7B)
            for (index, field) in fields.enumerated() {
                if index > 0 { buffer.append(0x2C) }
                JSONWriter.append(field.name, to: &buffer)
                buffer.append(0x3A)
                let child = api.pointee.struct_vector_get_child(vector, idx_t(index))
                try VectorReader(api: api, vector: child, type: field.type).appendJSON(row, to: &buffer)
            }
            buffer.append(0x7D)
        case .map(let key, let value): try appendMap(row, key, value, to: &buffer)
        case .json: withBytes(row) { buffer.append(contentsOf: $0) }
        default: Self.appendScalar(try self.value(row), to: &buffer)
        }
    }

    private func appendElements(
        _ entry: duckdb_list_entry,
        of child: VectorReader,
        to buffer: inout [UInt8]
    ) throws(UnreadableType) {
        buffer.append(0x5B)
        for index in 0..<Int(entry.length) {
            if index > 0 { buffer.append(0x2C) }
            try child.appendJSON(Int(entry.offset) + index, to: &buffer)
        }
        buffer.append(0x5D)
    }

    /// A map is a list of structures of a key and a value; keys become text.
    private func appendMap(
        _ row: Int,
        _ key: LogicalType,
        _ value: LogicalType,
        to buffer: inout [UInt8]
    ) throws(UnreadableType) {
        let entry: duckdb_list_entry = load(row)
        let entries = api.pointee.list_vector_get_child(vector)
        let keys = VectorReader(api: api, vector: api.pointee.struct_vector_get_child(entries, 0), type: key)
        let values = VectorReader(api: api, vector: api.pointee.struct_vector_get_child(entries, 1), type: value)
        buffer.append(0x7B)
        for index in Int(entry.offset)..<Int(entry.offset + entry.length) {
            if index > Int(entry.offset) { buffer.append(0x2C) }
            JSONWriter.append(try keys.value(index).text, to: &buffer)
            buffer.append(0x3A)
            try values.appendJSON(index, to: &buffer)
        }
        buffer.append(0x7D)
    }

    private static func appendScalar(_ value: DuckDBValue, to buffer: inout [UInt8]) {
        switch value {
        case .null: JSONWriter.appendNull(to: &buffer)
        case .bool(let value): JSONWriter.append(value, to: &buffer)
        case .int(let value): JSONWriter.append(value, to: &buffer)
        case .double(let value) where value.isFinite: JSONWriter.append(value, to: &buffer)
        case .hugeint, .uhugeint, .decimal: buffer.append(contentsOf: value.text.utf8)
        default: JSONWriter.append(value.text, to: &buffer)
        }
    }
}

extension Int64 {
    fileprivate func multipliedSaturating(by factor: Int64) -> Int64 {
        let (product, isOverflow) = multipliedReportingOverflow(by: factor)
        return isOverflow ? (self < 0 ? -.max : .max) : product
    }
}
