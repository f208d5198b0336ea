// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore
import SwiftProtobuf

/// Turns records into OpenTelemetry's messages.
///
/// A function is a service: `service.name` is its name and `service.namespace` its pipeline's. What belongs to no function is of the
/// service named ``serviceName``. Attributes are texts, as records keep them.
package struct RecordEncoder: Sendable {
    /// Name of the engine's own service.
    package var serviceName: String
    /// Version of the engine.
    package var serviceVersion: String

    package init(serviceName: String, serviceVersion: String) {
        self.serviceName = serviceName
        self.serviceVersion = serviceVersion
    }

    /// A request with the spans.
    package func request(spans: [SpanRecord]) -> OTLPTraceRequest {
        .with { request in
            request.resourceSpans = groups(spans) { ($0.pipeline, $0.function) }.map { owner, spans in
                .with {
                    $0.resource = resource(owner)
                    $0.scopeSpans = [
                        .with {
                            $0.scope.name = "martlet"
                            $0.spans = spans.map(Self.span)
                        }
                    ]
                }
            }
        }
    }

    /// A request with the log records.
    package func request(logs: [LogRecord]) -> OTLPLogsRequest {
        .with { request in
            request.resourceLogs = groups(logs) { ($0.pipeline, $0.function) }.map { owner, logs in
                .with {
                    $0.resource = resource(owner)
                    $0.scopeLogs = groups(logs) { ($0.scope, nil) }.map { scope, logs in
                        .with {
                            $0.scope.name = scope.first ?? ""
                            $0.logRecords = logs.map(Self.log)
                        }
                    }
                }
            }
        }
    }

    /// A request with the metric points.
    package func request(metrics: [MetricPoint]) -> OTLPMetricsRequest {
        .with { request in
            request.resourceMetrics = groups(metrics) { ($0.pipeline, $0.function) }.map { owner, points in
                .with {
                    $0.resource = resource(owner)
                    $0.scopeMetrics = [
                        .with {
                            $0.scope.name = "martlet"
                            $0.metrics = groups(points) {
                                ("\($0.type) \($0.name)", $0.unit)
                            }
                            .compactMap { Self.metric($0.items) }
                        }
                    ]
                }
            }
        }
    }

    // MARK: Parts

    private struct Key: Hashable {
        let first: String?
        let second: String?
    }

    /// Groups in the order of their first entries.
    private func groups<Item>(
        _ items: [Item],
        _ key: (Item) -> (String?, String?)
    ) -> [(key: (first: String?, second: String?), items: [Item])] {
        var places: [Key: Int] = [:]
        var groups: [(key: (first: String?, second: String?), items: [Item])] = []
        for item in items {
            let (first, second) = key(item)
            let place = places[Key(first: first, second: second)]
            if let place {
                groups[place].items.append(item)
            } else {
                places[Key(first: first, second: second)] = groups.count
                groups.append(((first, second), [item]))
            }
        }
        return groups
    }

    /// What records of a pipeline (first) and a function (second) come from.
    private func resource(_ owner: (first: String?, second: String?)) -> OTLPResource {
        var attributes = [OTLPAttribute.serviceName: owner.second ?? serviceName]
        if let pipeline = owner.first { attributes[OTLPAttribute.serviceNamespace] = pipeline }
        if owner.second == nil { attributes["service.version"] = serviceVersion }
        attributes["telemetry.distro.name"] = "martlet"
        attributes["telemetry.distro.version"] = serviceVersion
        return .with { $0.attributes = attributes.keyValues }
    }

    private static func span(_ record: SpanRecord) -> OTLPSpan {
        .with { span in
            var attributes = record.attributes
            span.traceID = OTLPIdentifier.bytes(record.traceId)
            span.spanID = OTLPIdentifier.bytes(record.spanId)
            span.parentSpanID = OTLPIdentifier.bytes(record.parentSpanId)
            span.name = record.name
            span.kind = kind(record.kind)
            span.startTimeUnixNano = nanoseconds(record.startMicros)
            span.endTimeUnixNano = nanoseconds(record.startMicros + max(0, record.durationMicros))
            if record.status != "UNSET" { span.status.code = record.status == "ERROR" ? .error : .ok }
            if let message = record.statusMessage { span.status.message = message }
            span.traceState = attributes.removeValue(forKey: OTLPAttribute.traceState) ?? ""
            if let links = attributes.removeValue(forKey: OTLPAttribute.links) { span.links = OTLPLinks.read(links) }
            span.droppedAttributesCount = count(attributes.removeValue(forKey: OTLPAttribute.droppedAttributes))
            span.droppedEventsCount = count(attributes.removeValue(forKey: OTLPAttribute.droppedEvents))
            span.droppedLinksCount = count(attributes.removeValue(forKey: OTLPAttribute.droppedLinks))
            attributes[OTLPAttribute.eventID] = record.eventId ?? attributes[OTLPAttribute.eventID]
            attributes[OTLPAttribute.eventType] = record.eventType ?? attributes[OTLPAttribute.eventType]
            span.attributes = attributes.keyValues
            span.events = record.events.map { event in
                .with {
                    var attributes = event.attributes
                    $0.name = event.name
                    $0.timeUnixNano = nanoseconds(Timestamp.microseconds(event.time))
                    $0.droppedAttributesCount = count(attributes.removeValue(forKey: OTLPAttribute.droppedAttributes))
                    $0.attributes = attributes.keyValues
                }
            }
        }
    }

    private static func log(_ record: LogRecord) -> OTLPLog {
        .with { log in
            var attributes = record.attributes
            log.timeUnixNano = nanoseconds(Timestamp.microseconds(record.time))
            log.observedTimeUnixNano = log.timeUnixNano
            log.severityText = record.severity
            log.severityNumber = .init(rawValue: Int((Severity(name: record.severity) ?? .info).rawValue)) ?? .info
            log.body.stringValue = record.message
            log.traceID = OTLPIdentifier.bytes(record.traceId)
            log.spanID = OTLPIdentifier.bytes(record.spanId)
            log.eventName = attributes.removeValue(forKey: OTLPAttribute.eventName) ?? ""
            log.droppedAttributesCount = count(attributes.removeValue(forKey: OTLPAttribute.droppedAttributes))
            log.attributes = attributes.keyValues
        }
    }

    private static func kind(_ name: String) -> OTLPSpan.SpanKind {
        switch name {
        case "SERVER": .server
        case "CLIENT": .client
        case "PRODUCER": .producer
        case "CONSUMER": .consumer
        default: .internal
        }
    }

    static func nanoseconds(_ micros: Int64) -> UInt64 {
        UInt64(clamping: micros.multipliedReportingOverflow(by: 1000).overflow ? 0 : micros * 1000)
    }

    private static func count(_ text: String?) -> UInt32 { text.flatMap { UInt32($0) } ?? 0 }
}
