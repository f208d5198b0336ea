// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Lake
import Logging
import MartletCore
import Synchronization

/// Rows and rejects of one table that are in no file yet, in two tables of DuckDB's database in memory.
///
/// They are filled until they are sealed for a commit, and live on for the queries that began before it; the last reference that
/// goes removes them.
final class FreshRows: Sendable {
    private struct State {
        var columns: [AppendTableSchemaVersion.Column]
        var rows: Int64 = 0
        var rejects: Int64 = 0
        var bytes = 0
        var oldest: ContinuousClock.Instant?
    }

    /// `"fresh"."main"."rows12"`.
    let rowsTable: String
    let rejectsTable: String
    /// Without database and schema, for appenders.
    let rowsName: String
    let rejectsName: String
    private let state: Mutex<State>
    private let space: FreshSpace

    init(number: Int, columns: [AppendTableSchemaVersion.Column], space: FreshSpace) {
        rowsName = "rows\(number)"
        rejectsName = "rejects\(number)"
        rowsTable = "\(Lake.freshDatabase).main.\(rowsName)"
        rejectsTable = "\(Lake.freshDatabase).main.\(rejectsName)"
        state = Mutex(State(columns: columns))
        self.space = space
    }

    deinit {
        space.drop([rowsTable, rejectsTable])
    }

    /// The columns from the records' values.
    var columns: [AppendTableSchemaVersion.Column] { state.withLock { $0.columns } }
    var rowCount: Int64 { state.withLock { $0.rows } }
    var rejectCount: Int64 { state.withLock { $0.rejects } }
    /// Bytes of the records, as they stand in the log.
    var byteCount: Int { state.withLock { $0.bytes } }
    /// When its first record was taken.
    var oldest: ContinuousClock.Instant? { state.withLock { $0.oldest } }
    var isEmpty: Bool { state.withLock { $0.rows == 0 && $0.rejects == 0 && $0.bytes == 0 } }

    /// Adds rows and rejects in the connection's transaction.
    func append(_ batches: [RowBatch], on connection: Connection) throws {
        if batches.contains(where: { $0.rowCount > 0 }) {
            let appender = try VectorAppender(connection: connection, catalog: Lake.freshDatabase, table: rowsName)
            for batch in batches where batch.rowCount > 0 { try batch.write(to: appender) }
            try appender.flush()
        }
        if batches.contains(where: { $0.rejectCount > 0 }) {
            let appender = try VectorAppender(connection: connection, catalog: Lake.freshDatabase, table: rejectsName)
            for batch in batches where batch.rejectCount > 0 {
                try batch.writeRejects(to: appender, rejectedAt: Timestamp.nowMicroseconds())
            }
            try appender.flush()
        }
    }

    /// Counts what was added; called after the rows can be seen.
    func added(rows: Int, rejects: Int, bytes: Int) {
        state.withLock { state in
            state.rows += Int64(rows)
            state.rejects += Int64(rejects)
            state.bytes += bytes
            if state.oldest == nil { state.oldest = .now }
        }
    }

    /// Names the columns there are after some were added.
    func set(columns: [AppendTableSchemaVersion.Column]) {
        state.withLock { $0.columns = columns }
    }
}

/// The database in memory that holds the fresh rows of all tables, and the threads that fill it.
final class FreshSpace: Sendable {
    let lake: Lake
    /// Reads records and appends rows.
    let threads: DatabaseThread
    /// Writes files and removes what nobody needs any more.
    let files: DatabaseThread
    /// Reads statements before they run.
    let planning: DatabaseThread
    /// Merges files; apart, so that no commit waits for it.
    let maintenance: DatabaseThread
    private let connections: ConnectionPool
    private let nextNumber = Atomic<Int>(1)
    private let logger: Logger

    init(lake: Lake, logger: Logger) {
        self.lake = lake
        self.logger = logger
        connections = ConnectionPool(lake: lake)
        threads = DatabaseThread(name: "tables-rows", threads: 2, queueMax: 65_536)
        files = DatabaseThread(name: "tables-files", threads: 1, queueMax: 65_536)
        planning = DatabaseThread(name: "tables-plan", threads: 2, queueMax: 1024)
        maintenance = DatabaseThread(name: "tables-merge", threads: 1, queueMax: 65_536)
    }

    func stop() {
        threads.stop()
        files.stop()
        maintenance.stop()
        connections.close()
        planning.stop()
    }

    /// The open database; opened at the first use.
    func database() async throws -> Database { try await lake.database() }

    /// Runs `body` with a connection that is kept for later.
    func withConnection<R>(_ body: (Connection) throws -> R) throws -> R { try connections.with(body) }

    func nextGeneration() -> Int { nextNumber.add(1, ordering: .relaxed).oldValue }

    func drop(_ tables: [String]) {
        let connections = connections
        let logger = logger
        _ = files.submit {
            do {
                try connections.with { connection in
                    for table in tables { try connection.execute("DROP TABLE IF EXISTS \(table)") }
                }
            } catch let error as DuckDBError where error.code == .closed {
                return  // Memory goes with the database.
            } catch {
                logger.warning("rows that are in files cannot be freed", metadata: ["error": "\(error)"])
            }
        }
    }
}
