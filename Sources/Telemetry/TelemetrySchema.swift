// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB

/// The tables of the telemetry database; times are microseconds since 1970, attributes JSON text.
enum TelemetrySchema {
    static let statements = """
        CREATE SEQUENCE IF NOT EXISTS log_number;
        CREATE TABLE IF NOT EXISTS logs (
            number BIGINT DEFAULT nextval('log_number'), time BIGINT NOT NULL, severity BIGINT NOT NULL, scope VARCHAR NOT NULL,
            pipeline VARCHAR, function VARCHAR, message VARCHAR NOT NULL, trace_id VARCHAR, span_id VARCHAR, attributes VARCHAR);
        CREATE TABLE IF NOT EXISTS spans (
            trace_id VARCHAR NOT NULL, span_id VARCHAR NOT NULL, parent_span_id VARCHAR, name VARCHAR NOT NULL, kind VARCHAR NOT NULL,
            start BIGINT NOT NULL, duration BIGINT NOT NULL, status VARCHAR NOT NULL, status_message VARCHAR,
            pipeline VARCHAR, function VARCHAR, event_id VARCHAR, event_type VARCHAR, attributes VARCHAR, events VARCHAR);
        CREATE TABLE IF NOT EXISTS metrics (
            time BIGINT NOT NULL, name VARCHAR NOT NULL, type VARCHAR NOT NULL, unit VARCHAR NOT NULL, pipeline VARCHAR,
            function VARCHAR, value DOUBLE NOT NULL, count BIGINT NOT NULL, attributes VARCHAR, buckets VARCHAR);
        """

    static let logColumns = [
        "time", "severity", "scope", "pipeline", "function", "message", "trace_id", "span_id", "attributes",
    ]
    static let logTypes: [ColumnType] = [
        .bigint, .bigint, .varchar, .varchar, .varchar, .varchar, .varchar, .varchar, .varchar,
    ]
    static let spanColumns = [
        "trace_id", "span_id", "parent_span_id", "name", "kind", "start", "duration", "status", "status_message",
        "pipeline",
        "function", "event_id", "event_type", "attributes", "events",
    ]
    static let spanTypes: [ColumnType] = [
        .varchar, .varchar, .varchar, .varchar, .varchar, .bigint, .bigint, .varchar, .varchar, .varchar, .varchar,
        .varchar,
        .varchar, .varchar, .varchar,
    ]
    static let metricColumns = [
        "time", "name", "type", "unit", "pipeline", "function", "value", "count", "attributes", "buckets",
    ]
    static let metricTypes: [ColumnType] = [
        .bigint, .varchar, .varchar, .varchar, .varchar, .varchar, .double, .bigint, .varchar, .varchar,
    ]
}

extension ColumnBuffer {
    mutating func append(optional value: String?) {
        if let value { append(value) } else { appendNull() }
    }
}
