// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Writes telemetry as the JSON objects that the system tables read.
enum TelemetryText {
    static func bytes(_ log: LogRecord) -> [UInt8] {
        var object = ObjectText(capacity: 160 + log.message.utf8.count)
        let severity = Severity(name: log.severity) ?? .info
        object.add("time", micros: Timestamp.microseconds(log.time))
        object.add("severity", severity.name)
        object.add("severity_number", severity.rawValue)
        object.add("scope", log.scope)
        object.add("pipeline", log.pipeline)
        object.add("function", log.function)
        object.add("message", log.message)
        object.add("trace_id", log.traceId)
        object.add("span_id", log.spanId)
        object.add("attributes", log.attributes)
        return object.finish()
    }

    static func bytes(_ span: SpanRecord) -> [UInt8] {
        var object = ObjectText(capacity: 512)
        object.add("trace_id", span.traceId)
        object.add("span_id", span.spanId)
        object.add("parent_span_id", span.parentSpanId)
        object.add("name", span.name)
        object.add("kind", span.kind)
        object.add("start", micros: span.startMicros)
        object.add("duration_us", span.durationMicros)
        object.add("status", span.status)
        object.add("status_message", span.statusMessage)
        object.add("pipeline", span.pipeline)
        object.add("function", span.function)
        object.add("event_id", span.eventId)
        object.add("event_type", span.eventType)
        object.add("attributes", span.attributes)
        if !span.events.isEmpty { object.add("events", raw: events(span.events)) }
        return object.finish()
    }

    static func bytes(_ point: MetricPoint) -> [UInt8] {
        var object = ObjectText(capacity: 256)
        object.add("time", micros: point.timeMicros)
        object.add("name", point.name)
        object.add("type", point.type)
        object.add("unit", point.unit)
        object.add("pipeline", point.pipeline)
        object.add("function", point.function)
        // JSON has no NaN and no infinity; a point without a value is still a point.
        if point.value.isFinite { object.add("value", point.value) }
        object.add("count", point.count)
        // In one order, because a series is known by the text of its attributes.
        object.add("attributes", point.attributes.sorted { $0.key < $1.key })
        if let buckets = point.buckets { object.add("buckets", raw: Array(buckets.utf8)) }
        return object.finish()
    }

    /// An event of the engine as it stands in its topic: a CloudEvent whose data is the row.
    static func event(_ event: EngineEvent, authority: String) -> CloudEvent {
        var object = ObjectText(capacity: 256)
        object.add("time", micros: Timestamp.microseconds(event.time))
        object.add("event", "\(event.kind).\(event.action)")
        object.add("kind", event.kind)
        object.add("action", event.action)
        object.add("name", event.name)
        object.add("severity", event.severity.name)
        object.add("message", event.message)
        object.add("pipeline", event.pipeline)
        object.add("function", event.function)
        object.add("details", event.details.sorted { $0.key < $1.key })
        return CloudEvent(
            id: UUID().uuidString.lowercased(),
            source: "\(authority):engine",
            type: "\(authority):\(event.kind).\(event.action)",
            subject: event.name,
            time: Timestamp.format(event.time),
            dataContentType: "application/json",
            data: object.finish()
        )
    }

    private static func events(_ events: [SpanRecord.Event]) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(ascii: "[")]
        for event in events {
            if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
            var object = ObjectText(capacity: 128)
            object.add("name", event.name)
            object.add("time", Timestamp.microseconds(event.time))
            object.add("attributes", event.attributes)
            bytes += object.finish()
        }
        bytes.append(UInt8(ascii: "]"))
        return bytes
    }
}

/// A JSON object that is being written, member by member; what is nil or empty is left out.
private struct ObjectText {
    private var bytes: [UInt8]

    init(capacity: Int) {
        bytes = []
        bytes.reserveCapacity(capacity)
        bytes.append(UInt8(ascii: "{"))
    }

    private mutating func name(_ name: StaticString) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        name.withUTF8Buffer { bytes.append(contentsOf: $0) }
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
    }

    mutating func add(_ name: StaticString, _ value: String?) {
        guard let value else { return }
        self.name(name)
        JSONWriter.append(value, to: &bytes)
    }

    mutating func add(_ name: StaticString, _ value: Int64) {
        self.name(name)
        JSONWriter.append(value, to: &bytes)
    }

    mutating func add(_ name: StaticString, _ value: Double) {
        self.name(name)
        JSONWriter.append(value, to: &bytes)
    }

    mutating func add(_ name: StaticString, _ attributes: some Collection<(key: String, value: String)>) {
        guard !attributes.isEmpty else { return }
        self.name(name)
        var separator = UInt8(ascii: "{")
        for (key, value) in attributes {
            bytes.append(separator)
            separator = UInt8(ascii: ",")
            JSONWriter.append(key, to: &bytes)
            bytes.append(UInt8(ascii: ":"))
            JSONWriter.append(value, to: &bytes)
        }
        bytes.append(UInt8(ascii: "}"))
    }

    mutating func add(_ name: StaticString, micros: Int64) {
        self.name(name)
        JSONWriter.append(Timestamp.format(microseconds: micros), to: &bytes)
    }

    mutating func add(_ name: StaticString, raw: [UInt8]) {
        self.name(name)
        bytes += raw
    }

    consuming func finish() -> [UInt8] {
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}
