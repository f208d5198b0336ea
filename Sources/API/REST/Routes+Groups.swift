// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

extension Route {
    private static let group = Parameter.path("name", "Name of the consumer group.", example: "reports", max: 1024)

    /// Consumer groups: who reads what, how far behind they are, and moving their offsets.
    static func groups(_ service: any GroupServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/groups",
                id: "list_groups",
                tag: "groups",
                summary: "List consumer groups with their lag, by name.",
                parameters: [.name],
                contents: json("GroupList"),
                refusals: [422]
            ) { call in
                let wanted = call.query.text("name")
                let all = try await service.list()
                return try .page(all.filter { group in wanted.map { group.name.contains($0) } ?? true })
            },
            Route(
                method: .get,
                path: "\(prefix)/groups/{name}",
                id: "get_group",
                tag: "groups",
                summary: "Show a consumer group: members, offsets and lag.",
                parameters: [group],
                contents: json("GroupStatus"),
                refusals: [404, 422]
            ) { call in
                try .encode(try await service.get(call.groupName))
            },
            Route(
                method: .post,
                path: "\(prefix)/groups/{name}/reset",
                id: "reset_group",
                tag: "groups",
                summary: "Move the offsets of a group without members; on disk when answered.",
                parameters: [group, .query("dry_run", .flag, "Only say where the offsets would go.")],
                body: .json("GroupReset", isRequired: true),
                contents: json("GroupResetList"),
                refusals: [403, 404, 409, 422, 507]
            ) { call in
                var fields = try call.fields()
                var reset = try groupReset(&fields)
                reset.isDryRun = call.isDryRun
                return try .page(try await service.reset(call.groupName, reset))
            },
            Route(
                method: .delete,
                path: "\(prefix)/groups/{name}",
                id: "delete_group",
                tag: "groups",
                summary: "Delete a group without members, and its offsets.",
                parameters: [group],
                status: 204,
                contents: [],
                refusals: [403, 404, 409, 422, 507]
            ) { call in
                try await service.delete(call.groupName)
                return .empty
            },
        ]
    }

    private static func groupReset(_ fields: inout FieldReader) throws -> GroupReset {
        var targets: [GroupReset.Target] = []
        switch try fields.string("to") {
        case nil: break
        case "earliest": targets.append(.earliest)
        case "latest": targets.append(.latest)
        case let other?:
            throw ServiceError.invalid(
                field: "to",
                "'\(other.prefix(60))' is no place in a partition",
                fix: "write earliest or latest, or use time, offset or by"
            )
        }
        if let offset = try fields.integer("offset") { targets.append(.offset(offset)) }
        if let count = try fields.integer("by") { targets.append(.by(count)) }
        if let text = try fields.string("time") {
            guard let date = TimeExpression.date(text) else {
                throw ServiceError.invalid(
                    field: "time",
                    "'\(text.prefix(60))' is no time",
                    fix: "write RFC 3339 (\"2026-04-08T15:41:29Z\"), or a duration before now (\"2h\")"
                )
            }
            targets.append(.time(milliseconds: Timestamp.microseconds(date) / 1000))
        }
        let topics = try fields.strings("topics")
        let partitions = try fields.array("partitions")?.map { value in
            guard let number = value.intValue, let partition = Int32(exactly: number), partition >= 0 else {
                throw ServiceError.invalid(field: "partitions", "must be numbers from 0")
            }
            return partition
        }
        try fields.finish()
        guard targets.count == 1 else {
            throw ServiceError.invalid(
                field: "to",
                targets.isEmpty ? "is missing" : "is given in several ways",
                fix: "give one of to, time, offset and by"
            )
        }
        return GroupReset(targets[0], topics: topics, partitions: partitions)
    }
}

extension Call {
    fileprivate var groupName: String { path["name"] ?? "" }
}
