// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Synchronization

/// A connection to a database; every call blocks until DuckDB is done.
///
/// Use it, and everything made from it, on one thread at a time: a ``DatabaseThread``, never the cooperative pool.
package final class Connection {
    /// The database, which lives as long as its connections.
    package let database: Database
    /// Stops the running statement or tells how far it is, from any thread.
    package let control: ConnectionControl
    let handle: duckdb_connection

    var api: UnsafePointer<martlet_duckdb_api> { database.library.functions }

    init(database: Database, handle: duckdb_connection) {
        self.database = database
        self.handle = handle
        control = ConnectionControl(library: database.library, handle: handle)
    }

    deinit {
        control.detach()
        var connection: duckdb_connection? = handle
        api.pointee.disconnect(&connection)
    }

    /// Makes DuckDB count how far the connection's statements are, for ``ConnectionControl/progress()``.
    package func measureProgress() {
        for setting in Database.progressSettings {
            // A library that does not let these be set gives no progress, which is all that is lost.
            try? execute("SET \(setting.name) = \(setting.value)")
        }
    }

    /// Runs one or more statements without parameters and drops their results.
    package func execute(_ sql: String) throws(DuckDBError) {
        var result = duckdb_result()
        defer { api.pointee.destroy_result(&result) }
        try check(api.pointee.query(handle, sql, &result), &result)
    }

    /// Runs one statement and returns its result in memory.
    package func query(_ sql: String, _ parameters: [DuckDBValue] = []) throws(DuckDBError) -> QueryResult {
        let statement = try prepare(sql)
        try statement.bind(parameters)
        return try statement.execute()
    }

    /// Prepares the only statement of a text.
    package func prepare(_ sql: String) throws(DuckDBError) -> PreparedStatement {
        let script = try statements(in: sql)
        guard script.count == 1 else {
            let found = script.count == 0 ? "none" : String(script.count)
            throw DuckDBError(.invalidInput, "One SQL statement is expected, found \(found).")
        }
        return try script.prepare(0)
    }

    /// Parses a text into its statements.
    package func statements(in sql: String) throws(DuckDBError) -> SQLScript {
        try SQLScript(connection: self, sql: sql)
    }

    /// Runs `body` in a transaction, which is rolled back when it throws.
    package func transaction<R>(_ body: () throws -> R) throws -> R {
        try execute("BEGIN TRANSACTION")
        do {
            let result = try body()
            try execute("COMMIT")
            return result
        } catch {
            // A transaction that DuckDB has already ended cannot be rolled back: the first error is the one that counts.
            try? execute("ROLLBACK")
            throw error
        }
    }

    /// Turns the return code of a call that fills a result into an error.
    func check(_ state: duckdb_state, _ result: inout duckdb_result) throws(DuckDBError) {
        guard state != 0 else { return }
        let message = api.pointee.result_error(&result).map { String(cString: $0) } ?? "DuckDB gave no reason."
        throw DuckDBError(type: api.pointee.result_error_type(&result), message: message)
    }
}

/// How far a statement is, as DuckDB estimates it.
package struct StatementProgress: Sendable, Hashable {
    /// From 0 to 1; it may fall when DuckDB learns of more work.
    package let fraction: Double
    /// Rows read so far, of all the statement's steps.
    package let rowsProcessed: Int64
    /// Rows there are to read, as far as is known.
    package let rowsTotal: Int64
}

/// The part of a connection that other threads may use while a statement runs.
package final class ConnectionControl: Sendable {
    private let library: DuckDBLibrary
    private let handle: Mutex<OpaqueHandle>

    // SAFETY: only used under the mutex; duckdb_interrupt and duckdb_query_progress may be called from any thread.
    private struct OpaqueHandle: @unchecked Sendable {
        var connection: duckdb_connection?
    }

    init(library: DuckDBLibrary, handle: duckdb_connection) {
        self.library = library
        self.handle = Mutex(OpaqueHandle(connection: handle))
    }

    /// Stops the running statement, which then fails with `interrupted`; nothing happens when none runs.
    package func interrupt() {
        handle.withLock { handle in
            guard let connection = handle.connection else { return }
            library.functions.pointee.interrupt(connection)
        }
    }

    /// How much of the running statement is done, or nil when DuckDB cannot tell.
    package func progress() -> StatementProgress? {
        handle.withLock { handle in
            guard let connection = handle.connection else { return nil }
            let progress = library.functions.pointee.query_progress(connection)
            guard progress.percentage >= 0 else { return nil }
            return StatementProgress(
                fraction: min(1, progress.percentage / 100),
                rowsProcessed: Int64(clamping: progress.rows_processed),
                rowsTotal: Int64(clamping: progress.total_rows_to_process)
            )
        }
    }

    func detach() {
        handle.withLock { $0.connection = nil }
    }
}
