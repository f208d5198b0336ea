// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

extension Route {
    private static let table = Parameter.path("name", "Name of the table.", example: "trips")

    /// What can be done with tables that follow a topic.
    static func tableOperations(_ service: any TableServices) -> [Route] {
        tableChanges(service) + [tableHistory(service)] + tableWork(service)
    }

    private static func tableChanges(_ service: any TableServices) -> [Route] {
        [
            Route(
                method: .post,
                path: "\(prefix)/tables",
                id: "create_table",
                tag: "tables",
                summary: "Make a table that follows a topic.",
                parameters: [.dryRun],
                body: .document("TableCreate"),
                status: 201,
                otherStatus: 200,
                contents: json("Table"),
                refusals: [404, 409, 422, 507]
            ) { call in
                let made = try await service.create(call.document(), by: call.caller, dryRun: call.isDryRun)
                if call.isDryRun { return try .encode(made, status: .ok) }
                return try .encode(made, location: "\(prefix)/tables/\(PercentCoding.encode(made.name))")
            },
            Route(
                method: .put,
                path: "\(prefix)/tables/{name}",
                id: "update_table",
                tag: "tables",
                summary: "Change the settings the body has; columns are added or widened, never removed.",
                parameters: [table, .dryRun],
                body: .document("TableUpdate"),
                contents: json("Table"),
                refusals: [404, 409, 422, 507]
            ) { call in
                try .encode(
                    try await service.update(call.tableName, call.document(), by: call.caller, dryRun: call.isDryRun)
                )
            },
        ]
    }

    private static func tableHistory(_ service: any TableServices) -> Route {
        Route(
            method: .get,
            path: "\(prefix)/tables/{name}/history",
            id: "list_table_commits",
            tag: "tables",
            summary: "List a table's commits, newest first.",
            parameters: [table, .limit, .cursor],
            contents: json("TableCommitList"),
            refusals: [404, 409, 422]
        ) { call in
            let cursor = call.query.text("cursor")
            if let cursor, Int64(cursor).map({ $0 > 0 }) != true {
                throw ServiceError.invalid(
                    field: "cursor",
                    "'\(cursor.prefix(60))' is no cursor of this list",
                    fix: "use next_cursor of the page before"
                )
            }
            let page = try await service.history(
                call.tableName,
                limit: call.query.integer("limit") ?? 100,
                cursor: cursor
            )
            return try .page(page.items, next: page.nextCursor)
        }
    }

    private static func tableWork(_ service: any TableServices) -> [Route] {
        [
            work("commit", "Commit the rows that wait; the answer comes when they are on disk.", "TableCommitted") {
                try .encode(Committed(commit: try await service.commit($0.tableName)))
            },
            work("compact", "Make a table's small files into larger ones; queries go on.", "TableCompaction") {
                try .encode(try await service.compact($0.tableName))
            },
            work("replay", "Read a table's rejects again; those that fit become rows.", "TableReplay") {
                try .encode(try await service.replay($0.tableName))
            },
            work(
                "repair",
                "Compare a table's catalog, files and topic, and put right what differs.",
                "TableFindingList",
                parameters: [
                    .query("dry_run", .flag, "Only say what it would do."),
                    .query("quick", .flag, "Compare the sizes of files only; otherwise every byte is read."),
                ]
            ) {
                let isQuick = $0.query.flag("quick")
                return try .page(try await service.repair($0.tableName, dryRun: $0.isDryRun, quick: isQuick))
            },
        ]
    }

    private static func work(
        _ verb: String,
        _ summary: String,
        _ schema: String,
        parameters: [Parameter] = [],
        _ handle: @escaping @Sendable (Call) async throws -> Reply
    ) -> Route {
        Route(
            method: .post,
            path: "\(prefix)/tables/{name}/\(verb)",
            id: "\(verb)_table",
            tag: "tables",
            summary: summary,
            parameters: [table] + parameters,
            body: .json("Nothing", isRequired: false),
            contents: json(schema),
            refusals: [404, 409, 422, 507]
        ) { call in
            try call.fields().finish()
            return try await handle(call)
        }
    }
}

extension Call {
    /// The path parameter `name`.
    fileprivate var tableName: String { path["name"] ?? "" }
}

/// The answer to a commit; null where nothing waited.
private struct Committed: Encodable {
    let commit: TableCommit?

    private enum CodingKeys: CodingKey {
        case commit
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        if let commit {
            try container.encode(commit, forKey: .commit)
        } else {
            try container.encodeNil(forKey: .commit)
        }
    }
}
