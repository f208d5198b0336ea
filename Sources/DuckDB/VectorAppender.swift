// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc

/// Writes rows to a table by filling DuckDB's vectors in place, 2,048 rows at a time.
///
/// Nothing is certain to be written before ``flush()`` returns; then it is part of the connection's transaction, or
/// committed when there is none. After an error the appender is of no more use.
package final class VectorAppender {
    /// How many columns the table has; every one is filled.
    package let columnCount: Int
    private let connection: Connection
    private var handle: duckdb_appender?
    private var chunk: duckdb_data_chunk?
    private let chunkRows: Int

    private var api: UnsafePointer<martlet_duckdb_api> { connection.api }

    /// Opens an appender for all columns of a table; `schema` nil is the connection's current one.
    package init(connection: Connection, schema: String? = nil, table: String) throws(DuckDBError) {
        self.connection = connection
        let api = connection.api
        chunkRows = Int(api.pointee.vector_size())
        let state = api.pointee.appender_create_ext(connection.handle, nil, schema, table, &handle)
        columnCount = state == 0 ? Int(api.pointee.appender_column_count(handle)) : 0
        try check(state)
        // The table's own types: a chunk of others would be cast, value by value.
        var types = (0..<columnCount).map { api.pointee.appender_column_type(handle, idx_t($0)) }
        chunk = api.pointee.create_data_chunk(&types, idx_t(columnCount))
        for index in types.indices { api.pointee.destroy_logical_type(&types[index]) }
        guard chunk != nil else { throw DuckDBError(.outOfMemory, "DuckDB has no memory for a chunk of rows.") }
    }

    deinit {
        api.pointee.destroy_data_chunk(&chunk)
        _ = api.pointee.appender_destroy(&handle)
    }

    /// Appends `rowCount` rows, which `fill` puts into the vectors chunk by chunk; `rows` begins at a multiple of 2,048.
    package func append(
        rowCount: Int,
        _ fill: (_ vectors: RowVectors, _ rows: Range<Int>) throws(DuckDBError) -> Void
    ) throws(DuckDBError) {
        var start = 0
        while start < rowCount {
            let rows = start..<min(start + chunkRows, rowCount)
            api.pointee.data_chunk_reset(chunk)
            try fill(RowVectors(api: api, chunk: chunk), rows)
            api.pointee.data_chunk_set_size(chunk, idx_t(rows.count))
            try check(api.pointee.append_data_chunk(handle, chunk))
            start = rows.upperBound
        }
    }

    /// Hands everything appended so far to the table.
    package func flush() throws(DuckDBError) {
        try check(api.pointee.appender_flush(handle))
    }

    private func check(_ state: duckdb_state) throws(DuckDBError) {
        guard state != 0 else { return }
        var data = api.pointee.appender_error_data(handle)
        defer { api.pointee.destroy_error_data(&data) }
        let message = api.pointee.error_data_message(data).map { String(cString: $0) } ?? "DuckDB gave no reason."
        throw DuckDBError(type: api.pointee.error_data_error_type(data), message: message)
    }
}

/// The vectors of a chunk that is being filled; valid only inside the call it is handed to.
package struct RowVectors {
    let api: UnsafePointer<martlet_duckdb_api>
    let chunk: duckdb_data_chunk?

    /// The vector of a column, all NULL until it is filled being up to the caller.
    package subscript(column: Int) -> RowVector {
        RowVector(api: api, handle: api.pointee.data_chunk_get_vector(chunk, idx_t(column)))
    }
}

/// One vector that is being filled, in DuckDB's own layout.
///
/// Strings and blobs are entries of 16 bytes: a 32-bit length, then up to 12 bytes in place, or the first 4 and a pointer
/// to all of them, which must stay valid until the chunk is appended.
package struct RowVector {
    let api: UnsafePointer<martlet_duckdb_api>
    let handle: duckdb_vector?

    /// Copies values in the vector's layout to its beginning.
    package func copy(from values: UnsafeRawPointer, byteCount: Int) {
        guard byteCount > 0, let data = api.pointee.vector_get_data(handle) else { return }
        memcpy(data, values, byteCount)
    }

    /// Sets bytes of the values to zero.
    package func clear(from offset: Int = 0, byteCount: Int) {
        guard byteCount > 0, let data = api.pointee.vector_get_data(handle) else { return }
        memset(data + offset, 0, byteCount)
    }

    /// Fills the values of `count` rows with one 32-bit integer or 64-bit word.
    package func fill<Value: BitwiseCopyable>(_ value: Value, count: Int) {
        guard let data = api.pointee.vector_get_data(handle) else { return }
        let values = data.bindMemory(to: Value.self, capacity: count)
        for index in 0..<count { values[index] = value }
    }

    /// Calls `body` with the vector's values to be written.
    package func withData(_ body: (UnsafeMutableRawPointer) -> Void) {
        if let data = api.pointee.vector_get_data(handle) { body(data) }
    }

    /// Marks rows as NULL whose bit, lowest first, is 0; rows behind the given words are NULL.
    package func setValidity(_ words: UnsafePointer<UInt64>?, wordCount: Int, rowCount: Int) {
        let needed = (rowCount + 63) >> 6
        var isAllValid = wordCount >= needed
        if isAllValid, let words {
            let full = rowCount >> 6
            var meet = UInt64.max
            for index in 0..<full { meet &= words[index] }
            let rest = UInt64(rowCount & 63)
            let tail: UInt64 = rest == 0 ? 0 : (1 << rest) - 1
            isAllValid = meet == .max && (tail == 0 || words[full] & tail == tail)
        }
        if isAllValid { return }
        api.pointee.vector_ensure_validity_writable(handle)
        guard let mask = api.pointee.vector_get_validity(handle) else { return }
        let present = words == nil ? 0 : min(wordCount, needed)
        if present > 0, let words { memcpy(mask, words, present * 8) }
        for index in present..<needed { mask[index] = 0 }
    }

    /// Makes room in a list's child vector for `count` elements and sets its size.
    package func resizeList(_ count: Int) throws(DuckDBError) {
        guard api.pointee.list_vector_reserve(handle, idx_t(count)) == 0,
            api.pointee.list_vector_set_size(handle, idx_t(count)) == 0
        else { throw DuckDBError(.outOfMemory, "DuckDB has no memory for a list of \(count) elements.") }
    }

    /// The elements of a list, after ``resizeList(_:)``.
    package var listElements: RowVector {
        RowVector(api: api, handle: api.pointee.list_vector_get_child(handle))
    }

    /// One field of a structure.
    package func field(_ index: Int) -> RowVector {
        RowVector(api: api, handle: api.pointee.struct_vector_get_child(handle, idx_t(index)))
    }
}
