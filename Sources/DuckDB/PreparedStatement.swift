// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import CDuckDB
internal import Glibc

/// What a statement does, as DuckDB's parser says.
package enum StatementKind: Int32, Sendable, Hashable {
    case invalid = 0
    case select, insert, update, explain, delete, prepare, create, execute, alter, transaction, copy, analyze
    case variableSet, createFunction, drop, export, pragma, vacuum, call, set, load, relation, `extension`, logicalPlan
    case attach, detach, multi, copyDatabase, updateExtensions, mergeInto
    case unknown = -1
}

/// The statements of one SQL text.
package final class SQLScript {
    /// How many statements there are.
    package let count: Int
    private let connection: Connection
    private var handle: duckdb_extracted_statements?

    init(connection: Connection, sql: String) throws(DuckDBError) {
        self.connection = connection
        guard !sql.utf8.contains(0) else { throw DuckDBError(.syntax, "The SQL text contains a zero byte.") }
        count = Int(connection.api.pointee.extract_statements(connection.handle, sql, &handle))
        if count == 0, let message = connection.api.pointee.extract_statements_error(handle) {
            let text = String(cString: message)
            if !text.isEmpty {
                connection.api.pointee.destroy_extracted(&handle)
                throw DuckDBError(.syntax, text)
            }
        }
    }

    deinit {
        connection.api.pointee.destroy_extracted(&handle)
    }

    /// Prepares the statement at an index; the ones before it must have been executed when they change the catalog.
    package func prepare(_ index: Int) throws(DuckDBError) -> PreparedStatement {
        precondition(index >= 0 && index < count, "SQLScript: statement \(index) of \(count)")
        var statement: duckdb_prepared_statement?
        let state = connection.api.pointee.prepare_extracted_statement(
            connection.handle,
            handle,
            idx_t(index),
            &statement
        )
        guard state == 0, let statement else {
            let message = connection.api.pointee.prepare_error(statement).map { String(cString: $0) }
            connection.api.pointee.destroy_prepare(&statement)
            throw DuckDBError(Self.code(of: message), message ?? "DuckDB cannot prepare the statement.")
        }
        return PreparedStatement(connection: connection, handle: statement)
    }

    /// The C API gives no error number for preparing, only a text that begins with the error's name.
    private static func code(of message: String?) -> DuckDBError.Code {
        guard let message else { return .other }
        let codes: [(String, DuckDBError.Code)] = [
            ("Parser Error", .syntax), ("Binder Error", .binding), ("Catalog Error", .catalog), ("IO Error", .io),
            ("Permission Error", .permission), ("Conversion Error", .conversion), ("Constraint Error", .constraint),
            ("Invalid Input Error", .invalidInput), ("INTERRUPT", .interrupted), ("Out of Memory", .outOfMemory),
            ("FATAL", .fatal), ("Missing Extension", .permission),
        ]
        return codes.first { message.hasPrefix($0.0) }?.1 ?? .other
    }
}

/// A statement that DuckDB has planned, with places for parameters.
package final class PreparedStatement {
    private let connection: Connection
    private var handle: duckdb_prepared_statement?

    init(connection: Connection, handle: duckdb_prepared_statement) {
        self.connection = connection
        self.handle = handle
    }

    deinit {
        connection.api.pointee.destroy_prepare(&handle)
    }

    /// What the statement does.
    package var kind: StatementKind {
        StatementKind(rawValue: connection.api.pointee.prepared_statement_type(handle)) ?? .unknown
    }

    /// How many parameters the statement has.
    package var parameterCount: Int { Int(connection.api.pointee.nparams(handle)) }

    /// Binds all parameters in order.
    package func bind(_ parameters: [DuckDBValue]) throws(DuckDBError) {
        guard parameters.count == parameterCount else {
            throw DuckDBError(
                .invalidInput,
                "The statement has \(parameterCount) parameters and \(parameters.count) values were given."
            )
        }
        for (index, value) in parameters.enumerated() { try bind(value, at: index) }
    }

    /// Binds values to parameters by name; every name must be one of the statement's.
    package func bind(named parameters: [(name: String, value: DuckDBValue)]) throws(DuckDBError) {
        for (name, value) in parameters {
            var index: idx_t = 0
            guard connection.api.pointee.bind_parameter_index(handle, &index, name) == 0, index > 0 else {
                throw DuckDBError(.invalidInput, "The statement has no parameter named \(name).")
            }
            try bind(value, at: Int(index) - 1)
        }
    }

    /// Binds one parameter, counted from 0.
    package func bind(_ value: DuckDBValue, at index: Int) throws(DuckDBError) {
        let place = idx_t(index + 1)
        let api = connection.api
        let state: duckdb_state
        switch value {
        case .null: state = api.pointee.bind_null(handle, place)
        case .bool(let value): state = api.pointee.bind_boolean(handle, place, value)
        case .int(let value): state = api.pointee.bind_int64(handle, place, value)
        case .hugeint(let value): state = api.pointee.bind_hugeint(handle, place, duckdb_hugeint(value))
        case .double(let value): state = api.pointee.bind_double(handle, place, value)
        case .decimal(let value):
            let decimal = duckdb_decimal(width: value.width, scale: value.scale, value: duckdb_hugeint(value.unscaled))
            state = api.pointee.bind_decimal(handle, place, decimal)
        case .date(let days): state = api.pointee.bind_date(handle, place, duckdb_date(days: days))
        case .timestamp(let micros):
            state = api.pointee.bind_timestamp(handle, place, duckdb_timestamp(micros: micros))
        case .blob(let bytes):
            state = bytes.withUnsafeBytes { api.pointee.bind_blob(handle, place, $0.baseAddress, idx_t($0.count)) }
        case .string, .json, .uuid, .time, .timestampNanoseconds, .timestampTZ, .interval, .uhugeint:
            var text = value.text
            state = text.withUTF8 { buffer in
                buffer.withMemoryRebound(to: CChar.self) {
                    api.pointee.bind_varchar_length(handle, place, $0.baseAddress, idx_t($0.count))
                }
            }
        }
        guard state == 0 else {
            let message = api.pointee.prepare_error(handle).map { String(cString: $0) } ?? "DuckDB gave no reason."
            throw DuckDBError(.invalidInput, "Parameter \(index + 1) cannot be bound: \(message)")
        }
    }

    /// Runs the statement to its end and returns its result in memory.
    package func execute() throws(DuckDBError) -> QueryResult {
        try run(connection.api.pointee.execute_prepared)
    }

    /// Runs the statement to its end and returns its result in memory, as ``execute()``; for statements that take long.
    ///
    /// While DuckDB's own threads have all the work there is, this one sleeps. `execute()` asks again and again instead, which takes a
    /// processor from whoever could use it.
    package func executePatiently() throws(DuckDBError) -> QueryResult {
        let api = connection.api
        var pending: duckdb_pending_result?
        let state = api.pointee.pending_prepared(handle, &pending)
        defer { api.pointee.destroy_pending(&pending) }
        var pause: UInt32 = 0
        // 1: there is more to do; 3: others do it. What is wrong shows when the result is asked for.
        while state == 0 {
            let progress = api.pointee.pending_execute_task(pending)
            guard progress == 1 || progress == 3 else { break }
            pause = progress == 3 ? min(Self.pauseMaxMicroseconds, pause * 2 + 10) : 0
            if pause > 0 { usleep(pause) }
        }
        return try run { _, result in api.pointee.execute_pending(pending, result) }
    }

    private static let pauseMaxMicroseconds: UInt32 = 500

    /// Starts the statement; its rows are computed as they are fetched.
    ///
    /// No other statement may run on the connection before the result is read to its end or dropped.
    package func executeStreaming() throws(DuckDBError) -> QueryResult {
        try run(connection.api.pointee.execute_prepared_streaming)
    }

    private func run(
        _ call: (duckdb_prepared_statement?, UnsafeMutablePointer<duckdb_result>?) -> duckdb_state
    ) throws(DuckDBError) -> QueryResult {
        var result = duckdb_result()
        let state = call(handle, &result)
        do {
            try connection.check(state, &result)
        } catch {
            connection.api.pointee.destroy_result(&result)
            throw error
        }
        return QueryResult(connection: connection, result: result)
    }
}

extension duckdb_hugeint {
    init(_ value: Int128) {
        self.init(lower: UInt64(truncatingIfNeeded: value), upper: Int64(truncatingIfNeeded: value >> 64))
    }
}
