// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import MartletCore

/// Writes batches of telemetry, column by column; lives on the database's thread.
final class TelemetryWriter {
    private let connection: Connection

    init(_ connection: Connection) {
        self.connection = connection
    }

    /// Durable on return.
    func write(_ batch: TelemetryQueue.Batch) throws {
        try connection.transaction {
            if !batch.logs.isEmpty { try append("logs", TelemetrySchema.logColumns, columns(batch.logs)) }
            if !batch.spans.isEmpty { try append("spans", TelemetrySchema.spanColumns, columns(batch.spans)) }
            if !batch.metrics.isEmpty { try append("metrics", TelemetrySchema.metricColumns, columns(batch.metrics)) }
        }
    }

    /// Deletes what is older than a time, in microseconds since 1970.
    func remove(before micros: Int64) throws {
        try connection.transaction {
            for (table, column) in [("logs", "time"), ("spans", "start"), ("metrics", "time")] {
                _ = try connection.query("DELETE FROM \(table) WHERE \(column) < ?", [.int(micros)])
            }
        }
    }

    private func append(_ table: String, _ names: [String], _ columns: [ColumnBuffer]) throws {
        let appender = try Appender(
            connection: connection,
            table: table,
            columns: zip(names, columns.map(\.type)).map { (name: $0, type: $1) }
        )
        try appender.append(columns)
        try appender.flush()
    }

    private func columns(_ logs: [LogRecord]) -> [ColumnBuffer] {
        var columns = TelemetrySchema.logTypes.map { ColumnBuffer($0) }
        for log in logs {
            columns[0].append(Timestamp.microseconds(log.time))
            columns[1].append((Severity(name: log.severity) ?? .info).rawValue)
            columns[2].append(log.scope)
            columns[3].append(optional: log.pipeline)
            columns[4].append(optional: log.function)
            columns[5].append(log.message)
            columns[6].append(optional: log.traceId)
            columns[7].append(optional: log.spanId)
            columns[8].append(optional: text(log.attributes))
        }
        return columns
    }

    private func columns(_ spans: [SpanRecord]) -> [ColumnBuffer] {
        var columns = TelemetrySchema.spanTypes.map { ColumnBuffer($0) }
        for span in spans {
            columns[0].append(span.traceId)
            columns[1].append(span.spanId)
            columns[2].append(optional: span.parentSpanId)
            columns[3].append(span.name)
            columns[4].append(span.kind)
            columns[5].append(span.startMicros)
            columns[6].append(span.durationMicros)
            columns[7].append(span.status)
            columns[8].append(optional: span.statusMessage)
            columns[9].append(optional: span.pipeline)
            columns[10].append(optional: span.function)
            columns[11].append(optional: span.eventId)
            columns[12].append(optional: span.eventType)
            columns[13].append(optional: text(span.attributes))
            columns[14].append(optional: text(span.events))
        }
        return columns
    }

    private func columns(_ metrics: [MetricPoint]) -> [ColumnBuffer] {
        var columns = TelemetrySchema.metricTypes.map { ColumnBuffer($0) }
        for point in metrics {
            columns[0].append(point.timeMicros)
            columns[1].append(point.name)
            columns[2].append(point.type)
            columns[3].append(point.unit)
            columns[4].append(optional: point.pipeline)
            columns[5].append(optional: point.function)
            columns[6].append(point.value)
            columns[7].append(point.count)
            columns[8].append(optional: text(point.attributes))
            columns[9].append(optional: point.buckets)
        }
        return columns
    }

    private func text(_ attributes: [String: String]) -> String? {
        guard !attributes.isEmpty else { return nil }
        var bytes: [UInt8] = [UInt8(ascii: "{")]
        // In order, so that the same attributes are the same text.
        for (key, value) in attributes.sorted(by: { $0.key < $1.key }) {
            if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
            JSONWriter.append(key, to: &bytes)
            bytes.append(UInt8(ascii: ":"))
            JSONWriter.append(value, to: &bytes)
        }
        bytes.append(UInt8(ascii: "}"))
        return String(decoding: bytes, as: UTF8.self)
    }

    private func text(_ events: [SpanRecord.Event]) -> String? {
        guard !events.isEmpty else { return nil }
        let items = events.map { event in
            JSONValue.object(
                JSONObject(members: [
                    .init(key: "name", value: .string(event.name)),
                    .init(key: "time", value: .int(Timestamp.microseconds(event.time))),
                    .init(
                        key: "attributes",
                        value: .object(
                            JSONObject(members: event.attributes.map { .init(key: $0.key, value: .string($0.value)) })
                        )
                    ),
                ])
            )
        }
        return JSONValue.array(items).text
    }
}
