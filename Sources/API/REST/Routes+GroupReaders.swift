// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore

extension Route {
    private static let group = Parameter.path("name", "Name of the consumer group.", example: "reports", max: 1024)
    private static let reader = Parameter.path(
        "reader",
        "Id of the reader, from begin_group_reader.",
        example: "0b9a2c1e-3f0f-4a3c-9d53-7be1f5a0b6f1"
    )

    /// Reading for a consumer group, request by request.
    static func groupReaders(_ service: any GroupReaderServices) -> [Route] {
        reading(service) + keeping(service)
    }

    private static func reading(_ service: any GroupReaderServices) -> [Route] {
        [
            Route(
                method: .post,
                path: "\(prefix)/groups/{name}/readers",
                id: "begin_group_reader",
                tag: "groups",
                summary: "Become one of the readers that share a topic's records for the group.",
                parameters: [group],
                body: .json("NewGroupReader", isRequired: true),
                status: 201,
                contents: json("GroupReader"),
                refusals: [403, 404, 409, 422, 503]
            ) { call in
                var fields = try call.fields()
                let topic = try FieldReader.required(try fields.string("topic"), "topic")
                let start = try start(fields.string("from"))
                try fields.finish()
                let id = try await service.begin(
                    GroupReaderRequest(group: call.path["name"] ?? "", topic: topic, start: start)
                )
                return .json(
                    JSONValue.object(JSONObject(members: [.init(key: "id", value: .string(id))])).bytes,
                    status: .created
                )
            },
            Route(
                method: .post,
                path: "\(prefix)/groups/{name}/readers/{reader}/records",
                id: "read_group_records",
                tag: "groups",
                summary: "Acknowledge what was read, and read the next records.",
                parameters: [group, reader],
                body: .json("GroupReadRequest", isRequired: false),
                contents: json("GroupRecords"),
                refusals: [404, 409, 422, 503],
                endsWithCaller: true
            ) { call in
                var fields = try call.fields()
                let mark = try mark(&fields)
                let limit = try number("limit", 1...GroupReaderLimits.recordsMax, default: 100, &fields)
                let wait = try number("wait", 0...30_000, default: 0, &fields)
                let stops = try stopsAtEnd(&fields)
                try fields.finish()
                let found = try await service.read(
                    call.path["name"] ?? "",
                    call.path["reader"] ?? "",
                    GroupReadRequest(mark: mark, limit: limit, wait: .milliseconds(wait), stopsAtEnd: stops)
                )
                return .json(RecordJSON.records(found))
            },
        ]
    }

    /// What keeps a reader and ends it.
    private static func keeping(_ service: any GroupReaderServices) -> [Route] {
        [
            Route(
                method: .put,
                path: "\(prefix)/groups/{name}/readers/{reader}",
                id: "touch_group_reader",
                tag: "groups",
                summary: "Say that the reader is still at work.",
                parameters: [group, reader],
                status: 204,
                contents: [],
                refusals: [404]
            ) { call in
                try await service.touch(call.path["name"] ?? "", call.path["reader"] ?? "")
                return .empty
            },
            Route(
                method: .delete,
                path: "\(prefix)/groups/{name}/readers/{reader}",
                id: "end_group_reader",
                tag: "groups",
                summary: "Acknowledge what was read, and end the reader; what it did not acknowledge goes to others.",
                parameters: [
                    group, reader,
                    .query(
                        "acknowledge",
                        .integer(0...Int.max, default: 0),
                        "The mark of the last records that were done with."
                    ),
                ],
                status: 204,
                contents: [],
                refusals: [404, 503]
            ) { call in
                try await service.end(
                    call.path["name"] ?? "",
                    call.path["reader"] ?? "",
                    through: UInt64(call.query.integer("acknowledge") ?? 0)
                )
                return .empty
            },
        ]
    }

    private static func start(_ text: String?) throws -> RecordStart {
        switch text {
        case nil, "earliest"?: return .earliest
        case "latest"?: return .latest
        case let text?:
            guard let date = TimeExpression.date(text) else {
                throw ServiceError.invalid(
                    field: "from",
                    "'\(text.prefix(60))' is no place to begin for a group",
                    fix: "write earliest, latest, RFC 3339 or 2h; offsets are moved with: martlet groups reset"
                )
            }
            return .timestamp(Timestamp.microseconds(date) / 1000)
        }
    }

    private static func mark(_ fields: inout FieldReader) throws -> UInt64 {
        guard let mark = try fields.integer("acknowledge") else { return 0 }
        guard mark >= 0 else { throw ServiceError.invalid(field: "acknowledge", "\(mark) is no mark of an answer") }
        return UInt64(mark)
    }

    private static func number(
        _ name: String,
        _ range: ClosedRange<Int>,
        default value: Int,
        _ fields: inout FieldReader
    ) throws -> Int {
        guard let given = try fields.integer(name) else { return value }
        guard let number = Int(exactly: given), range.contains(number) else {
            throw ServiceError.invalid(
                field: name,
                "\(given) is out of range",
                fix: "use \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return number
    }

    private static func stopsAtEnd(_ fields: inout FieldReader) throws -> Bool {
        guard let value = fields.value("stop_at_end") else { return false }
        guard let flag = value.boolValue else {
            throw ServiceError.invalid(field: "stop_at_end", "must be true or false, not \(value.kind.noun)")
        }
        return flag
    }
}
