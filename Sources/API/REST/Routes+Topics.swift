// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore

extension Route {
    static func topics(_ service: any TopicServices) -> [Route] {
        let id = Parameter.path("id", "Name, GUID or full resource name of the topic.", example: "default")
        return resources(service, schema: "Topic") + [
            Route(
                method: .get,
                path: "\(prefix)/topics/{id}/partitions",
                id: "list_partitions",
                tag: "topics",
                summary: "Where each partition stands.",
                parameters: [id],
                contents: json("PartitionList"),
                refusals: [404]
            ) { call in
                try .page(try await service.partitions(call.id))
            },
            Route(
                method: .get,
                path: "\(prefix)/topics/{id}/settings",
                id: "list_topic_settings",
                tag: "topics",
                summary: "Every setting of a topic under Kafka's name, and whether the topic sets it.",
                parameters: [id],
                contents: json("TopicSettingList"),
                refusals: [404]
            ) { call in
                try .page(try await service.settings(call.id))
            },
            Route(
                method: .delete,
                path: "\(prefix)/topics/{id}/records",
                id: "delete_records",
                tag: "topics",
                summary: "Delete the records of a partition in front of an offset; on disk when answered.",
                parameters: [
                    id,
                    .query("partition", .integer(0...9999, default: nil), "The partition.", isRequired: true),
                    .query(
                        "before",
                        .integer(0...Int.max, default: nil),
                        "The first offset to keep.",
                        isRequired: true
                    ),
                ],
                contents: json("DeletedRecords"),
                refusals: [403, 404, 422, 507]
            ) { call in
                let start = try await service.deleteRecords(
                    call.id,
                    partition: Int32(call.query.integer("partition") ?? 0),
                    before: Int64(call.query.integer("before") ?? 0)
                )
                return .value(["start_offset": .int(start)])
            },
            Route(
                method: .post,
                path: "\(prefix)/topics/{id}/events",
                id: "publish_events",
                tag: "topics",
                summary: "Publish CloudEvents in binary, structured or batched form; on disk when answered.",
                parameters: [id] + eventHeaders,
                body: .events,
                status: 202,
                contents: json("Published"),
                refusals: [404, 409, 422, 507]
            ) { call in
                let events = try EventRequest.events(call)
                return .value(["count": .int(Int64(try await service.publish(call.id, events: events)))])
            },
        ]
    }

    /// The attributes of binary mode; structured and batched bodies carry them inside.
    private static let eventHeaders: [Parameter] = [
        .header("ce-specversion", "`1.0`; its presence selects binary mode.", example: "1.0"),
        .header("ce-id", "Id of the event.", example: "4fa1"),
        .header("ce-source", "Source of the event.", example: "vastdata.com:shell"),
        .header("ce-type", "Type of the event.", example: "vastdata.com:Element.ElementCreated"),
        .header("ce-subject", "Subject of the event."),
        .header("ce-time", "RFC 3339 time of the event.", example: "2026-04-08T15:41:29Z"),
        .header("ce-dataschema", "Schema of the data."),
    ]

    static func secrets(_ service: any SecretServices) -> [Route] {
        resources(service, schema: "Secret")
    }
}
