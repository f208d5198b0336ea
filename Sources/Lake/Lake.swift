// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB
internal import Glibc
package import Logging
internal import ServiceLifecycle
internal import Synchronization

/// Keyed tables in DuckDB: transactions of upserts and deletes, and SQL over them.
///
/// Nothing is opened before the first use or ``open()``. One thread commits; queries have threads and connections of their
/// own and see the tables as they were when they began, so neither waits for the other.
package final class Lake: Service {
    /// How a table can be written to a file.
    package enum ExportFormat: String, Sendable, CaseIterable {
        case parquet, csv
    }

    /// Name of the database in memory where rows wait that are not in a file yet.
    package static let freshDatabase = "__fresh"

    /// The settings it was made with.
    package let configuration: LakeConfiguration
    private let logger: Logger
    private let opener = DatabaseThread(name: "lake-open")
    private let readers: DatabaseThread
    private let statements: DatabaseThread
    private let writer: TableWriter
    private let watchdog = QueryWatchdog()
    private let threadNames = ThreadNames()
    private let followers = Mutex<Set<String>>([])
    private let fileTables = Mutex(ReservedNames())
    private let state = Mutex<State>(.unopened)
    private let fault = Mutex<LakeError?>(nil)

    private enum State {
        case unopened
        case open(Database)
        case closed
    }

    /// Makes a lake without touching any file.
    package init(configuration: LakeConfiguration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        readers = DatabaseThread(
            name: "lake-reader",
            threads: configuration.queriesMax,
            queueMax: configuration.queriesWaitingMax
        )
        statements = DatabaseThread(
            name: "lake-statement",
            threads: configuration.statementsMax,
            queueMax: configuration.queriesWaitingMax
        )
        writer = TableWriter(configuration: configuration, logger: logger)
    }

    // MARK: Opening and closing

    /// Loads DuckDB and opens the tables' database, which otherwise happens at the first use.
    /// - Throws: ``LakeError`` `unavailable` (library missing, file locked or unreadable) or `damaged`.
    package func open() async throws {
        _ = try await database()
    }

    /// Carries out what waits, writes a checkpoint and closes the database; later calls are refused.
    package func close() async {
        let previous = state.withLock { state in
            defer { state = .closed }
            return state
        }
        opener.stop()
        if case .open = previous {
            do {
                try await checkpoint()
            } catch {
                logger.warning("the tables' last checkpoint failed; the log is kept", metadata: ["error": "\(error)"])
            }
            await writer.stop()
        }
        readers.stop()
        statements.stop()
    }

    /// Writes checkpoints while nobody commits, until graceful shutdown or cancellation, and then closes.
    package func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            while !Task.isCancelled {
                do {
                    try await Task.sleep(for: .seconds(1))
                } catch {
                    return  // Cancelled: the loop is to end.
                }
                await checkpointWhenIdle()
            }
        }
        await close()
    }

    private func checkpointWhenIdle() async {
        guard case .open = state.withLock({ $0 }), writer.isIdle, walBytes() >= configuration.idleCheckpointBytes else {
            return
        }
        do {
            try await checkpoint()
        } catch let error as LakeError where error.code == .busy || error.code == .closed {
            logger.debug("a checkpoint of the tables was put off", metadata: ["error": "\(error)"])
        } catch {
            logger.warning("a checkpoint of the tables failed", metadata: ["error": "\(error)"])
        }
    }

    /// Moves the write-ahead log into the database file.
    /// - Throws: ``LakeError`` `busy` while a query still runs that began before the last change of rows or tables: DuckDB
    ///   keeps what the query sees until it ends. Nothing is lost; try again later.
    package func checkpoint() async throws {
        try await writer.exclusive { [writer] state in
            writer.persistTimes(&state)
            try state.connection.execute("CHECKPOINT")
        }
    }

    private func walBytes() -> Int {
        var status = stat()
        return stat(configuration.walPath, &status) == 0 ? Int(status.st_size) : 0
    }

    /// The open database, for connections of one's own; opened at the first use.
    /// - Throws: ``LakeError`` `unavailable`, `damaged` or `closed`.
    package func database() async throws -> Database {
        if let database = try opened() { return database }
        do {
            return try await opener.run { [self] in
                if let database = try opened() { return database }
                let database = try openDatabase()
                let isClosed = state.withLock { state in
                    if case .closed = state { return true }
                    state = .open(database)
                    return false
                }
                if isClosed { throw Self.closed }
                writer.start(database)
                fault.withLock { $0 = nil }
                return database
            }
        } catch let error as DuckDBError {
            let failure = LakeError(error)
            fault.withLock { $0 = failure }
            throw failure
        }
    }

    /// Why the database could not be opened when that was last tried.
    package var openingFault: LakeError? { fault.withLock { $0 } }

    /// The database where it is open; nil before the first use and after closing.
    package var openedDatabase: Database? {
        guard case .open(let database) = state.withLock({ $0 }) else { return nil }
        return database
    }

    private static var closed: LakeError { LakeError(.closed, "The tables are closed; the engine is stopping.") }

    private func opened() throws -> Database? {
        switch state.withLock({ $0 }) {
        case .unopened: return nil
        case .open(let database): return database
        case .closed: throw Self.closed
        }
    }

    private func openDatabase() throws -> Database {
        for directory in [
            configuration.directory, configuration.temporaryDirectory, configuration.exportDirectory,
            configuration.appendDirectory,
        ] {
            guard mkdir(directory, 0o700) == 0 || errno == EEXIST else {
                throw LakeError(
                    .unavailable,
                    "The folder \(directory) cannot be made: \(String(cString: strerror(errno)))"
                )
            }
        }
        let library = try DuckDBLibrary.load(
            explicit: configuration.libraryPath,
            candidates: configuration.libraryCandidates
        )
        let started = ContinuousClock.now
        let database = try Database(
            library: library,
            path: configuration.databasePath,
            configuration: DatabaseConfiguration(
                memoryBytesMax: configuration.memoryBytesMax,
                threads: configuration.threads,
                temporaryDirectory: configuration.temporaryDirectory,
                spillBytesMax: configuration.spillBytesMax,
                checkpointBytes: configuration.checkpointBytes,
                fileDirectories: [configuration.exportDirectory, configuration.appendDirectory],
                memoryDatabases: [Self.freshDatabase]
            )
        )
        database.resolveNames(with: threadNames)
        logger.info(
            "tables opened",
            metadata: ["duckdb": "\(library.version)", "took": "\(ContinuousClock.now - started)"]
        )
        return database
    }

    // MARK: Transactions

    /// Carries out a transaction; on return it is durable.
    ///
    /// It shares one DuckDB transaction with others that wait; when that fails each is repeated alone, so that only the one
    /// at fault gets the error. A cancelled task does not take its transaction back.
    /// - Throws: ``LakeError`` naming the operation, table, column and row at fault; nothing of the transaction is applied.
    package func commit(_ transaction: TableTransaction) async throws -> TableCommitResult {
        _ = try await database()
        try followers.withLock { followers in
            for (index, operation) in transaction.operations.enumerated()
            where ReservedNames.isEngineName(operation.table) {
                throw LakeError(
                    .reserved,
                    "Names of tables that begin with '\(ReservedNames.prefix)' are the engine's own. Choose another name.",
                    operation: index,
                    table: operation.table
                )
            }
            guard !followers.isEmpty else { return }
            for (index, operation) in transaction.operations.enumerated()
            where followers.contains(operation.table.lowercased()) {
                throw LakeError(
                    .followsTopic,
                    "The table follows a topic, which alone says what its rows are. Emit a record to the topic instead.",
                    operation: index,
                    table: operation.table
                )
            }
        }
        return try await writer.commit(transaction)
    }

    /// Names the tables that follow topics, with what belongs to them: ``commit(_:)``, ``dropTable(_:)`` and ``tables()`` leave
    /// them alone.
    package func setFollowers(_ names: some Sequence<String>) {
        let folded = Set(names.map { $0.lowercased() })
        followers.withLock { $0 = folded }
    }

    /// Names the tables whose rows are in files: SQL that writes can neither take nor change their names.
    package func setFileTables(_ tables: some Sequence<FileTable>) {
        let names = ReservedNames(tables)
        fileTables.withLock { $0 = names }
    }

    /// Whether DuckDB could make a table of this name: neither a table nor a view has it, and no transaction that is under way gives it
    /// to one.
    ///
    /// Who calls it after ``setFileTables(_:)`` can rely on it: what began before is found here, what begins later is refused.
    package func isFree(_ name: String) async throws -> Bool {
        _ = try await database()
        return try await writer.exclusive { state in try Self.canMake(name, on: state.connection) }
    }

    private static func canMake(_ name: String, on connection: Connection) throws -> Bool {
        try connection.execute("BEGIN TRANSACTION")
        let outcome = Result { try connection.execute("CREATE TABLE \(SQLText.identifier(name)) (i INTEGER)") }
        // Nothing is to stay of it, whether it succeeded or not; a transaction that failed needs no other end.
        try? connection.execute("ROLLBACK")
        if case .failure(let error) = outcome, let error = error as? DuckDBError,
            error.code == .catalog || error.code == .conflict
        {
            return false
        }
        try outcome.get()
        return true
    }

    /// Runs `body` in one DuckDB transaction on the only connection that commits; on return it is durable.
    ///
    /// `body` blocks the commits of all tables. Where it makes, changes or drops tables, `changesTables` must be true.
    /// - Throws: ``LakeError``, or what `body` throws; nothing is applied then, unless the disk failed while committing.
    package func transact<R: Sendable>(
        changesTables: Bool = false,
        _ body: @escaping @Sendable (Connection) throws -> R
    ) async throws -> R {
        _ = try await database()
        return try await writer.exclusive { [writer] state in
            defer { if changesTables { writer.reload(&state) } }
            return try state.connection.transaction { try body(state.connection) }
        }
    }

    // MARK: Queries

    /// Runs one SQL statement and streams its rows.
    ///
    /// Without `allowWrites` the statement must be a query, it runs in a read-only transaction, and files can only be read
    /// from the export folder and those of append tables. `names` says what further tables there are. At most `rowsMax` rows are
    /// given, then ``QueryStream/isTruncated`` is true. With a `control` writing is limited to statements that change rows and tables.
    /// - Throws: ``LakeError`` `invalidSQL`, `readOnly`, `busy`, `timeout` or `cancelled`.
    package func query(
        _ sql: String,
        parameters: [DuckDBValue] = [],
        rowsMax: Int = .max,
        timeout: Duration? = nil,
        allowWrites: Bool = false,
        names: (any QueryNames)? = nil,
        control: StatementControl? = nil
    ) async throws -> QueryStream {
        let database = try await database()
        let channel = QueryChannel(
            deadline: .now + (timeout ?? configuration.queryTimeout),
            countsReading: control == nil
        )
        control?.attach(channel)
        let threads = control == nil ? readers : statements
        let job = QueryJob(
            sql: sql,
            parameters: parameters,
            rowsMax: rowsMax,
            allowWrites: allowWrites,
            names: names,
            threadNames: threadNames,
            control: control,
            channel: channel,
            afterWrite: { [writer] in writer.forgetCatalog() },
            guardian: WriteGuard { [weak self] in self?.fileTables.withLock { $0 } ?? ReservedNames() }
        )
        watchdog.add(channel)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let outcome = threads.submit { [watchdog] in
                    job.run(on: database) { continuation.resume(with: $0) }
                    watchdog.remove(channel)
                }
                if let error = outcome {
                    watchdog.remove(channel)
                    continuation.resume(throwing: LakeError(error))
                }
            }
        } onCancel: {
            channel.cancel()
        }
    }

    // MARK: Tables

    /// What a table is and holds.
    package struct TableDescription: Sendable, Hashable {
        /// Name, columns, key and times.
        package let schema: TableSchema
        /// How many rows it has.
        package let rowCount: Int64
    }

    /// All tables by name, but for those that follow topics.
    package func tables() async throws -> [TableDescription] {
        _ = try await database()
        let schemas = try await writer.exclusive { state in Array(state.catalog.tables.values) }
        var descriptions: [TableDescription] = []
        let followers = followers.withLock { $0 }
        for schema in schemas.sorted(by: { $0.name < $1.name }) where !followers.contains(schema.name.lowercased()) {
            guard let description = try await describe(schema) else { continue }
            descriptions.append(description)
        }
        return descriptions
    }

    /// One table by its name in any case.
    /// - Throws: ``LakeError`` `unknownTable`.
    package func table(_ name: String) async throws -> TableDescription {
        _ = try await database()
        guard let schema = try await writer.exclusive({ state in state.catalog[name] }),
            let description = try await describe(schema)
        else { throw Self.unknown(name) }
        return description
    }

    /// Names of the tables and views in the tables' file, ordered.
    package func tableNames() async throws -> [String] {
        try await query(
            "SELECT table_name FROM information_schema.tables WHERE table_catalog = current_database() ORDER BY 1"
        ).rows().map { $0[0].text }
    }

    /// Removes a table with its rows.
    /// - Throws: ``LakeError`` `unknownTable`.
    package func dropTable(_ name: String) async throws {
        _ = try await database()
        guard !followers.withLock({ $0.contains(name.lowercased()) }) else {
            throw LakeError(
                .followsTopic,
                "The table belongs to one that follows a topic, and goes when that one is deleted.",
                table: name
            )
        }
        try await writer.exclusive { state in
            guard let schema = state.catalog[name] else { throw Self.unknown(name) }
            try state.connection.execute("DROP TABLE \(schema.quotedName)")
            state.catalog[name] = nil
            state.deletes.removeAll()
        }
    }

    /// Writes all rows of a table to a file, which appears whole or not at all.
    /// - Returns: How many rows were written.
    package func export(_ name: String, format: ExportFormat, to path: String) async throws -> Int64 {
        try await export(query: "FROM \(table(name).schema.quotedName)", format: format, to: path)
    }

    /// Writes all rows of a query to a file, which appears whole or not at all.
    /// - Returns: How many rows were written.
    package func export(query: String, format: ExportFormat, to path: String) async throws -> Int64 {
        let part = "\(configuration.exportDirectory)/\(UInt64.random(in: .min ... .max)).\(format.rawValue)"
        let options = format == .parquet ? "FORMAT parquet, COMPRESSION zstd" : "FORMAT csv, HEADER true"
        defer { unlink(part) }
        let stream = try await self.query(
            "COPY (\(query)) TO \(SQLText.literal(part)) (\(options))",
            timeout: .seconds(3600),
            allowWrites: true
        )
        var count: Int64 = 0
        for row in try await stream.rows() { if case .int(let rows)? = row.first { count = rows } }
        try await opener.run { try FileMove.move(part, to: path) }
        return count
    }

    private static func unknown(_ name: String) -> LakeError {
        LakeError(.unknownTable, "There is no table \(name). `tables list` shows the tables there are.", table: name)
    }

    /// Nil when the table was dropped in between.
    private func describe(_ schema: TableSchema) async throws -> TableDescription? {
        do {
            let rows = try await query("SELECT count(*) FROM \(schema.quotedName)").rows()
            guard case .int(let count)? = rows.first?.first else { return nil }
            return TableDescription(schema: schema, rowCount: count)
        } catch let error as LakeError where error.code == .invalidSQL {
            return nil
        }
    }
}
