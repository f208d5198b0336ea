// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB

/// One column of a result.
package struct ResultColumn: Sendable, Hashable {
    /// The column's name, not necessarily unique.
    package let name: String
    /// The column's type.
    package let type: LogicalType
}

/// The result of one statement, read chunk by chunk.
package final class QueryResult {
    /// The columns in order.
    package let columns: [ResultColumn]
    /// True when the statement gives rows, false when it only changes something.
    package let hasRows: Bool
    private let connection: Connection
    private var result: duckdb_result

    init(connection: Connection, result: duckdb_result) {
        self.connection = connection
        self.result = result
        let api = connection.api
        var columns: [ResultColumn] = []
        for index in 0..<api.pointee.column_count(&self.result) {
            let name = api.pointee.column_name(&self.result, index).map { String(cString: $0) } ?? ""
            columns.append(
                ResultColumn(name: name, type: .consume(api.pointee.column_logical_type(&self.result, index), api))
            )
        }
        self.columns = columns
        hasRows = api.pointee.result_return_type(self.result) == 3
    }

    deinit {
        connection.api.pointee.destroy_result(&result)
    }

    /// How many rows an INSERT, UPDATE or DELETE changed.
    package var rowsChanged: Int { Int(connection.api.pointee.rows_changed(&result)) }

    /// The next rows, or nil at the end.
    package func nextChunk() throws(DuckDBError) -> DataChunk? {
        guard let chunk = connection.api.pointee.fetch_chunk(result) else {
            if let message = connection.api.pointee.result_error(&result) {
                let type = connection.api.pointee.result_error_type(&result)
                throw DuckDBError(type: type, message: String(cString: message))
            }
            return nil
        }
        let data = DataChunk(connection: connection, columns: columns, handle: chunk)
        return data.rowCount == 0 ? nil : data
    }

    /// All rows that are left.
    package func rows() throws(DuckDBError) -> [[DuckDBValue]] {
        var rows: [[DuckDBValue]] = []
        while let chunk = try nextChunk() {
            let columns = try chunk.allValues()
            for row in 0..<chunk.rowCount { rows.append(columns.map { $0[row] }) }
        }
        return rows
    }
}
