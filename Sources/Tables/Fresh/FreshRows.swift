// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Lake
import Logging
import MartletCore
import Synchronization

/// Rows and rejects of one table that are in no file yet.
///
/// Those of small rounds are in two tables of DuckDB's database in memory, which are filled until they are sealed for a commit. A large
/// round stays in the batch it was read into, sealed from the start, and DuckDB reads it there. Both live on for the queries that
/// began before the commit; the last reference that goes removes them.
final class FreshRows: Sendable {
    private struct State {
        var columns: [AppendTableSchemaVersion.Column]
        var rows: Int64 = 0
        var rejects: Int64 = 0
        var bytes = 0
        var memory = 0
        var oldest: ContinuousClock.Instant?
    }

    /// What names the rows, in DuckDB's memory or among ``FreshSpace/sources``.
    let number: Int
    /// The batch of a large round.
    let batch: SealedBatch?
    /// Without database and schema, for appenders.
    private let rowsName: String
    private let rejectsName: String
    private let state: Mutex<State>
    private let space: FreshSpace
    private let charge: SinkMemory.Charge?

    /// Makes rows that are to be filled, in tables of DuckDB's that the caller makes; their memory is accounted to `charge`.
    init(columns: [AppendTableSchemaVersion.Column], space: FreshSpace, charge: SinkMemory.Charge? = nil) {
        number = space.nextGeneration()
        batch = nil
        self.charge = charge
        rowsName = "rows\(number)"
        rejectsName = "rejects\(number)"
        state = Mutex(State(columns: columns))
        self.space = space
    }

    /// Makes the rows of a batch that took `bytes` of the log.
    init(_ batch: SealedBatch, columns: [AppendTableSchemaVersion.Column], bytes: Int, space: FreshSpace) {
        number = space.nextGeneration()
        self.batch = batch
        charge = nil
        rowsName = ""
        rejectsName = ""
        state = Mutex(
            State(
                columns: columns,
                rows: Int64(batch.rowCount),
                rejects: Int64(batch.rejectCount),
                bytes: bytes,
                oldest: .now
            )
        )
        self.space = space
        space.sources.add(number, batch)
    }

    deinit {
        if batch == nil {
            space.drop([rowsTable, rejectsTable])
        } else {
            space.sources.remove(number)
        }
    }

    /// `"fresh"."main"."rows12"`.
    var rowsTable: String { "\(Lake.freshDatabase).main.\(rowsName)" }
    var rejectsTable: String { "\(Lake.freshDatabase).main.\(rejectsName)" }

    /// What a statement reads to get the system columns of `rows`.
    static func sources(of rows: [FreshRows]) -> [String] {
        let sealed = rows.filter { $0.batch != nil }.map(\.number)
        let tables = rows.filter { $0.batch == nil }.map(\.rowsTable)
        return sealed.isEmpty ? tables : tables + [FreshSources.expression(sealed, .rows)]
    }

    /// The columns from the records' values.
    var columns: [AppendTableSchemaVersion.Column] { state.withLock { $0.columns } }
    var rowCount: Int64 { state.withLock { $0.rows } }
    var rejectCount: Int64 { state.withLock { $0.rejects } }
    /// Bytes of the records, as they stand in the log.
    var byteCount: Int { state.withLock { $0.bytes } }
    /// Bytes of memory, estimated where DuckDB has the rows: their values, and a block of 2,048 begun in each column.
    var memoryBytes: Int {
        if let batch { return batch.memoryBytes }
        return state.withLock { $0.memory + Self.beginBytes($0.columns.count) }
    }

    /// What tables of DuckDB's with so many columns take however few rows they have.
    static func beginBytes(_ columns: Int) -> Int { (columns + SystemColumns.json.count) * columnBytes }

    private static let columnBytes = 24 << 10

    /// Ends the sink's account, because the rows are in a file.
    func settle() {
        batch?.settle()
        charge?.set(0)
    }

    /// Whether a row may belong to a trace.
    var mayHaveTraces: Bool { batch?.hasTraces ?? (rowCount > 0) }
    /// When its first record was taken.
    var oldest: ContinuousClock.Instant? { state.withLock { $0.oldest } }
    var isEmpty: Bool { state.withLock { $0.rows == 0 && $0.rejects == 0 && $0.bytes == 0 } }

    /// Makes the two tables that rows and rejects are put into.
    func create(_ format: TableSpec.Format, on connection: Connection) throws {
        let columns = SystemColumns.all(format: format, columns: columns)
        try connection.execute("CREATE TABLE \(rowsTable) \(SystemColumns.sql(columns))")
        try connection.execute("CREATE TABLE \(rejectsTable) \(SystemColumns.sql(SystemColumns.rejects))")
    }

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
    ///
    /// `bytes` are those of the log, `memory` those of the values.
    func added(rows: Int, rejects: Int, bytes: Int, memory: Int) {
        state.withLock { state in
            state.rows += Int64(rows)
            state.rejects += Int64(rejects)
            state.bytes += bytes
            state.memory += memory
            if state.oldest == nil { state.oldest = .now }
        }
        charge?.set(memoryBytes)
    }

    /// Names the columns there are after some were added.
    func set(columns: [AppendTableSchemaVersion.Column]) {
        state.withLock { $0.columns = columns }
    }
}

/// The batches that statements can name, as long as somebody holds their rows.
final class FreshSources: RowSourceFinder {
    /// The table function that reads them.
    static let function = "__fresh_rows"

    private struct WeakBatch {
        weak var batch: SealedBatch?
    }

    private let batches = Mutex<[Int: WeakBatch]>([:])

    func add(_ number: Int, _ batch: SealedBatch) { batches.withLock { $0[number] = WeakBatch(batch: batch) } }
    func remove(_ number: Int) { batches.withLock { $0[number] = nil } }

    /// What a statement reads to get the rows or rejects of some batches.
    static func expression(_ numbers: [Int], _ part: AppendTableFile.Part) -> String {
        let list = numbers.map(String.init).joined(separator: ",")
        return "\(function)('\(part == .rows ? "rows" : "rejects"):\(list)')"
    }

    func sources(named text: String) -> [any RowSource]? {
        let pieces = text.split(separator: ":")
        guard pieces.count == 2, pieces[0] == "rows" || pieces[0] == "rejects" else { return nil }
        let numbers = pieces[1].split(separator: ",").map { Int($0) }
        return batches.withLock { batches in
            var found: [any RowSource] = []
            for number in numbers {
                guard let number, let batch = batches[number]?.batch else { return nil }
                found.append(pieces[0] == "rows" ? batch.rows : batch.rejects)
            }
            return found
        }
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
    /// The batches of large rounds, by the names that statements have for them.
    let sources = FreshSources()
    private let connections: ConnectionPool
    private let isReading = Mutex<Bool>(false)
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

    /// The open database, which can read ``sources``; opened at the first use.
    func database() async throws -> Database {
        let database = try await lake.database()
        if isReading.withLock({ $0 }) { return database }
        try await threads.run { [sources, self] in
            try isReading.withLock { isReading in
                if !isReading { try database.readRows(with: sources, as: FreshSources.function) }
                isReading = true
            }
        }
        return database
    }

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
