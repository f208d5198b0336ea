// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Short names of OpenTelemetry's messages, whose generated names carry their protobuf package.
package typealias OTLPTraceRequest = Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceRequest
/// Answer to an ``OTLPTraceRequest``.
package typealias OTLPTraceResponse = Opentelemetry_Proto_Collector_Trace_V1_ExportTraceServiceResponse
/// Log records of an export.
package typealias OTLPLogsRequest = Opentelemetry_Proto_Collector_Logs_V1_ExportLogsServiceRequest
/// Answer to an ``OTLPLogsRequest``.
package typealias OTLPLogsResponse = Opentelemetry_Proto_Collector_Logs_V1_ExportLogsServiceResponse
/// Metric points of an export.
package typealias OTLPMetricsRequest = Opentelemetry_Proto_Collector_Metrics_V1_ExportMetricsServiceRequest
/// Answer to an ``OTLPMetricsRequest``.
package typealias OTLPMetricsResponse = Opentelemetry_Proto_Collector_Metrics_V1_ExportMetricsServiceResponse

typealias OTLPSpan = Opentelemetry_Proto_Trace_V1_Span
typealias OTLPLog = Opentelemetry_Proto_Logs_V1_LogRecord
typealias OTLPMetric = Opentelemetry_Proto_Metrics_V1_Metric
typealias OTLPKeyValue = Opentelemetry_Proto_Common_V1_KeyValue
typealias OTLPValue = Opentelemetry_Proto_Common_V1_AnyValue
typealias OTLPResource = Opentelemetry_Proto_Resource_V1_Resource
typealias OTLPScope = Opentelemetry_Proto_Common_V1_InstrumentationScope

/// Sizes that bound what one sender can make the engine hold.
package enum OTLPLimits {
    /// Largest request, in bytes before and after inflating; what the OpenTelemetry collector takes too.
    package static let messageBytesMax = 20 << 20
    /// Most spans, log records or metric points of one request.
    package static let recordsMax = 100_000
    /// Most bytes that attributes of resources may take once each entry of a request has them.
    package static let addedBytesMax = 32 << 20
    /// Most bytes of requests being decoded at once, over all senders.
    package static let decodingBytesMax = 64 << 20
    /// Most buckets or quantiles of one metric point.
    package static let bucketsMax = 2_000
}

/// Names of attributes for what records have no field for.
///
/// Those that exist in OpenTelemetry's mapping to other formats are named as there.
enum OTLPAttribute {
    static let serviceName = "service.name"
    static let serviceNamespace = "service.namespace"
    static let scopeName = "otel.scope.name"
    static let scopeVersion = "otel.scope.version"
    static let scopePrefix = "otel.scope."
    static let shadowedResourcePrefix = "resource."
    static let traceState = "otel.trace_state"
    static let links = "otel.links"
    static let droppedAttributes = "otel.dropped_attributes_count"
    static let droppedEvents = "otel.dropped_events_count"
    static let droppedLinks = "otel.dropped_links_count"
    static let droppedResourceAttributes = "otel.resource.dropped_attributes_count"
    static let droppedScopeAttributes = "otel.scope.dropped_attributes_count"
    static let severityNumber = "otel.severity_number"
    static let severityText = "otel.severity_text"
    static let eventName = "event.name"
    static let eventID = "cloudevents.event_id"
    static let eventType = "cloudevents.event_type"
}

/// Ids as bytes and as text.
enum OTLPIdentifier {
    /// Lower-case hex of an id of `count` bytes; nil for another length or for zeros, which mean none.
    ///
    /// OTLP's JSON writes ids in hex where protobuf's JSON has Base64, so that the JSON reader takes the hex digits for Base64, and hands
    /// over three quarters as many bytes. Those are turned back into the digits.
    static func text(_ data: Data, count: Int) -> String? {
        if data.count == count {
            guard data.contains(where: { $0 != 0 }) else { return nil }
            return hex(data)
        }
        guard data.count == count * 2 / 4 * 3 else { return nil }
        let text = data.base64EncodedString().lowercased()
        let isHex = text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        return isHex && text.utf8.contains { $0 != 0x30 } ? text : nil
    }

    /// The bytes of hex text; empty where it is none.
    static func bytes(_ text: String?) -> Data {
        guard let text, text.utf8.count.isMultiple(of: 2) else { return Data() }
        var data = Data(capacity: text.utf8.count / 2)
        var high: UInt8?
        for byte in text.utf8 {
            guard let digit = digit(byte) else { return Data() }
            if let first = high {
                data.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        return data
    }

    private static func hex(_ data: Data) -> String {
        String(unsafeUninitializedCapacity: data.count * 2) { buffer in
            var index = 0
            for byte in data {
                buffer[index] = character(byte >> 4)
                buffer[index + 1] = character(byte & 15)
                index += 2
            }
            return index
        }
    }

    private static func character(_ digit: UInt8) -> UInt8 {
        digit < 10 ? 0x30 + digit : 0x57 + digit
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }
}
