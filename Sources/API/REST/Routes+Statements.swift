// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore
import NIOCore

extension Route {
    static func statements(_ service: any StatementServices) -> [Route] {
        let id = Parameter.path("id", "Id of the statement.", example: "0c5d6bb5a2c14bd9a3ce929d0e0e4736", max: 64)
        let base = "\(prefix)/statements"
        return [
            Route(
                method: .post,
                path: base,
                id: "create_statement",
                tag: "statements",
                summary: "Start one SQL statement; its rows are fetched page by page.",
                body: .json("StatementCreate", isRequired: true),
                status: 201,
                contents: json("Statement"),
                refusals: [422],
                isReading: true
            ) { call in
                let status = try await service.start(StatementBody.request(call), by: call.caller)
                return try .encode(status, location: "\(base)/\(status.id)")
            },
            Route(
                method: .get,
                path: base,
                id: "list_statements",
                tag: "statements",
                summary: "List statements, newest first; a caller who may only read sees their own.",
                parameters: [
                    .query("active", .flag, "Only those that wait or work."),
                    .query("mine", .flag, "Only the caller's own."),
                ],
                contents: json("StatementList")
            ) { call in
                var statements = try await service.statements(by: call.caller)
                if call.query.flag("active") { statements = statements.filter { $0.finishedAt == nil } }
                if call.query.flag("mine") { statements = statements.filter { $0.caller == call.caller.name } }
                return try .page(statements)
            },
            Route(
                method: .get,
                path: "\(base)/{id}",
                id: "get_statement",
                tag: "statements",
                summary: "Show a statement: its state, progress and error.",
                parameters: [id],
                contents: json("Statement"),
                refusals: [404]
            ) { call in
                try .encode(try await service.statement(call.id, by: call.caller))
            },
            Route(
                method: .delete,
                path: "\(base)/{id}",
                id: "cancel_statement",
                tag: "statements",
                summary: "Cancel a statement, or forget one that has ended.",
                parameters: [id],
                status: 204,
                contents: [],
                refusals: [404],
                isReading: true
            ) { call in
                try await service.cancel(call.id, by: call.caller)
                return .empty
            },
            rows(service, id: id, path: "\(base)/{id}/rows"),
        ]
    }

    private static let arrow = "application/vnd.apache.arrow.stream"
    private static let csv = "text/csv"

    private static func rows(_ service: any StatementServices, id: Parameter, path: String) -> Route {
        Route(
            method: .get,
            path: path,
            id: "get_statement_rows",
            tag: "statements",
            summary:
                "One page of rows as JSON, as an Arrow IPC stream or as CSV; 202 with the statement while there are none yet.",
            parameters: [
                id,
                .query(
                    "cursor",
                    .text(max: 60),
                    "Where the page begins: `next_cursor`, or the header `X-Next-Cursor`."
                ),
                .query(
                    "page_size",
                    .integer(1...100_000, default: 10_000),
                    "Most rows; large rows make smaller pages."
                ),
                .query("wait_ms", .integer(0...60_000, default: 10_000), "Longest wait for rows, in milliseconds."),
            ],
            otherStatus: 202,
            otherSchema: "Statement",
            contents: [
                Content(type: "application/json", schema: "StatementRows"), Content(type: arrow, schema: nil),
                Content(type: csv, schema: nil),
            ],
            refusals: [404, 409, 422, 504, 507]
        ) { call in
            let isArrow = call.answerType == arrow
            let query = StatementRowsQuery(
                cursor: call.query.text("cursor"),
                pageSize: call.query.integer("page_size") ?? 10_000,
                wait: .milliseconds(call.query.integer("wait_ms") ?? 10_000),
                format: isArrow ? .arrow : .json
            )
            guard let page = try await service.rows(call.id, query, by: call.caller) else {
                return try .encode(try await service.statement(call.id, by: call.caller), status: .accepted)
            }
            if isArrow { return .response(page.response(type: arrow, bytes: page.rows)) }
            guard call.answerType == csv else { return .json(try page.json()) }
            return .response(
                page.response(type: "\(csv); charset=utf-8", bytes: try page.csv(withTitles: query.cursor == nil))
            )
        }
    }
}

/// The body of a new statement.
private enum StatementBody {
    static func request(_ call: Call) throws -> StatementRequest {
        var fields = try call.fields()
        var request = StatementRequest(try FieldReader.required(try fields.string("sql"), "sql"))
        request.parameters = try fields.array("parameters") ?? []
        let seconds = try fields.integer("timeout_seconds")
        request.write = try boolean(fields.value("write"), "write") ?? false
        request.maxStaleness = try staleness(fields.value("max_staleness"))
        request.asOf = try fields.texts("as_of") ?? [:]
        try fields.finish()
        if let seconds {
            guard (1...86_400).contains(seconds) else {
                throw ServiceError.invalid(
                    field: "timeout_seconds",
                    "\(seconds) is out of range",
                    fix: "use 1 to 86400"
                )
            }
            request.timeout = .seconds(seconds)
        }
        guard request.parameters.allSatisfy({ $0.kind != .array && $0.kind != .object }) else {
            throw ServiceError.invalid(
                field: "parameters",
                "has a list or an object",
                fix: "use strings, numbers, booleans or null"
            )
        }
        return request
    }

    private static func boolean(_ value: JSONValue?, _ name: String) throws -> Bool? {
        guard let value else { return nil }
        guard let flag = value.boolValue else {
            throw ServiceError.invalid(field: name, "must be true or false, not \(value.kind.noun)")
        }
        return flag
    }

    private static func staleness(_ value: JSONValue?) throws -> Duration? {
        guard let value else { return nil }
        let seconds = value.intValue.map { Double($0) } ?? value.doubleValue
        guard let seconds, (0...31_536_000).contains(seconds) else {
            throw ServiceError.invalid(
                field: "max_staleness",
                "must be a number of seconds, not \(value.text.prefix(60))",
                fix: "use 0 or more, for example 60"
            )
        }
        return .seconds(seconds)
    }
}

extension StatementPage {
    /// `{"columns":…,"rows":…,"next_cursor":…}`, with `rows_changed` where there is one.
    fileprivate func json() throws -> [UInt8] {
        var bytes = Array(#"{"columns":"#.utf8)
        bytes.reserveCapacity(rows.count + 100 * columns.count + 200)
        bytes += Array(try Reply.encoder().encode(columns))
        bytes += Array(#","next_cursor":"#.utf8)
        JSONWriter.append(nextCursor.map { .string($0) } ?? .null, to: &bytes)
        bytes += Array(#","rows":"#.utf8)
        bytes += rows
        if let rowsChanged { bytes += Array(#","rows_changed":\#(rowsChanged)"#.utf8) }
        bytes.append(0x7D)
        return bytes
    }

    /// The rows as CSV; only the first page has the names, so that pages can be put behind each other.
    fileprivate func csv(withTitles: Bool) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(rows.count)
        if withTitles { CSVAnswer.append(columns.map { .string($0.name) }, to: &bytes) }
        for row in try JSONValue(parsing: rows, keepingRepeatedKeys: true).arrayValue ?? [] {
            CSVAnswer.append(row.arrayValue ?? [], to: &bytes)
        }
        return bytes
    }

    fileprivate func response(type: String, bytes: [UInt8]) -> Response {
        var headers: HTTPFields = [.contentType: type]
        if let nextCursor, let name = HTTPFields.Element.Name("X-Next-Cursor") { headers[name] = nextCursor }
        return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }
}
