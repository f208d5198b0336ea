// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import MartletCore
import SwiftProtobuf

/// Turns OpenTelemetry's messages into records.
///
/// An entry without what makes it one, such as a span without ids, is rejected and counted. docs/logs-and-traces.md has the table of what
/// becomes what.
package struct RecordDecoder {
    /// Who sent the messages.
    package enum Origin: Sendable, Equatable {
        /// A worker of the engine: what records belong to is known, and resource and scope say nothing more.
        case worker(pipeline: String?, function: String?)
        /// Anything else. `service.name` stands where a function would, `service.namespace` where a pipeline would.
        case outside
    }

    private let origin: Origin
    /// What was decoded so far.
    package private(set) var records = TelemetryRecords()
    /// Entries that were left out.
    package private(set) var rejected = 0
    /// Why the first of them was.
    package private(set) var reason: String?
    /// Bytes by which the attributes of resources and scopes grow when each entry gets them.
    package private(set) var addedBytes = 0

    package init(origin: Origin) {
        self.origin = origin
    }

    /// Adds the spans of a request.
    package mutating func add(_ request: OTLPTraceRequest) {
        for resource in request.resourceSpans {
            for scope in resource.scopeSpans where !scope.spans.isEmpty {
                let surroundings = Surroundings(resource.resource, scope.scope, origin)
                addedBytes += surroundings.bytes * scope.spans.count
                for span in scope.spans where isWithinLimit { add(span, surroundings) }
            }
        }
    }

    /// Adds the log records of a request.
    package mutating func add(_ request: OTLPLogsRequest) {
        for resource in request.resourceLogs {
            for scope in resource.scopeLogs where !scope.logRecords.isEmpty {
                let surroundings = Surroundings(resource.resource, scope.scope, origin)
                addedBytes += surroundings.bytes * scope.logRecords.count
                for log in scope.logRecords where isWithinLimit { add(log, surroundings) }
            }
        }
    }

    /// Adds the metric points of a request.
    package mutating func add(_ request: OTLPMetricsRequest) {
        for resource in request.resourceMetrics {
            for scope in resource.scopeMetrics where !scope.metrics.isEmpty {
                let surroundings = Surroundings(resource.resource, scope.scope, origin)
                for metric in scope.metrics where isWithinLimit { add(metric, surroundings) }
            }
        }
    }

    mutating func reject(_ why: @autoclosure () -> String) {
        rejected += 1
        if reason == nil { reason = why() }
    }

    /// Whether the request can be taken as a whole; decoding stops where it cannot.
    package var isWithinLimit: Bool {
        addedBytes <= OTLPLimits.addedBytesMax && records.count + rejected <= OTLPLimits.recordsMax
    }

    mutating func append(_ point: MetricPoint, _ surroundings: Surroundings) {
        addedBytes += surroundings.bytes
        records.metrics.append(point)
    }

    // MARK: Spans

    private mutating func add(_ span: OTLPSpan, _ surroundings: Surroundings) {
        guard let traceID = OTLPIdentifier.text(span.traceID, count: 16),
            let spanID = OTLPIdentifier.text(span.spanID, count: 8)
        else {
            reject("span '\(span.name.prefix(100))' has no valid trace id and span id")
            return
        }
        guard span.startTimeUnixNano > 0 else {
            reject("span '\(span.name.prefix(100))' has no start time")
            return
        }
        let start = Self.micros(span.startTimeUnixNano)
        var record = SpanRecord(
            traceId: traceID,
            spanId: spanID,
            parentSpanId: OTLPIdentifier.text(span.parentSpanID, count: 8),
            name: span.name,
            kind: Self.kind(span.kind),
            startMicros: start,
            durationMicros: max(0, Self.micros(span.endTimeUnixNano) - start),
            status: Self.status(span.status.code),
            statusMessage: span.status.message.isEmpty ? nil : span.status.message,
            pipeline: surroundings.pipeline,
            function: surroundings.function
        )
        var attributes = span.attributes.texts
        record.eventId = surroundings.isOutside ? attributes[OTLPAttribute.eventID] : nil
        record.eventType = surroundings.isOutside ? attributes[OTLPAttribute.eventType] : nil
        attributes.add(text: span.traceState, as: OTLPAttribute.traceState)
        attributes.add(count: span.droppedAttributesCount, as: OTLPAttribute.droppedAttributes)
        attributes.add(count: span.droppedEventsCount, as: OTLPAttribute.droppedEvents)
        attributes.add(count: span.droppedLinksCount, as: OTLPAttribute.droppedLinks)
        if !span.links.isEmpty { attributes[OTLPAttribute.links] = OTLPLinks.text(span.links) }
        record.attributes = surroundings.around(attributes)
        record.events = span.events.map { event in
            var attributes = event.attributes.texts
            attributes.add(count: event.droppedAttributesCount, as: OTLPAttribute.droppedAttributes)
            let time = event.timeUnixNano > 0 ? Self.micros(event.timeUnixNano) : start
            return SpanRecord.Event(name: event.name, time: Self.date(time), attributes: attributes)
        }
        records.spans.append(record)
    }

    private static func kind(_ kind: OTLPSpan.SpanKind) -> String {
        switch kind {
        case .server: "SERVER"
        case .client: "CLIENT"
        case .producer: "PRODUCER"
        case .consumer: "CONSUMER"
        case .internal, .unspecified, .UNRECOGNIZED: "INTERNAL"
        }
    }

    private static func status(_ code: Opentelemetry_Proto_Trace_V1_Status.StatusCode) -> String {
        switch code {
        case .ok: "OK"
        case .error: "ERROR"
        case .unset, .UNRECOGNIZED: "UNSET"
        }
    }

    // MARK: Log records

    private mutating func add(_ log: OTLPLog, _ surroundings: Surroundings) {
        var attributes = log.attributes.texts
        let number = Int64(log.severityNumber.rawValue)
        let isNumbered = (1...24).contains(number)
        let named = Severity(name: log.severityText)
        let severity = isNumbered ? Severity(number: number) : named ?? .info
        var scope = "user"
        if surroundings.isOutside {
            if isNumbered, severity.rawValue != number { attributes[OTLPAttribute.severityNumber] = String(number) }
            if named != severity { attributes.add(text: log.severityText, as: OTLPAttribute.severityText) }
        } else if (attributes.removeValue(forKey: "scope") ?? surroundings.scopeName) == "vast-runtime" {
            scope = "vast-runtime"
        }
        attributes.add(text: log.eventName, as: OTLPAttribute.eventName)
        attributes.add(count: log.droppedAttributesCount, as: OTLPAttribute.droppedAttributes)
        let nanoseconds = log.timeUnixNano > 0 ? log.timeUnixNano : log.observedTimeUnixNano
        let time = nanoseconds > 0 ? Self.micros(nanoseconds) : Timestamp.nowMicroseconds()
        records.logs.append(
            LogRecord(
                time: Self.date(time),
                severity: severity.name,
                scope: scope,
                pipeline: surroundings.pipeline,
                function: surroundings.function,
                message: log.body.text,
                traceId: OTLPIdentifier.text(log.traceID, count: 16),
                spanId: OTLPIdentifier.text(log.spanID, count: 8),
                attributes: surroundings.around(attributes)
            )
        )
    }

    // MARK: Times

    static func micros(_ nanoseconds: UInt64) -> Int64 { Int64(nanoseconds / 1000) }

    private static func date(_ micros: Int64) -> Date { Date(timeIntervalSince1970: Double(micros) / 1_000_000) }
}

/// What a resource and a scope add to each of their entries.
struct Surroundings {
    let pipeline: String?
    let function: String?
    let isOutside: Bool
    let scopeName: String
    /// Attributes of the resource, and the scope's name, version and attributes.
    private let resource: [String: String]
    private let scope: [String: String]
    /// Size of both.
    let bytes: Int

    init(_ resource: OTLPResource, _ scope: OTLPScope, _ origin: RecordDecoder.Origin) {
        scopeName = scope.name
        guard origin == .outside else {
            if case .worker(let pipeline, let function) = origin {
                self.pipeline = pipeline
                self.function = function
            } else {
                pipeline = nil
                function = nil
            }
            isOutside = false
            self.resource = [:]
            self.scope = [:]
            bytes = 0
            return
        }
        isOutside = true
        var all = resource.attributes.texts
        pipeline = all[OTLPAttribute.serviceNamespace].flatMap { $0.isEmpty ? nil : $0 }
        function = all[OTLPAttribute.serviceName].flatMap { $0.isEmpty ? nil : $0 }
        all.add(count: resource.droppedAttributesCount, as: OTLPAttribute.droppedResourceAttributes)
        self.resource = all
        var own: [String: String] = [:]
        for (key, value) in scope.attributes.texts { own[OTLPAttribute.scopePrefix + key] = value }
        own.add(text: scope.name, as: OTLPAttribute.scopeName)
        own.add(text: scope.version, as: OTLPAttribute.scopeVersion)
        own.add(count: scope.droppedAttributesCount, as: OTLPAttribute.droppedScopeAttributes)
        self.scope = own
        bytes =
            all.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
            + own.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    }

    /// The entry's own attributes and all around them; its own win, and a resource's that is hidden so gets a prefix.
    func around(_ attributes: [String: String]) -> [String: String] {
        guard isOutside else { return attributes }
        var all = attributes
        for (key, value) in resource {
            if let own = all[key], own != value {
                all[OTLPAttribute.shadowedResourcePrefix + key] = value
            } else {
                all[key] = value
            }
        }
        all.merge(scope) { own, _ in own }
        return all
    }
}

/// Links of a span as JSON text, which is how an attribute keeps them.
enum OTLPLinks {
    static func text(_ links: [OTLPSpan.Link]) -> String {
        JSONValue.array(links.map(value)).text
    }

    /// The links of such a text; what is none is passed over.
    static func read(_ text: String) -> [OTLPSpan.Link] {
        // Whoever names an attribute of their own like this gets no links.
        let items = (try? JSONValue(parsing: text))?.arrayValue ?? []
        return items.compactMap { item in
            let traceID = OTLPIdentifier.bytes(item["trace_id"]?.stringValue)
            let spanID = OTLPIdentifier.bytes(item["span_id"]?.stringValue)
            guard traceID.count == 16, spanID.count == 8 else { return nil }
            return .with { link in
                link.traceID = traceID
                link.spanID = spanID
                link.traceState = item["trace_state"]?.stringValue ?? ""
                link.droppedAttributesCount = UInt32(clamping: item["dropped_attributes_count"]?.intValue ?? 0)
                var attributes: [String: String] = [:]
                for member in item["attributes"]?.objectValue?.members ?? [] {
                    attributes[member.key] = member.value.stringValue ?? member.value.text
                }
                link.attributes = attributes.keyValues
            }
        }
    }

    private static func value(_ link: OTLPSpan.Link) -> JSONValue {
        var members: [JSONObject.Member] = [
            .init(key: "trace_id", value: .string(OTLPIdentifier.text(link.traceID, count: 16) ?? "")),
            .init(key: "span_id", value: .string(OTLPIdentifier.text(link.spanID, count: 8) ?? "")),
        ]
        if !link.traceState.isEmpty { members.append(.init(key: "trace_state", value: .string(link.traceState))) }
        if !link.attributes.isEmpty {
            let pairs = link.attributes.texts.sorted { $0.key < $1.key }
            let object = JSONObject(members: pairs.map { .init(key: $0.key, value: .string($0.value)) })
            members.append(.init(key: "attributes", value: .object(object)))
        }
        if link.droppedAttributesCount > 0 {
            members.append(.init(key: "dropped_attributes_count", value: .int(Int64(link.droppedAttributesCount))))
        }
        return .object(JSONObject(members: members))
    }
}
