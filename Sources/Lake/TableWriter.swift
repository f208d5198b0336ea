// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import Glibc
internal import Logging

/// The one thread that changes the tables, which puts all waiting transactions into one DuckDB transaction.
final class TableWriter: Sendable {
    private let queue: WriteQueue
    private let logger: Logger

    /// A piece of work for the writer's thread.
    enum Work: Sendable {
        case transaction(TableTransaction, CheckedContinuation<TableCommitResult, any Error>)
        /// Something that needs the tables for itself, such as dropping one, and what to do when it cannot run.
        case exclusive(@Sendable (inout WriterState) -> Void, refuse: @Sendable (LakeError) -> Void)
    }

    /// What the thread works with; it never leaves it.
    struct WriterState {
        let connection: Connection
        var catalog: TableCatalog
        let deletes = DeleteStatements()
        /// The times that stand in DuckDB's catalog, by lowercased table name.
        var timesKept: [String: Int64] = [:]
    }

    init(configuration: LakeConfiguration, logger: Logger) {
        queue = WriteQueue(configuration: configuration)
        self.logger = logger
    }

    /// Starts the thread on an open database.
    func start(_ database: Database) {
        startThread(name: "lake-writer") { [self] in run(database) }
    }

    func commit(_ transaction: TableTransaction) async throws -> TableCommitResult {
        try await withCheckedThrowingContinuation { continuation in
            if let refusal = queue.append(.transaction(transaction, continuation), rows: transaction.rowCount) {
                continuation.resume(throwing: refusal)
            }
        }
    }

    func exclusive<R: Sendable>(_ body: @escaping @Sendable (inout WriterState) throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<R, any Error>) in
            let work = Work.exclusive(
                { state in
                    do {
                        continuation.resume(returning: try body(&state))
                    } catch let error as DuckDBError {
                        continuation.resume(throwing: LakeError(error))
                    } catch {
                        continuation.resume(throwing: error)
                    }
                },
                refuse: { continuation.resume(throwing: $0) }
            )
            if let refusal = queue.append(work, rows: 0) { continuation.resume(throwing: refusal) }
        }
    }

    /// Reads the catalog again before the next transaction, because SQL may have changed it.
    func forgetCatalog() {
        queue.markCatalogStale()
    }

    /// Whether nothing waits and nothing runs.
    var isIdle: Bool { queue.isIdle }

    /// Takes no more work, carries out what waits and ends the thread.
    func stop() async {
        await withCheckedContinuation { continuation in
            queue.close { continuation.resume() }
        }
    }

    // MARK: The thread

    private func run(_ database: Database) {
        var state: WriterState
        do {
            let connection = try database.connect()
            state = WriterState(connection: connection, catalog: try TableCatalog.load(connection))
        } catch {
            let refusal = (error as? DuckDBError).map { LakeError($0) } ?? LakeError(.internal, "\(error)")
            while let batch = queue.next() {
                for work in batch.work { Self.refuse(work, refusal) }
                queue.finish()
            }
            queue.ended()
            return
        }
        while let batch = queue.next() {
            if batch.isCatalogStale { reload(&state) }
            var group: [(TableTransaction, CheckedContinuation<TableCommitResult, any Error>)] = []
            for work in batch.work {
                switch work {
                case .transaction(let transaction, let continuation): group.append((transaction, continuation))
                case .exclusive(let body, _):
                    commit(&group, &state)
                    body(&state)
                }
            }
            commit(&group, &state)
            queue.finish()
        }
        persistTimes(&state)
        queue.ended()
    }

    private static func refuse(_ work: Work, _ error: LakeError) {
        switch work {
        case .transaction(_, let continuation): continuation.resume(throwing: error)
        case .exclusive(_, let refuse): refuse(error)
        }
    }

    /// Reads the tables there are again.
    func reload(_ state: inout WriterState) {
        state.deletes.removeAll()
        do {
            var catalog = try TableCatalog.load(state.connection)
            for (name, schema) in state.catalog.tables {
                guard let updated = schema.updated, updated > catalog[name]?.updated ?? 0 else { continue }
                catalog[name]?.updated = updated
            }
            state.catalog = catalog
        } catch {
            logger.error("the tables' catalog cannot be read again", metadata: ["error": "\(error)"])
        }
    }

    /// Commits a group in one DuckDB transaction, or each of its transactions alone when that fails.
    private func commit(
        _ group: inout [(TableTransaction, CheckedContinuation<TableCommitResult, any Error>)],
        _ state: inout WriterState
    ) {
        guard !group.isEmpty else { return }
        defer { group.removeAll() }
        let now = Self.now()
        var plan = GroupPlan(catalog: state.catalog)
        var accepted:
            [(transaction: TableTransaction, continuation: CheckedContinuation<TableCommitResult, any Error>)] = []
        for (transaction, continuation) in group {
            do {
                try plan.add(transaction, now: now)
                accepted.append((transaction, continuation))
            } catch {
                continuation.resume(throwing: error)
            }
        }
        guard !accepted.isEmpty else { return }
        do {
            let results = try execute(&plan, &state)
            for (index, entry) in accepted.enumerated() { entry.continuation.resume(returning: results[index]) }
        } catch {
            if accepted.count > 1 {
                logger.warning(
                    "a group of transactions failed and is repeated one by one",
                    metadata: ["transactions": "\(accepted.count)", "error": "\(error)"]
                )
            }
            reload(&state)
            for entry in accepted {
                commitAlone(entry.transaction, entry.continuation, &state, firstError: accepted.count > 1 ? nil : error)
            }
        }
    }

    private func commitAlone(
        _ transaction: TableTransaction,
        _ continuation: CheckedContinuation<TableCommitResult, any Error>,
        _ state: inout WriterState,
        firstError: (any Error)?
    ) {
        // A conflict with a statement of `allowWrites` passes when that statement is done; anything else stays.
        if let firstError, (firstError as? DuckDBError)?.code != .conflict {
            continuation.resume(throwing: Self.described(firstError))
            return
        }
        do {
            var plan = GroupPlan(catalog: state.catalog)
            try plan.add(transaction, now: Self.now())
            continuation.resume(returning: try execute(&plan, &state)[0])
        } catch {
            reload(&state)
            continuation.resume(throwing: Self.described(error))
        }
    }

    private static func described(_ error: any Error) -> any Error {
        guard let error = error as? DuckDBError else { return error }
        return LakeError(error)
    }

    private func execute(_ plan: inout GroupPlan, _ state: inout WriterState) throws -> [TableCommitResult] {
        let execution = GroupExecution(connection: state.connection, before: state.catalog, deletes: state.deletes)
        try state.connection.transaction { try execution.run(&plan) }
        state.catalog = plan.catalog
        return plan.results
    }

    /// Writes the time of the last change of each table into DuckDB's catalog.
    func persistTimes(_ state: inout WriterState) {
        for (name, schema) in state.catalog.tables {
            guard let updated = schema.updated, state.timesKept[name] != updated else { continue }
            let comment = TableTimes.comment(created: schema.created, updated: schema.updated)
            do {
                try state.connection.execute("COMMENT ON TABLE \(schema.quotedName) IS \(SQLText.literal(comment))")
                state.timesKept[name] = updated
            } catch {
                logger.warning(
                    "a table's times cannot be kept",
                    metadata: ["table": "\(schema.name)", "error": "\(error)"]
                )
            }
        }
    }

    /// Microseconds since 1970.
    static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
    }
}
