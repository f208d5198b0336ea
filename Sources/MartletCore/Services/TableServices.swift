// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

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

/// How a list of tables is cut.
package struct TableListQuery: Sendable, Equatable {
    package var list: ListQuery
    /// Keeps tables that follow this topic.
    package var topic: String?

    package init(list: ListQuery = ListQuery(), topic: String? = nil) {
        self.list = list
        self.topic = topic
    }
}

/// What a query may be told besides its text.
package struct QueryOptions: Sendable, Equatable {
    /// Rows that are not committed yet are left out where a table's last commit is no older than this; nil reads them always.
    package var maxStaleness: Duration?
    /// Append tables that are read as they were: a commit's number, or an RFC 3339 time, by the table's name.
    package var asOf: [String: String]

    package init(maxStaleness: Duration? = nil, asOf: [String: String] = [:]) {
        self.maxStaleness = maxStaleness
        self.asOf = asOf
    }
}

/// What changes tables and looks into them; names are as SQL writes them, in any case.
///
/// Everything but ``delete(_:by:)`` and ``export(_:format:)`` is for tables that follow a topic, and refuses the others with
/// `.failedPrecondition`. All throw `ServiceError` `.notFound` where there is no such table.
package protocol TableOperations: Sendable {
    /// Makes a table that follows a topic; with `dryRun` only checks and returns what would be made.
    func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> TableDescription
    /// Changes the settings the document has; topic, format, key and partitions cannot change.
    func update(_ name: String, _ document: Document, by caller: Caller, dryRun: Bool) async throws -> TableDescription
    /// Removes a table with its rows, files, rejects and history; the topic stays.
    func delete(_ name: String, by caller: Caller) async throws
    /// Commits, newest first.
    func history(_ name: String, limit: Int, cursor: String?) async throws -> Page<TableCommit>
    /// Commits what waits now, and returns when it is durable; nil where nothing waited.
    func commit(_ name: String) async throws -> TableCommit?
    /// Makes small files into larger ones now; queries go on.
    func compact(_ name: String) async throws -> TableCompaction
    /// Compares the catalog, the files and the topic, and puts right what differs; with `dryRun` only says what it would do.
    ///
    /// Every byte of the files is read; with `quick` only their sizes are compared.
    func repair(_ name: String, dryRun: Bool, quick: Bool) async throws -> [TableFinding]
    /// Reads the rejects again under the columns and settings of now; those that fit become rows in one commit.
    func replay(_ name: String) async throws -> TableReplay
    /// Writes a table to a temporary file and returns its path; the caller removes the file.
    func export(_ name: String, format: TableFormat) async throws -> String
}

/// All tables, and SQL over them.
package protocol TableServices: TableOperations {
    /// Tables by name.
    func list(_ query: TableListQuery) async throws -> Page<TableDescription>
    func get(_ name: String) async throws -> TableDescription
    /// Runs one read-only statement.
    ///
    /// - Throws: `ServiceError` `.invalid` with DuckDB's message and position, `.timeout`, `.forbidden` for statements that write.
    func query(
        _ sql: String,
        parameters: [JSONValue],
        timeout: Duration,
        options: QueryOptions
    ) async throws -> QueryAnswer
}

/// The tables that follow a topic, those of the engine's own telemetry and those with a key among them.
package protocol AppendTableServices: TableOperations {
    /// All of them, in no order.
    func all() async throws -> [TableDescription]
    /// The one of a name; nil where there is none.
    func find(_ name: String) async throws -> TableDescription?
}
