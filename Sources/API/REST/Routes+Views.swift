// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

extension Route {
    static func views(_ service: any ViewServices) -> [Route] {
        let id = Parameter.path("id", "Name, GUID or full resource name of the view.", example: "frames")
        return resources(service, schema: "View") + [
            Route(
                method: .get,
                path: "\(prefix)/views/{id}/elements",
                id: "list_elements",
                tag: "views",
                summary: "List the elements of a view in key order.",
                parameters: [
                    id,
                    .query("prefix", .text(max: 4096), "Exact start of the key, slash included.", example: "shots/"),
                    .limit, .query("cursor", .text(max: 4096), "`pagination.next_cursor` of the page before."),
                ],
                contents: json("ElementList"),
                refusals: [404, 422]
            ) { call in
                let page = try await service.elements(
                    call.id,
                    prefix: call.query.text("prefix") ?? "",
                    limit: call.query.integer("limit") ?? 100,
                    cursor: call.query.text("cursor")
                )
                return try .page(page.items, next: page.nextCursor)
            },
            Route(
                method: .put,
                path: "\(prefix)/views/{id}/tags",
                id: "tag_element",
                tag: "views",
                summary: "Set tags of an element; tags not named stay.",
                parameters: [id],
                body: .json("ElementTags", isRequired: true),
                contents: json("Element"),
                refusals: [404, 409, 422, 507]
            ) { call in
                var fields = try call.fields()
                let key = try FieldReader.required(try fields.string("key"), "key")
                let tags = try FieldReader.required(try fields.texts("tags"), "tags")
                try fields.finish()
                guard !key.isEmpty else { throw ServiceError.invalid(field: "key", "must not be empty") }
                return try .encode(try await service.tag(call.id, key: key, tags: tags))
            },
            Route(
                method: .delete,
                path: "\(prefix)/views/{id}/tags",
                id: "untag_element",
                tag: "views",
                summary: "Remove tags of an element.",
                parameters: [
                    id,
                    .query("key", .text(max: 4096), "Key of the element.", isRequired: true, example: "shots/a.exr"),
                    .query(
                        "name",
                        .text(max: 255),
                        "Name of a tag to remove.",
                        isRequired: true,
                        repeats: true,
                        example: "state"
                    ),
                ],
                contents: json("Element"),
                refusals: [404, 409, 422, 507]
            ) { call in
                try .encode(
                    try await service.untag(call.id, key: call.query.text("key") ?? "", names: call.query.all("name"))
                )
            },
        ]
    }

    static func triggers(_ service: any TriggerServices) -> [Route] {
        let id = Parameter.path("id", "Name, GUID or full resource name of the trigger.", example: "on-frame")
        let type = Parameter.query(
            "type",
            .choice(["Element", "Schedule"], default: nil),
            "Keeps triggers of one type."
        )
        return resources(
            service,
            schema: "Trigger",
            list: { call in try await triggerPage(service, call.listQuery, type: call.query.text("type")) },
            listParameters: [type]
        ) + [
            Route(
                method: .get,
                path: "\(prefix)/triggers/{id}/fire-times",
                id: "list_fire_times",
                tag: "triggers",
                summary: "The next fire times of a schedule trigger; none for element triggers.",
                parameters: [id, .query("count", .integer(1...1000, default: 10), "How many.")],
                contents: json("FireTimes"),
                refusals: [404, 422]
            ) { call in
                let times = try await service.nextFireTimes(call.id, count: call.query.integer("count") ?? 10)
                return .value(["data": .array(times.map { .string(Timestamp.format($0)) })])
            }
        ]
    }

    /// A page of triggers of one type, asking for as many pages as it takes to fill it.
    private static func triggerPage(
        _ service: any TriggerServices,
        _ query: ListQuery,
        type: String?
    ) async throws -> Page<Resource<TriggerSpec>> {
        var query = query
        var items: [Resource<TriggerSpec>] = []
        while true {
            let page = try await service.list(query)
            items += page.items.filter { type == nil || $0.spec.type.rawValue == type }
            query.limit -= page.items.count { type == nil || $0.spec.type.rawValue == type }
            query.cursor = page.nextCursor
            if query.limit <= 0 || page.nextCursor == nil { return Page(items: items, nextCursor: page.nextCursor) }
        }
    }
}
