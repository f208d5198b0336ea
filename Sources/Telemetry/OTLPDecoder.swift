// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore

/// Reads the JSON encoding of OpenTelemetry's protocol (OTLP 1.x) into records.
///
/// Unknown fields are passed over, as the protocol asks; an entry without what makes it one (a span without ids) is left out.
package enum OTLPDecoder {
    /// The function the records come from; fills what they do not say.
    package struct Origin: Sendable {
        package var pipeline: String?
        package var function: String?

        package init(pipeline: String?, function: String?) {
            self.pipeline = pipeline
            self.function = function
        }
    }

    /// Spans of an `ExportTraceServiceRequest`.
    package static func spans(_ body: JSONValue, from origin: Origin) -> [SpanRecord] {
        entries(body, "resourceSpans", "scopeSpans", "spans").compactMap { _, span in
            guard let traceID = identifier(span["traceId"], digits: 32),
                let spanID = identifier(span["spanId"], digits: 16),
                let start = micros(span["startTimeUnixNano"]), let end = micros(span["endTimeUnixNano"])
            else { return nil }
            var record = SpanRecord(
                traceId: traceID,
                spanId: spanID,
                parentSpanId: identifier(span["parentSpanId"], digits: 16),
                name: span["name"]?.stringValue ?? "",
                kind: kind(span["kind"]),
                startMicros: start,
                durationMicros: max(0, end - start),
                status: status(span["status"]?["code"]),
                statusMessage: span["status"]?["message"]?.stringValue,
                pipeline: origin.pipeline,
                function: origin.function
            )
            record.attributes = attributes(span["attributes"])
            record.events = (span["events"]?.arrayValue ?? []).map { event in
                SpanRecord.Event(
                    name: event["name"]?.stringValue ?? "",
                    time: .init(timeIntervalSince1970: Double(micros(event["timeUnixNano"]) ?? start) / 1_000_000),
                    attributes: attributes(event["attributes"])
                )
            }
            return record
        }
    }

    /// Log records of an `ExportLogsServiceRequest`.
    package static func logs(_ body: JSONValue, from origin: Origin) -> [LogRecord] {
        entries(body, "resourceLogs", "scopeLogs", "logRecords").map { scope, log in
            var attributes = attributes(log["attributes"])
            let time = micros(log["timeUnixNano"]) ?? micros(log["observedTimeUnixNano"]) ?? Timestamp.nowMicroseconds()
            let named = log["severityText"]?.stringValue.flatMap { Severity(name: $0) }
            let numbered = integer(log["severityNumber"]).map { Severity(number: $0) }
            return LogRecord(
                time: .init(timeIntervalSince1970: Double(time) / 1_000_000),
                severity: (named ?? numbered ?? .info).name,
                scope: (attributes.removeValue(forKey: "scope") ?? scope) == "vast-runtime" ? "vast-runtime" : "user",
                pipeline: origin.pipeline,
                function: origin.function,
                message: text(log["body"]),
                traceId: identifier(log["traceId"], digits: 32),
                spanId: identifier(log["spanId"], digits: 16),
                attributes: attributes
            )
        }
    }

    /// Points of an `ExportMetricsServiceRequest`, with the values as they were sent.
    package static func metrics(_ body: JSONValue, from origin: Origin) -> [MetricPoint] {
        measured(body, from: origin).map(\.point)
    }

    /// The same, with totals since a sender's start turned into what was gained since its report before.
    package static func metrics(
        _ body: JSONValue,
        from origin: Origin,
        through deltas: CumulativeDeltas
    ) -> [MetricPoint] {
        let all = measured(body, from: origin)
        return all.filter { $0.start == nil }.map(\.point)
            + deltas.gains(all.compactMap { item in item.start.map { .init(point: item.point, start: $0) } })
    }

    /// Points; of totals that can be told apart from one report to the next, also when they began.
    private static func measured(_ body: JSONValue, from origin: Origin) -> [(point: MetricPoint, start: String?)] {
        entries(body, "resourceMetrics", "scopeMetrics", "metrics").flatMap {
            _,
            metric -> [(point: MetricPoint, start: String?)] in
            let name = metric["name"]?.stringValue ?? ""
            let unit = metric["unit"]?.stringValue ?? ""
            func points(_ key: String, _ type: String) -> [(point: MetricPoint, start: String?)] {
                let isTotal = integer(metric[key]?["aggregationTemporality"]) == 2 && type != "UpDownCounter"
                return (metric[key]?["dataPoints"]?.arrayValue ?? []).map { point in
                    let measured = MetricPoint(
                        timeMicros: micros(point["timeUnixNano"]) ?? Timestamp.nowMicroseconds(),
                        name: name,
                        type: type,
                        unit: unit,
                        pipeline: origin.pipeline,
                        function: origin.function,
                        value: number(point["asDouble"]) ?? number(point["asInt"]) ?? number(point["sum"]) ?? 0,
                        count: integer(point["count"]) ?? 1,
                        attributes: attributes(point["attributes"]),
                        buckets: buckets(point)
                    )
                    return (measured, isTotal ? integer(point["startTimeUnixNano"]).map(String.init) ?? "" : nil)
                }
            }
            let isMonotonic = metric["sum"]?["isMonotonic"]?.boolValue ?? false
            return points("sum", isMonotonic ? "Counter" : "UpDownCounter") + points("gauge", "Gauge")
                + points("histogram", "Histogram")
        }
    }

    // MARK: Parts

    private static func entries(_ body: JSONValue, _ outer: String, _ middle: String, _ inner: String) -> [(
        scope: String, entry: JSONValue
    )] {
        (body[outer]?.arrayValue ?? []).flatMap { resource in
            (resource[middle]?.arrayValue ?? []).flatMap { scope in
                let name = scope["scope"]?["name"]?.stringValue ?? ""
                return (scope[inner]?.arrayValue ?? []).map { (name, $0) }
            }
        }
    }

    /// 64-bit integers travel as decimal strings.
    private static func integer(_ value: JSONValue?) -> Int64? {
        value?.intValue ?? value?.stringValue.flatMap { Int64($0) }
    }

    private static func number(_ value: JSONValue?) -> Double? {
        value?.doubleValue ?? value?.stringValue.flatMap { Double($0) }
    }

    private static func micros(_ value: JSONValue?) -> Int64? {
        integer(value).flatMap { $0 > 0 ? $0 / 1000 : nil }
    }

    private static func identifier(_ value: JSONValue?, digits: Int) -> String? {
        guard let text = value?.stringValue?.lowercased(), text.utf8.count == digits,
            text.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
            text.contains(where: { $0 != "0" })
        else { return nil }
        return text
    }

    private static func kind(_ value: JSONValue?) -> String {
        switch integer(value) {
        case 2: "SERVER"
        case 3: "CLIENT"
        case 4: "PRODUCER"
        case 5: "CONSUMER"
        default: "INTERNAL"
        }
    }

    private static func status(_ value: JSONValue?) -> String {
        switch integer(value) {
        case 1: "OK"
        case 2: "ERROR"
        default: "UNSET"
        }
    }

    private static func attributes(_ list: JSONValue?) -> [String: String] {
        var all: [String: String] = [:]
        for item in list?.arrayValue ?? [] {
            guard let key = item["key"]?.stringValue else { continue }
            all[key] = text(item["value"])
        }
        return all
    }

    /// An `AnyValue` as text; arrays and maps keep their protocol form.
    private static func text(_ value: JSONValue?) -> String {
        guard let value else { return "" }
        for key in ["stringValue", "intValue", "doubleValue", "boolValue", "bytesValue"] {
            if let inner = value[key] { return inner.stringValue ?? inner.text }
        }
        return value["arrayValue"]?.text ?? value["kvlistValue"]?.text ?? value.stringValue ?? value.text
    }

    private static func buckets(_ point: JSONValue) -> String? {
        guard let counts = point["bucketCounts"]?.arrayValue, let bounds = point["explicitBounds"] else { return nil }
        var members: [JSONObject.Member] = [
            .init(key: "bounds", value: bounds),
            .init(key: "counts", value: .array(counts.map { .int(integer($0) ?? 0) })),
        ]
        for key in ["min", "max"] {
            if let value = number(point[key]) { members.append(.init(key: key, value: .double(value))) }
        }
        return JSONValue.object(JSONObject(members: members)).text
    }
}
