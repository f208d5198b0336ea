// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore
import NIOCore

extension Route {
    static func metrics(_ service: any MetricServices) -> [Route] {
        [metricNames(service), metricValues(service), exposition(service)]
    }

    private static func metricNames(_ service: any MetricServices) -> Route {
        Route(
            method: .get,
            path: "\(prefix)/metrics/names",
            id: "list_metrics",
            tag: "telemetry",
            summary: "Metrics there are, with type, unit and number of series.",
            parameters: [
                .query("pipeline", .text(max: 300), "That have points of one pipeline.", example: "exr-inspection"),
                .query("function", .text(max: 300), "That have points of one function deployment or function."),
                .query("search", .text(max: 200), "Whose name or description contains this text.", example: "latency"),
                .query(
                    "metric_type",
                    .text(max: 20),
                    "Counter, UpDownCounter, Gauge or Histogram.",
                    example: "Counter"
                ),
            ],
            contents: json("MetricNameList"),
            refusals: [422]
        ) { call in
            var query = MetricNameQuery()
            query.pipeline = call.query.text("pipeline")
            query.function = call.query.text("function")
            query.search = call.query.text("search")
            query.type = call.query.text("metric_type")
            return try .page(try await service.metricNames(query))
        }
    }

    private static func metricValues(_ service: any MetricServices) -> Route {
        Route(
            method: .get,
            path: "\(prefix)/metrics/query",
            id: "query_metrics",
            tag: "telemetry",
            summary: "Values of one to ten metrics over time, in buckets aligned to the clock; types may be mixed.",
            parameters: [
                .query(
                    "name",
                    .text(max: 300),
                    "Name of a metric; may be given ten times.",
                    isRequired: true,
                    repeats: true,
                    example: "dataengine.function.invocations"
                ),
                .query(
                    "aggregation",
                    .choice(MetricAggregation.allCases.map(\.rawValue), default: nil),
                    "How points become one value; by type where it is left out: sum of counters, avg of gauges, p95 of histograms."
                ),
                .query(
                    "group_by",
                    .text(max: 100),
                    "function_name, function_deployment_name, pipeline_name or an attribute; may be given four times.",
                    repeats: true,
                    example: "function_name"
                ),
                .query("top_k", .integer(1...100, default: nil), "Keeps the groups with the largest values."),
                .query("bottom_k", .integer(1...100, default: nil), "Keeps the groups with the smallest values."),
                .query("pipeline", .text(max: 300), "Of one pipeline.", example: "exr-inspection"),
                .query("function", .text(max: 300), "Of one function deployment or function."),
                .query("since", .time, "Not before this time, or this long ago; an hour unless given.", example: "1h"),
                .query("end", .time, "Before this time, or this long ago; now unless given."),
                .query("max_points", .integer(1...100, default: 60), "Most buckets."),
            ],
            contents: json("MetricAnswer"),
            refusals: [422]
        ) { call in
            var query = MetricQuery(names: call.query.all("name"))
            query.aggregation = call.query.text("aggregation").flatMap { MetricAggregation(rawValue: $0) }
            query.groupBy = call.query.all("group_by")
            query.topK = call.query.integer("top_k")
            query.bottomK = call.query.integer("bottom_k")
            query.pipeline = call.query.text("pipeline")
            query.function = call.query.text("function")
            query.since = call.query.time("since")
            query.end = call.query.time("end")
            query.maxPoints = call.query.integer("max_points") ?? 60
            return try .encode(try await service.metrics(query))
        }
    }

    private static let prometheusType = "text/plain"
    private static let openMetricsType = "application/openmetrics-text"

    private static func exposition(_ service: any MetricServices) -> Route {
        Route(
            method: .get,
            path: "/metrics",
            id: "get_metrics",
            tag: "engine",
            summary: "What the engine measures of itself, for Prometheus.",
            contents: [
                Content(type: prometheusType, schema: nil), Content(type: openMetricsType, schema: nil),
            ]
        ) { call in
            let isOpen = call.answerType == openMetricsType
            let bytes = try await service.exposition(isOpen ? .openMetrics : .prometheus)
            let type =
                isOpen
                ? "\(openMetricsType); version=1.0.0; charset=utf-8" : "\(prometheusType); version=0.0.4; charset=utf-8"
            return .response(
                Response(
                    status: .ok,
                    headers: [.contentType: type],
                    body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes))
                )
            )
        }
    }
}
