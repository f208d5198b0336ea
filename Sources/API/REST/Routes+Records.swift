// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore

extension Route {
    /// Records of topics: read by place or time, followed as they come, and written.
    static func records(_ service: any RecordServices) -> [Route] {
        let id = Parameter.path("id", "Name, GUID or full resource name of the topic.", example: "events")
        let readers = RecordReaders()
        return [
            Route(
                method: .get,
                path: "\(prefix)/topics/{id}/records",
                id: "read_records",
                tag: "topics",
                summary: "Read records by offset, time or cursor; as text/event-stream, follow them as they come.",
                parameters: [id] + recordParameters,
                contents: [
                    Content(type: "application/json", schema: "RecordPage"),
                    Content(type: "text/event-stream", schema: nil),
                ],
                refusals: [404, 422, 503]
            ) { call in
                let follows = call.answerType == "text/event-stream"
                let place = try await RecordRequest.place(call, service, follows: follows)
                if follows { return .response(try RecordStream.response(call, service, from: place, readers)) }
                return .json(RecordJSON.page(try await RecordRequest.page(call, service, from: place)))
            },
            Route(
                method: .post,
                path: "\(prefix)/topics/{id}/records",
                id: "append_records",
                tag: "topics",
                summary: "Write records; on disk when answered.",
                parameters: [id],
                body: .records,
                status: 201,
                contents: json("RecordPlaceList"),
                refusals: [403, 404, 409, 422, 507]
            ) { call in
                let places = try await service.append(call.id, RecordJSON.records(call))
                let list = places.map { place -> JSONValue in
                    ["partition": .int(Int64(place.partition)), "offset": .int(place.offset)]
                }
                return .json(
                    JSONValue.object(
                        JSONObject(members: [
                            .init(key: "count", value: .int(Int64(places.count))),
                            .init(key: "data", value: .array(list)),
                        ])
                    ).bytes,
                    status: .created
                )
            },
        ]
    }

    private static let recordParameters: [Parameter] = [
        .query(
            "partition",
            .integer(0...9999, default: nil),
            "Only this partition; without it all. Repeatable.",
            repeats: true
        ),
        .query(
            "offset",
            .text(max: 24),
            "Where to begin: earliest, latest, an offset, or -N for the last N of each partition.",
            example: "-10"
        ),
        .query(
            "timestamp",
            .text(max: 40),
            "Begin with the first record of this time or later: milliseconds since 1970, RFC 3339, or a time ago such as 5m.",
            example: "2h"
        ),
        .query(
            "cursor",
            .text(max: 200_000),
            "`pagination.next_cursor` of the answer before; takes the place of offset."
        ),
        .query("limit", .integer(1...10_000, default: 100), "Most records in a JSON answer."),
        .query("wait", .integer(0...30_000, default: 0), "How many milliseconds a JSON answer may wait for a record."),
        .header("Last-Event-ID", "The id of the last event received; following goes on behind it."),
    ]
}

/// What a request for records asks for.
enum RecordRequest {
    /// Most bytes of records in one answer; the first record is given whatever its size.
    private static let bytesMax = 4 << 20

    static func place(_ call: Call, _ service: any RecordServices, follows: Bool) async throws -> TopicPosition {
        if follows, let name = HTTPFields.Element.Name("Last-Event-ID"), let last = call.headers[name], !last.isEmpty {
            return try await whole(last, of: "Last-Event-ID", call, service)
        }
        let given = ["cursor", "offset", "timestamp"].filter { call.query.text($0) != nil }
        guard given.count <= 1 else {
            throw Refusal.badParameter(
                given[1],
                "\(given.joined(separator: " and ")) exclude each other",
                fix: "give one"
            )
        }
        if let text = call.query.text("cursor") {
            return try await whole(text, of: "cursor", call, service)
        }
        let partitions = call.query.all("partition").compactMap { Int32($0) }
        return try await service.start(
            call.id,
            partitions: partitions.isEmpty ? nil : partitions,
            at: try start(call, follows: follows)
        )
    }

    /// The position that an answer gave; partitions made since then are read from their beginning, unless only some are wanted.
    private static func whole(
        _ text: String,
        of parameter: String,
        _ call: Call,
        _ service: any RecordServices
    ) async throws -> TopicPosition {
        guard let position = TopicPosition(text) else {
            throw Refusal.badParameter(
                parameter,
                "'\(text.prefix(60))' is no cursor",
                fix: "use one that an answer gave, or leave it out"
            )
        }
        let wanted = Set(call.query.all("partition").compactMap { Int32($0) })
        let all = try await service.completed(position, call.id)
        return wanted.isEmpty ? all : TopicPosition(all.offsets.filter { wanted.contains($0.key) })
    }

    private static func start(_ call: Call, follows: Bool) throws -> RecordStart {
        if let text = call.query.text("timestamp") {
            if let milliseconds = Int64(text), milliseconds >= 0 { return .timestamp(milliseconds) }
            guard let date = TimeExpression.date(text) else {
                throw Refusal.badParameter(
                    "timestamp",
                    "'\(text.prefix(60))' is no time",
                    fix: "use milliseconds since 1970, RFC 3339 (2026-04-08T15:41:29Z) or a time ago (5m, 2h, 1d)"
                )
            }
            return .timestamp(Timestamp.microseconds(date) / 1000)
        }
        switch call.query.text("offset") {
        case nil: return follows ? .latest : .earliest
        case "earliest": return .earliest
        case "latest": return .latest
        case let text?:
            guard let number = Int64(text), number > Int64.min else {
                throw Refusal.badParameter(
                    "offset",
                    "'\(text)' is no place in a partition",
                    fix: "use earliest, latest, an offset, or -N for the last N"
                )
            }
            return number < 0 ? .last(-number) : .offset(number)
        }
    }

    /// One page, waiting for a first record as long as the caller allows.
    static func page(_ call: Call, _ service: any RecordServices, from place: TopicPosition) async throws -> RecordPage
    {
        let limit = call.query.integer("limit") ?? 100
        let clock = ContinuousClock()
        let deadline = clock.now + .milliseconds(call.query.integer("wait") ?? 0)
        var position = place
        while true {
            let page = try await service.read(call.id, from: position, limit: limit, bytesMax: bytesMax)
            guard page.records.isEmpty else { return page }
            // Markers of transactions and gaps are passed over.
            let hasMoved = page.next != position
            position = page.next
            if !page.isAtEnd, hasMoved { continue }
            let left = clock.now.duration(to: deadline)
            guard left > .zero, try await service.wait(call.id, behind: position, atMost: left) else { return page }
        }
    }
}
