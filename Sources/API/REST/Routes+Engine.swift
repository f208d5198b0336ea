// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import MartletCore
import NIOCore

extension Route {
    static func telemetry(_ service: any TelemetryServices) -> [Route] {
        [logs(service), traces(service)] + [
            Route(
                method: .get,
                path: "\(prefix)/traces/{trace_id}",
                id: "get_trace",
                tag: "telemetry",
                summary: "All spans of a trace in start order, with the log records inside it.",
                parameters: [.path("trace_id", "32 hex digits.", example: "4bf92f3577b34da6a3ce929d0e0e4736", max: 64)],
                contents: json("Trace"),
                refusals: [404, 422]
            ) { call in
                struct Trace: Encodable {
                    let spans: [SpanRecord]
                    let logs: [LogRecord]
                }
                let trace = try await service.trace(call.path["trace_id"] ?? "")
                return try .encode(Trace(spans: trace.spans, logs: trace.logs))
            }
        ]
    }

    private static let since = Parameter.query("since", .time, "Not before this time, or this long ago.", example: "5m")
    private static let end = Parameter.query(
        "end",
        .time,
        "Before this time, or this long ago.",
        example: "2026-04-08T15:41:29Z"
    )
    private static let ofPipeline = Parameter.query(
        "pipeline",
        .text(max: 300),
        "Of one pipeline.",
        example: "exr-inspection"
    )

    private static func logs(_ service: any TelemetryServices) -> Route {
        Route(
            method: .get,
            path: "\(prefix)/logs",
            id: "list_logs",
            tag: "telemetry",
            summary: "Log records; where there are more than the limit, the newest.",
            parameters: [
                ofPipeline, .query("function", .text(max: 300), "Of one function deployment or function."), since, end,
                .query("limit", .integer(1...10_000, default: 100), "Most records in the answer."),
                .query("order_by", .choice(["asc", "desc"], default: "asc"), "Order by time."),
                .query("severity", .text(max: 20), "Lowest severity.", example: "WARNING"),
                .query("scope", .text(max: 20), "`user`, `runtime`, `vast-runtime` or `engine`.", example: "user"),
                .query("trace_id", .text(max: 64), "Of one trace."), .query("span_id", .text(max: 32), "Of one span."),
                .query("contains", .text(max: 1000), "Keeps messages that contain this text."),
                .query(
                    "cursor",
                    .text(max: 200),
                    "`pagination.next_cursor` of an answer before: only what was stored since."
                ),
            ],
            contents: json("LogList"),
            refusals: [404, 422]
        ) { call in
            var query = LogQuery(
                limit: call.query.integer("limit") ?? 100,
                ascending: call.query.text("order_by") != "desc"
            )
            query.pipeline = call.query.text("pipeline")
            query.function = call.query.text("function")
            query.since = call.query.time("since")
            query.end = call.query.time("end")
            query.severity = call.query.text("severity")
            query.scope = call.query.text("scope")
            query.traceID = call.query.text("trace_id")
            query.spanID = call.query.text("span_id")
            query.contains = call.query.text("contains")
            query.cursor = call.query.text("cursor")
            let page = try await service.logs(query)
            return try .page(page.items, next: page.nextCursor)
        }
    }

    private static func traces(_ service: any TelemetryServices) -> Route {
        Route(
            method: .get,
            path: "\(prefix)/traces",
            id: "list_traces",
            tag: "telemetry",
            summary: "List traces.",
            parameters: [
                ofPipeline, since, end, .query("event_id", .text(max: 1000), "Of one event."),
                .query("event_type", .text(max: 1000), "Of events of one type."),
                .query("status", .choice(["UNSET", "OK", "ERROR"], default: nil), "Of one status."),
                .query("limit", .integer(1...1000, default: 20), "Most traces in the answer."),
                .query("order_by", .choice(["asc", "desc"], default: "desc"), "Order by start."),
            ],
            contents: json("TraceList"),
            refusals: [404, 422]
        ) { call in
            var query = TraceQuery(
                limit: call.query.integer("limit") ?? 20,
                ascending: call.query.text("order_by") == "asc"
            )
            query.pipeline = call.query.text("pipeline")
            query.since = call.query.time("since")
            query.end = call.query.time("end")
            query.eventID = call.query.text("event_id")
            query.eventType = call.query.text("event_type")
            query.status = call.query.text("status")
            return try .page(try await service.traces(query))
        }
    }

    static func engine(_ service: any EngineServices) -> [Route] {
        [
            Route(
                method: .get,
                path: "\(prefix)/engine",
                id: "get_engine",
                tag: "engine",
                summary: "Version, place and health of the engine.",
                contents: json("Engine")
            ) { _ in
                try .encode(await service.status())
            },
            Route(
                method: .get,
                path: "/healthz",
                id: "get_health",
                tag: "engine",
                summary: "Whether the engine answers.",
                contents: json("Health"),
                isOpen: true
            ) { _ in
                .value(["status": "ok"])
            },
            Route(
                method: .get,
                path: "/readyz",
                id: "get_readiness",
                tag: "engine",
                summary: "Whether the engine can work.",
                contents: json("Health"),
                isOpen: true
            ) { _ in
                let obstacles = await service.obstacles()
                guard obstacles.isEmpty else {
                    throw ServiceError(
                        .unavailable,
                        "the engine is not ready: \(obstacles.joined(separator: "; "))",
                        fix: "wait, or look at the engine's log"
                    )
                }
                return .value(["status": "ready"])
            },
        ]
    }

    static func openAPI(_ document: [UInt8]) -> Route {
        Route(
            method: .get,
            path: "/openapi.json",
            id: "get_openapi",
            tag: "engine",
            summary: "This document.",
            contents: json("OpenAPI"),
            isOpen: true
        ) { _ in .json(document) }
    }
}
