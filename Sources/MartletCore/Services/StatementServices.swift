// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// One SQL statement to run.
package struct StatementRequest: Sendable, Equatable {
    /// The only statement.
    package var sql: String
    /// Values of the statement's `?`, without lists and objects.
    package var parameters: [JSONValue]
    /// Longest time DuckDB may work on it; nil takes the engine's setting.
    package var timeout: Duration?
    /// Whether it may change tables; otherwise it must be a query.
    package var write: Bool
    /// How old the newest rows of append tables may be, so that rows on the way to a file may be left out; nil wants all.
    package var maxStaleness: Duration?
    /// Commit by which an append table is read, by the table's name.
    package var asOf: [String: String]

    /// Makes a request to read.
    package init(
        _ sql: String,
        parameters: [JSONValue] = [],
        timeout: Duration? = nil,
        write: Bool = false,
        maxStaleness: Duration? = nil,
        asOf: [String: String] = [:]
    ) {
        self.sql = sql
        self.parameters = parameters
        self.timeout = timeout
        self.write = write
        self.maxStaleness = maxStaleness
        self.asOf = asOf
    }
}

/// What is known of a statement.
package struct StatementStatus: Sendable, Codable, Equatable {
    /// Where it is in its life.
    package enum State: String, Sendable, Codable, CaseIterable {
        /// Waits for a thread.
        case queued
        /// DuckDB works on it, or waits for its rows to be read.
        case running
        /// DuckDB is done; rows may still be there to be read.
        case finished
        case failed
        case cancelled
    }

    /// How far DuckDB is.
    package struct Progress: Sendable, Codable, Equatable {
        /// From 0 to 1; 0 where DuckDB cannot tell.
        package var fraction: Double
        /// Rows read so far, of all steps.
        package var rowsProcessed: Int64
        /// Rows there are to read, as far as is known.
        package var rowsTotal: Int64
        /// Estimate from the time that was needed so far; nil while it would be a guess.
        package var secondsLeft: Double?

        /// Makes a progress.
        package init(
            fraction: Double = 0,
            rowsProcessed: Int64 = 0,
            rowsTotal: Int64 = 0,
            secondsLeft: Double? = nil
        ) {
            self.fraction = fraction
            self.rowsProcessed = rowsProcessed
            self.rowsTotal = rowsTotal
            self.secondsLeft = secondsLeft
        }
    }

    /// Why it failed.
    package struct Fault: Sendable, Codable, Equatable {
        /// Code of the service error.
        package var code: String
        /// DuckDB's message.
        package var message: String
        /// What to do about it.
        package var fix: String?
        /// Line of the statement, from 1.
        package var line: Int?
        /// Character in that line, from 1.
        package var column: Int?

        /// Makes a fault.
        package init(code: String, message: String, fix: String? = nil, line: Int? = nil, column: Int? = nil) {
            self.code = code
            self.message = message
            self.fix = fix
            self.line = line
            self.column = column
        }
    }

    /// A column of the result.
    package struct Column: Sendable, Codable, Equatable {
        /// Name, not necessarily unique.
        package var name: String
        /// SQL type as DuckDB writes it.
        package var type: String

        /// Makes a column.
        package init(name: String, type: String) {
            self.name = name
            self.type = type
        }
    }

    /// Names the statement for as long as the engine remembers it.
    package var id: String
    /// Its text, cut to 10,000 characters.
    package var sql: String
    /// Where it is in its life.
    package var state: State
    /// Whether it may change tables.
    package var write: Bool
    /// Who sent it.
    package var caller: String
    /// When it was sent.
    package var createdAt: Date
    /// When a thread took it.
    package var startedAt: Date?
    /// When it ended.
    package var finishedAt: Date?
    /// How far it is.
    package var progress: Progress
    /// The result's columns as soon as they are known.
    package var columns: [Column]?
    /// How many rows a writing statement changed.
    package var rowsChanged: Int64?
    /// Rows that were handed out so far.
    package var rowsRead: Int64
    /// Why it failed or who cancelled it.
    package var error: Fault?

    /// Makes a status.
    package init(
        id: String,
        sql: String,
        state: State,
        write: Bool,
        caller: String,
        createdAt: Date,
        startedAt: Date? = nil,
        finishedAt: Date? = nil,
        progress: Progress = Progress(),
        columns: [Column]? = nil,
        rowsChanged: Int64? = nil,
        rowsRead: Int64 = 0,
        error: Fault? = nil
    ) {
        self.id = id
        self.sql = sql
        self.state = state
        self.write = write
        self.caller = caller
        self.createdAt = createdAt
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.progress = progress
        self.columns = columns
        self.rowsChanged = rowsChanged
        self.rowsRead = rowsRead
        self.error = error
    }
}

/// In which form rows are wanted.
package enum StatementRowFormat: Sendable {
    /// `[[…],…]`, one array a row.
    case json
    /// One whole Arrow IPC stream.
    case arrow
}

/// Some rows of a statement's result.
package struct StatementPage: Sendable {
    /// The columns in order.
    package var columns: [StatementStatus.Column]
    /// The rows in the wanted form; without rows an empty list or a stream with the schema alone.
    package var rows: [UInt8]
    /// How many rows there are.
    package var rowCount: Int
    /// Where the next page begins; nil on the last page.
    package var nextCursor: String?
    /// How many rows a writing statement changed.
    package var rowsChanged: Int64?

    /// Makes a page.
    package init(
        columns: [StatementStatus.Column],
        rows: [UInt8],
        rowCount: Int,
        nextCursor: String?,
        rowsChanged: Int64? = nil
    ) {
        self.columns = columns
        self.rows = rows
        self.rowCount = rowCount
        self.nextCursor = nextCursor
        self.rowsChanged = rowsChanged
    }
}

/// Which rows of a statement are wanted, and for how long to wait for them.
package struct StatementRowsQuery: Sendable {
    /// Where the page begins, as the page before said; nil is the first.
    package var cursor: String?
    /// Most rows, 1...100,000; a page also ends at some megabytes.
    package var pageSize: Int
    /// How long to wait for rows.
    package var wait: Duration
    /// The rows' form.
    package var format: StatementRowFormat

    /// Makes a query.
    package init(cursor: String? = nil, pageSize: Int, wait: Duration, format: StatementRowFormat) {
        self.cursor = cursor
        self.pageSize = pageSize
        self.wait = wait
        self.format = format
    }
}

/// SQL statements that run on their own and whose rows are fetched page by page.
package protocol StatementServices: Sendable {
    /// Takes a statement, which runs as soon as a thread is free, and returns at once.
    ///
    /// - Throws: `ServiceError` `.unavailable` while there are too many, `.forbidden` for a caller who may not write.
    func start(_ request: StatementRequest, by caller: Caller) async throws -> StatementStatus
    /// The statements a caller may see, newest first: all for those who may write, otherwise the caller's own.
    func statements(by caller: Caller) async throws -> [StatementStatus]
    /// One statement.
    func statement(_ id: String, by caller: Caller) async throws -> StatementStatus
    /// A page of rows, or nil when there is none within the wait.
    ///
    /// The page that was given last can be asked for again; those before it are gone.
    /// - Throws: `ServiceError`: why the statement failed or was cancelled; `.failedPrecondition` for any other cursor.
    func rows(_ id: String, _ query: StatementRowsQuery, by caller: Caller) async throws -> StatementPage?
    /// Stops a statement in DuckDB; one that has ended is forgotten with its rows.
    func cancel(_ id: String, by caller: Caller) async throws
}
