// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore
import NIOCore

extension Route {
    static func tables(_ service: any TableServices) -> [Route] {
        let name = Parameter.path("name", "Name of the table.", example: "files")
        return [
            Route(
                method: .get,
                path: "\(prefix)/tables",
                id: "list_tables",
                tag: "tables",
                summary: "List tables by name.",
                parameters: Parameter.page + [
                    .query("topic", .text(max: 300), "Keeps tables that follow this topic.", example: "trips")
                ],
                contents: json("TableList"),
                refusals: [422]
            ) { call in
                let page = try await service.list(TableListQuery(list: call.listQuery, topic: call.query.text("topic")))
                return try .page(page.items, next: page.nextCursor)
            },
            Route(
                method: .get,
                path: "\(prefix)/tables/{name}",
                id: "get_table",
                tag: "tables",
                summary: "Show a table's columns and rows.",
                parameters: [name],
                contents: json("Table"),
                refusals: [404, 422]
            ) { call in
                try .encode(try await service.get(call.path["name"] ?? ""))
            },
            Route(
                method: .delete,
                path: "\(prefix)/tables/{name}",
                id: "drop_table",
                tag: "tables",
                summary: "Drop a table with its rows.",
                parameters: [name],
                status: 204,
                contents: [],
                refusals: [404, 409, 422, 507]
            ) { call in
                try await service.delete(call.path["name"] ?? "", by: call.caller)
                return .empty
            },
            export(service, name: name),
            query(service),
        ]
    }

    private static func export(_ service: any TableServices, name: Parameter) -> Route {
        Route(
            method: .get,
            path: "\(prefix)/tables/{name}/export",
            id: "export_table",
            tag: "tables",
            summary: "Download a table as a file.",
            parameters: [
                name, .query("format", .choice(["parquet", "csv"], default: "parquet"), "Format of the file."),
            ],
            contents: [
                Content(type: "application/vnd.apache.parquet", schema: nil),
                Content(type: "text/csv", schema: nil),
            ],
            refusals: [404, 422, 507],
            negotiates: false
        ) { call in
            let format = TableFormat(rawValue: call.query.text("format") ?? "") ?? .parquet
            let table = call.path["name"] ?? ""
            let file = try TemporaryFile(path: try await service.export(table, format: format))
            var response = file.response(type: format == .csv ? "text/csv" : "application/vnd.apache.parquet")
            let shown = String(
                table.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-" || $0 == ".") }
            )
            response.headers[.contentDisposition] = "attachment; filename=\"\(shown).\(format.rawValue)\""
            return .response(response)
        }
    }

    private static func query(_ service: any TableServices) -> Route {
        Route(
            method: .post,
            path: "\(prefix)/sql",
            id: "run_sql",
            tag: "tables",
            summary: "Run one read-only SQL statement; text/csv streams all rows, JSON stops at the limit.",
            body: .json("Query", isRequired: true),
            contents: [
                Content(type: "application/json", schema: "QueryAnswer"), Content(type: "text/csv", schema: nil),
            ],
            refusals: [404, 409, 422, 504, 507],
            isReading: true,
            endsWithCaller: true
        ) { call in
            var fields = try call.fields()
            let sql = try FieldReader.required(try fields.string("sql"), "sql")
            let parameters = try fields.array("parameters") ?? []
            let seconds = try fields.integer("timeout_seconds") ?? 60
            let limit = try fields.integer("limit")
            let staleness = try fields.integer("max_staleness_seconds")
            let asOf = try fields.texts("as_of") ?? [:]
            try fields.finish()
            guard (1...3600).contains(seconds) else {
                throw ServiceError.invalid(field: "timeout_seconds", "\(seconds) is out of range", fix: "use 1 to 3600")
            }
            guard (1...1_000_000).contains(limit ?? 1) else {
                throw ServiceError.invalid(field: "limit", "\(limit ?? 0) is out of range", fix: "use 1 to 1000000")
            }
            guard (0...86_400_000).contains(staleness ?? 0) else {
                throw ServiceError.invalid(
                    field: "max_staleness_seconds",
                    "\(staleness ?? 0) is out of range",
                    fix: "use 0 to 86400000, or leave it out to read rows that are not committed yet"
                )
            }
            guard parameters.allSatisfy({ $0.kind != .array && $0.kind != .object }) else {
                throw ServiceError.invalid(
                    field: "parameters",
                    "has a list or an object",
                    fix: "use strings, numbers, booleans or null"
                )
            }
            let answer = try await service.query(
                sql,
                parameters: parameters,
                timeout: .seconds(seconds),
                options: QueryOptions(maxStaleness: staleness.map { .seconds($0) }, asOf: asOf)
            )
            if call.answerType == "text/csv" {
                return .response(CSVAnswer.response(answer, limit: limit.map { Int($0) }))
            }
            return .json(try await RowAnswer.bytes(answer, limit: Int(limit ?? 10_000)))
        }
    }
}
