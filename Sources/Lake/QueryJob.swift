// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// One query on a reader's thread, from its text to the end of its rows.
struct QueryJob: Sendable {
    let sql: String
    let parameters: [DuckDBValue]
    let rowsMax: Int
    let allowWrites: Bool
    let names: (any QueryNames)?
    let threadNames: ThreadNames
    let control: StatementControl?
    let channel: QueryChannel
    let afterWrite: @Sendable () -> Void
    let guardian: WriteGuard

    /// Statements that can only read, as far as their kind tells; the read-only transaction sees to the rest.
    private static let readingKinds: Set<StatementKind> = [.select, .explain]
    /// What people may run who may write: rows and tables, nothing outside the database and nothing of its settings.
    private static let changingKinds: Set<StatementKind> = [
        .select, .explain, .insert, .update, .delete, .mergeInto, .create, .createFunction, .alter, .drop,
    ]
    /// Statements that must not run inside a transaction of ours.
    private static let ownTransactionKinds: Set<StatementKind> = [
        .transaction, .attach, .detach, .vacuum, .call, .pragma, .set, .variableSet, .load, .copyDatabase,
    ]

    /// Runs the query; `begin` is called once, with the stream as soon as the columns are known or with the error before.
    func run(on database: Database, begin: (Result<QueryStream, any Error>) -> Void) {
        var hasBegun = false
        do {
            try threadNames.with(names) {
                try body(database) { head in
                    hasBegun = true
                    begin(.success(QueryStream(head, channel: channel)))
                }
            }
            channel.finish(nil)
        } catch {
            let described = describe(error)
            channel.finish(described)
            if !hasBegun { begin(.failure(described)) }
        }
    }

    private func describe(_ error: any Error) -> any Error {
        guard let error = error as? DuckDBError else { return error }
        if error.code == .interrupted, let reason = channel.stopReason { return reason }
        if let fault = names?.fault(behind: error) { return fault }
        if error.code == .outOfMemory {
            return LakeError(
                .outOfMemory,
                "The query needs more memory and more space on disk than queries may use. (\(error.message))"
            )
        }
        return LakeError(error)
    }

    private func body(_ database: Database, _ begin: (QueryHead) -> Void) throws {
        if let reason = channel.stopReason { throw reason }
        let connection = try database.connect()
        if control != nil { connection.measureProgress() }
        channel.attach(connection.control)
        defer { channel.attach(nil) }
        control?.markStarted()
        if control != nil { try guardian.check(sql, on: connection) }
        let statement = try connection.prepare(sql)
        let kind = statement.kind
        // A query of somebody who may write is a query: its rows are computed as they are read.
        let allowWrites = self.allowWrites && !(control != nil && kind == .select)
        try checkChange(kind)
        guard allowWrites || Self.readingKinds.contains(kind) else {
            throw LakeError(
                .readOnly,
                "Only queries are allowed here (SELECT, FROM, SHOW, DESCRIBE, SUMMARIZE, EXPLAIN); this is \(kind). Tables are "
                    + "written by functions and transactions."
            )
        }
        let isTransaction = !allowWrites || !Self.ownTransactionKinds.contains(kind)
        if isTransaction { try connection.execute(allowWrites ? "BEGIN TRANSACTION" : "BEGIN TRANSACTION READ ONLY") }
        let isGuarded = allowWrites && control != nil
        let before = isGuarded ? try guardian.state(on: connection) : nil
        try statement.bind(parameters)
        let result = allowWrites ? try statement.execute() : try read(statement)
        if let before { try guardian.check(since: before, on: connection) }
        if allowWrites, isTransaction { try connection.execute("COMMIT") }
        if allowWrites, !Self.readingKinds.contains(kind) { afterWrite() }
        // What goes wrong with the first rows is then an error of the query and not of a stream that has begun.
        var next = try result.nextChunk()
        begin(
            QueryHead(columns: result.columns, kind: kind, rowsChanged: result.rowsChanged, hasRows: result.hasRows)
        )
        var left = rowsMax
        while let chunk = next {
            if let reason = channel.stopReason { throw reason }
            if left == 0 {
                channel.markTruncated()
                return
            }
            let count = min(chunk.rowCount, left)
            if count < chunk.rowCount { channel.markTruncated() }
            left -= count
            guard channel.send(try batch(chunk, rowCount: count)) else {
                throw channel.stopReason ?? LakeError(.cancelled, "The query was cancelled.")
            }
            if count < chunk.rowCount { return }
            if let reason = channel.stopReason { throw reason }
            next = try result.nextChunk()
        }
    }

    /// Runs a statement in a read-only transaction.
    private func read(_ statement: PreparedStatement) throws -> QueryResult {
        let outcome = Result { try statement.executeStreaming() }
        if case .failure(let error) = outcome, let error = error as? DuckDBError, error.code == .conflict {
            throw LakeError(
                .readOnly,
                "Only queries are allowed here; this statement changes something. (\(error.message))"
            )
        }
        return try outcome.get()
    }

    private func batch(_ chunk: DataChunk, rowCount: Int) throws -> QueryBatch {
        if control != nil { return QueryBatch(columns: [], rowCount: rowCount, chunk: chunk) }
        let columns = try chunk.allValues()
        return QueryBatch(
            columns: rowCount < chunk.rowCount ? columns.map { Array($0[..<rowCount]) } : columns,
            rowCount: rowCount
        )
    }

    private func checkChange(_ kind: StatementKind) throws {
        if control != nil, allowWrites, sql.lowercased().contains(Lake.freshDatabase) {
            throw LakeError(
                .notAllowed,
                "\(Lake.freshDatabase) holds rows of append tables on their way to files; only the engine changes it. Name the table itself."
            )
        }
        guard control != nil, allowWrites, !Self.changingKinds.contains(kind) else { return }
        throw LakeError(
            .notAllowed,
            "A statement of kind \(kind) is not allowed. SELECT, EXPLAIN, INSERT, UPDATE, DELETE, MERGE, CREATE, ALTER and DROP are; "
                + "each statement is a transaction of its own."
        )
    }
}
