// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A keyed table.
package struct TableDescription: Sendable, Codable, Equatable {
    /// One column.
    package struct Column: Sendable, Codable, Equatable {
        package var name: String
        /// SQL type as DuckDB writes it.
        package var type: String
        package var isKey: Bool

        package init(name: String, type: String, isKey: Bool) {
            self.name = name
            self.type = type
            self.isKey = isKey
        }
    }

    package var name: String
    package var columns: [Column]
    package var rows: Int64

    package init(name: String, columns: [Column], rows: Int64) {
        self.name = name
        self.columns = columns
        self.rows = rows
    }
}

/// File formats tables are exported in.
package enum TableFormat: String, Sendable, CaseIterable {
    case parquet
    case csv
}

/// A query's answer, produced as it is read; dropping the stream interrupts the query.
package struct QueryAnswer: Sendable {
    /// Names and SQL types, in order.
    package var columns: [TableDescription.Column]
    /// Batches of rows; each row has one value a column.
    package var batches: AsyncThrowingStream<[[JSONValue]], any Error>

    package init(columns: [TableDescription.Column], batches: AsyncThrowingStream<[[JSONValue]], any Error>) {
        self.columns = columns
        self.batches = batches
    }
}

/// Keyed tables and SQL over them.
package protocol TableServices: Sendable {
    func tables(_ query: ListQuery) async throws -> Page<TableDescription>
    func table(_ name: String) async throws -> TableDescription
    func drop(_ name: String) async throws
    /// Writes a table to a temporary file and returns its path; the caller removes the file.
    func export(_ name: String, format: TableFormat) async throws -> String
    /// Runs one read-only statement.
    ///
    /// - Throws: `ServiceError` `.invalid` with DuckDB's message and position, `.timeout`, `.forbidden` for statements that write.
    func query(_ sql: String, parameters: [JSONValue], timeout: Duration) async throws -> QueryAnswer
}
