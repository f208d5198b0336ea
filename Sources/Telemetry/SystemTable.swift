// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import MartletCore
package import Tables

/// The tables of the schema `system` in which telemetry is kept, each with a topic of its own.
package enum SystemTable: String, Sendable, CaseIterable {
    case logs, spans, metrics
    /// What happened in the engine itself.
    case events = "engine_events"

    /// As SQL calls it.
    package var name: String { "system.\(rawValue)" }
    /// The topic it follows.
    package var topic: String { "__system.\(rawValue)" }

    /// What the engine makes it of; `retention` is that of a new table, an existing one keeps its own.
    package func definition(retention: Duration) -> InternalTable {
        InternalTable(
            name: name,
            description: description,
            spec: TableSpec(
                topic: topic,
                columns: columns.map { TableSpec.Column(name: $0.0, type: $0.1) },
                unknownFields: .ignore,
                partitionBy: ["day"],
                commitSeconds: 10,
                commitBytes: 32 << 20,
                retentionMilliseconds: retention.components.seconds * 1000,
                historySeconds: 60,
                sortBy: sortColumns,
                isInternal: true
            ),
            // What counts is the table: the topic only has to outlast the time until a record is in a file.
            topic: TopicSettings(
                retentionMilliseconds: 3_600_000,
                retentionBytes: 512 << 20,
                segmentBytes: 32 << 20,
                segmentMilliseconds: 600_000,
                durability: .powerFailureLosesLastSecond
            )
        )
    }

    private var description: String {
        switch self {
        case .logs: "Log records of functions, of the engine and from OpenTelemetry"
        case .spans: "Spans of traces"
        case .metrics: "Points of metrics"
        case .events: "What happened in the engine itself: deployments, workers, tables, topics"
        }
    }

    /// A trace is looked up by its id alone: in files ordered by it each gives one row group.
    private var sortColumns: [String] {
        switch self {
        case .logs: ["time"]
        case .spans: ["trace_id"]
        case .metrics: ["name", "time"]
        case .events: ["time"]
        }
    }

    private var columns: [(String, String)] {
        switch self {
        case .logs:
            [
                ("time", "TIMESTAMP"), ("severity", "VARCHAR"), ("severity_number", "BIGINT"), ("scope", "VARCHAR"),
                ("pipeline", "VARCHAR"), ("function", "VARCHAR"), ("message", "VARCHAR"), ("trace_id", "VARCHAR"),
                ("span_id", "VARCHAR"), ("attributes", "JSON"),
            ]
        case .spans:
            [
                ("trace_id", "VARCHAR"), ("span_id", "VARCHAR"), ("parent_span_id", "VARCHAR"), ("name", "VARCHAR"),
                ("kind", "VARCHAR"), ("start", "TIMESTAMP"), ("duration_us", "BIGINT"), ("status", "VARCHAR"),
                ("status_message", "VARCHAR"), ("pipeline", "VARCHAR"), ("function", "VARCHAR"),
                ("event_id", "VARCHAR"), ("event_type", "VARCHAR"), ("attributes", "JSON"), ("events", "JSON"),
            ]
        case .metrics:
            [
                ("time", "TIMESTAMP"), ("name", "VARCHAR"), ("type", "VARCHAR"), ("unit", "VARCHAR"),
                ("pipeline", "VARCHAR"), ("function", "VARCHAR"), ("value", "DOUBLE"), ("count", "BIGINT"),
                ("attributes", "JSON"), ("buckets", "JSON"),
            ]
        case .events:
            [
                ("time", "TIMESTAMP"), ("event", "VARCHAR"), ("kind", "VARCHAR"), ("action", "VARCHAR"),
                ("name", "VARCHAR"), ("severity", "VARCHAR"), ("message", "VARCHAR"), ("pipeline", "VARCHAR"),
                ("function", "VARCHAR"), ("details", "JSON"),
            ]
        }
    }
}
