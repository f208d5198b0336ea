// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB

/// Writes rows to a table, or to a statement that uses them like a table, chunk by chunk.
///
/// Nothing is certain to be written before ``flush()`` returns; then it is part of the connection's transaction, or
/// committed when there is none. After an error the appender is of no more use.
package final class Appender {
    private let connection: Connection
    private let types: [ColumnType]
    private var handle: duckdb_appender?
    private var chunk: duckdb_data_chunk?
    private let chunkRows: Int

    private var api: UnsafePointer<martlet_duckdb_api> { connection.api }

    /// Opens an appender for columns of a table; columns that are not named get their default.
    package convenience init(
        connection: Connection,
        table: String,
        columns: [(name: String, type: ColumnType)]
    ) throws(DuckDBError) {
        try self.init(connection: connection, types: columns.map(\.type)) { api, handle in
            api.pointee.appender_create_ext(connection.handle, nil, nil, table, &handle)
        }
        for column in columns {
            try check(api.pointee.appender_add_column(handle, column.name))
        }
    }

    /// Opens an appender for an INSERT, UPDATE, DELETE or MERGE statement that reads the rows from the table `rows`.
    ///
    /// The statement runs whenever the rows are flushed, at least once for every 204,800 rows.
    package convenience init(
        connection: Connection,
        statement: String,
        rows: String,
        columns: [(name: String, type: ColumnType)]
    ) throws(DuckDBError) {
        try self.init(connection: connection, types: columns.map(\.type)) { api, handle in
            var types: [duckdb_logical_type?] = columns.map { Self.logicalType($0.type, api) }
            defer { Self.destroy(&types, api) }
            return Self.withCStrings(columns.map(\.name)) { names in
                api.pointee.appender_create_query(
                    connection.handle,
                    statement,
                    idx_t(columns.count),
                    &types,
                    rows,
                    names,
                    &handle
                )
            }
        }
    }

    private init(
        connection: Connection,
        types: [ColumnType],
        create: (UnsafePointer<martlet_duckdb_api>, inout duckdb_appender?) -> duckdb_state
    ) throws(DuckDBError) {
        self.connection = connection
        self.types = types
        chunkRows = Int(connection.api.pointee.vector_size())
        let state = create(connection.api, &handle)
        try check(state)
        var logicalTypes: [duckdb_logical_type?] = types.map { Self.logicalType($0, connection.api) }
        chunk = connection.api.pointee.create_data_chunk(&logicalTypes, idx_t(types.count))
        Self.destroy(&logicalTypes, connection.api)
        guard chunk != nil else { throw DuckDBError(.outOfMemory, "DuckDB has no memory for a chunk of rows.") }
    }

    deinit {
        connection.api.pointee.destroy_data_chunk(&chunk)
        _ = connection.api.pointee.appender_destroy(&handle)
    }

    /// Appends columns of equal length, of the types the appender was opened with.
    package func append(_ columns: [ColumnBuffer]) throws(DuckDBError) {
        precondition(columns.map(\.type) == types, "Appender: columns of other types than declared")
        let rowCount = columns.first?.count ?? 0
        precondition(columns.allSatisfy { $0.count == rowCount }, "Appender: columns of different lengths")
        var start = 0
        while start < rowCount {
            let rows = start..<min(start + chunkRows, rowCount)
            api.pointee.data_chunk_reset(chunk)
            for (index, column) in columns.enumerated() {
                fill(api.pointee.data_chunk_get_vector(chunk, idx_t(index)), from: column, rows)
            }
            api.pointee.data_chunk_set_size(chunk, idx_t(rows.count))
            try check(api.pointee.append_data_chunk(handle, chunk))
            start = rows.upperBound
        }
    }

    /// Hands everything appended so far to the table or the statement.
    package func flush() throws(DuckDBError) {
        try check(api.pointee.appender_flush(handle))
    }

    // MARK: Filling vectors

    private func fill(_ vector: duckdb_vector?, from column: ColumnBuffer, _ rows: Range<Int>) {
        switch column.storage {
        case .booleans(let values): copy(values, rows, to: vector)
        case .integers(let values):
            if column.type == .date {
                copy(values[rows].map { Int32(truncatingIfNeeded: $0) }, 0..<rows.count, to: vector)
            } else {
                copy(values, rows, to: vector)
            }
        case .doubles(let values): copy(values, rows, to: vector)
        case .wide(let values): copyWide(values, rows, column.type, to: vector)
        case .bytes(let bytes, let ends): copyBytes(bytes, ends, rows, column.validity, to: vector)
        }
        guard let validity = column.validity, !validity[rows].allSatisfy({ $0 }) else { return }
        api.pointee.vector_ensure_validity_writable(vector)
        guard let mask = api.pointee.vector_get_validity(vector) else { return }
        for (index, row) in rows.enumerated() where !validity[row] {
            mask[index >> 6] &= ~(1 << UInt64(index & 63))
        }
    }

    private func copy<T: BitwiseCopyable>(_ values: [T], _ rows: Range<Int>, to vector: duckdb_vector?) {
        guard let data = api.pointee.vector_get_data(vector) else { return }
        values[rows].withUnsafeBytes { source in
            guard let base = source.baseAddress else { return }
            data.copyMemory(from: base, byteCount: source.count)
        }
    }

    /// DECIMAL is stored in 2, 4, 8 or 16 bytes by its width, HUGEINT in 16.
    private func copyWide(_ values: [Int128], _ rows: Range<Int>, _ type: ColumnType, to vector: duckdb_vector?) {
        let slice = values[rows]
        switch type {
        case .decimal(...4, _): copy(slice.map { Int16(truncatingIfNeeded: $0) }, 0..<rows.count, to: vector)
        case .decimal(...9, _): copy(slice.map { Int32(truncatingIfNeeded: $0) }, 0..<rows.count, to: vector)
        case .decimal(...18, _): copy(slice.map { Int64(truncatingIfNeeded: $0) }, 0..<rows.count, to: vector)
        default:
            let words = slice.flatMap { [UInt64(truncatingIfNeeded: $0), UInt64(truncatingIfNeeded: $0 >> 64)] }
            copy(words, 0..<words.count, to: vector)
        }
    }

    private func copyBytes(
        _ bytes: [UInt8],
        _ ends: [Int],
        _ rows: Range<Int>,
        _ validity: [Bool]?,
        to vector: duckdb_vector?
    ) {
        bytes.withUnsafeBytes { source in
            for (index, row) in rows.enumerated() where validity?[row] ?? true {
                let start = row == 0 ? 0 : ends[row - 1]
                let text = UnsafeRawBufferPointer(rebasing: source[start..<ends[row]]).assumingMemoryBound(
                    to: CChar.self
                )
                // An empty array has no address; DuckDB wants one even for no bytes.
                withUnsafePointer(to: 0) { (empty: UnsafePointer<CChar>) in
                    api.pointee.vector_assign_string_element_len(
                        vector,
                        idx_t(index),
                        text.baseAddress ?? empty,
                        idx_t(text.count)
                    )
                }
            }
        }
    }

    private func check(_ state: duckdb_state) throws(DuckDBError) {
        guard state != 0 else { return }
        var data = api.pointee.appender_error_data(handle)
        defer { api.pointee.destroy_error_data(&data) }
        let message = api.pointee.error_data_message(data).map { String(cString: $0) } ?? "DuckDB gave no reason."
        throw DuckDBError(type: api.pointee.error_data_error_type(data), message: message)
    }

    private static func logicalType(
        _ type: ColumnType,
        _ api: UnsafePointer<martlet_duckdb_api>
    ) -> duckdb_logical_type? {
        switch type {
        case .boolean: api.pointee.create_logical_type(1)
        case .bigint: api.pointee.create_logical_type(5)
        case .double: api.pointee.create_logical_type(11)
        case .timestamp: api.pointee.create_logical_type(12)
        case .date: api.pointee.create_logical_type(13)
        case .hugeint: api.pointee.create_logical_type(16)
        case .varchar, .json: api.pointee.create_logical_type(17)
        case .blob: api.pointee.create_logical_type(18)
        case .decimal(let width, let scale): api.pointee.create_decimal_type(width, scale)
        }
    }

    private static func destroy(_ types: inout [duckdb_logical_type?], _ api: UnsafePointer<martlet_duckdb_api>) {
        for index in types.indices { api.pointee.destroy_logical_type(&types[index]) }
    }

    /// Calls `body` with an array of C strings that live until it returns.
    private static func withCStrings<R>(_ strings: [String], _ body: (UnsafeMutablePointer<UnsafePointer<CChar>?>) -> R)
        -> R
    {
        var offsets: [Int] = []
        var bytes: [CChar] = []
        for string in strings {
            offsets.append(bytes.count)
            bytes.append(contentsOf: string.utf8CString)
        }
        return bytes.withUnsafeBufferPointer { buffer in
            var pointers: [UnsafePointer<CChar>?] = offsets.map { buffer.baseAddress?.advanced(by: $0) }
            return pointers.withUnsafeMutableBufferPointer { table in
                guard let base = table.baseAddress else { preconditionFailure("Appender: no columns") }
                return body(base)
            }
        }
    }
}
