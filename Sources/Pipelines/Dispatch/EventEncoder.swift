// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import MartletCore

/// Writes records as the JSON array of structured CloudEvents that `POST /v1/invoke` takes.
struct EventEncoder {
    /// Set by the engine on every delivery; what an event brought under these names is replaced.
    private static let owned: [[UInt8]] = [
        "ce_traceparent", "ce_martletattempt", "ce_martletbatch", "ce_knativekafkapartition", "ce_knativekafkaoffset",
    ].map {
        Array($0.utf8)
    }
    private static let prefix = Array("ce_".utf8)
    private static let contentType = Array("content-type".utf8)

    let authority: String

    /// Appends one event; the record's bytes are spliced in where they are JSON.
    func append(_ event: PendingEvent, topic: String, trace: TraceContext, to out: inout [UInt8]) {
        let record = event.record
        out.append(UInt8(ascii: "{"))
        var contentType: ArraySlice<UInt8>?
        var hasAttributes = false
        for header in record.headers {
            guard let value = header.value else { continue }
            if header.name.elementsEqual(Self.contentType) {
                contentType = value
                continue
            }
            guard header.name.starts(with: Self.prefix), !Self.owned.contains(where: header.name.elementsEqual) else {
                continue
            }
            hasAttributes = true
            member(header.name.dropFirst(3), value, to: &out)
        }
        if !hasAttributes { attributes(ofPlain: event, topic: topic, to: &out) }
        if let contentType { member(Array("datacontenttype".utf8)[...], contentType, to: &out) }
        text("traceparent", trace.traceparent(span: event.spanID), to: &out)
        text("knativekafkapartition", String(event.partition), to: &out)
        text("knativekafkaoffset", String(record.offset), to: &out)
        text("martletattempt", String(event.failures + 1), to: &out)
        if event.batch != 0 { text("martletbatch", String(event.batch), to: &out) }
        data(record.value, contentType: contentType, to: &out)
        if out.last == UInt8(ascii: ",") { out.removeLast() }
        out.append(UInt8(ascii: "}"))
    }

    /// Appends a record that is a structured CloudEvent already, with the engine's attributes set.
    func append(structured cloudEvent: CloudEvent, _ event: PendingEvent, trace: TraceContext, to out: inout [UInt8]) {
        var delivered = cloudEvent
        delivered[extension: "traceparent"] = trace.traceparent(span: event.spanID)
        delivered[extension: "knativekafkapartition"] = String(event.partition)
        delivered[extension: "knativekafkaoffset"] = String(event.record.offset)
        delivered[extension: "martletattempt"] = String(event.failures + 1)
        delivered[extension: "martletbatch"] = event.batch == 0 ? nil : String(event.batch)
        delivered.encodeStructured(into: &out)
    }

    /// A record some plain producer wrote becomes an event of its own.
    private func attributes(ofPlain event: PendingEvent, topic: String, to out: inout [UInt8]) {
        text("specversion", "1.0", to: &out)
        text("id", "\(topic)-\(event.partition)-\(event.record.offset)", to: &out)
        text("source", "\(authority):\(topic)", to: &out)
        text("type", "\(authority):Record", to: &out)
        text("subject", "martlet.\(topic)", to: &out)
        let made = Timestamp.microseconds(milliseconds: event.record.timestamp)
        text("time", Timestamp.format(microseconds: made), to: &out)
        if let key = event.record.key { member(Array("partitionkey".utf8)[...], key, to: &out) }
    }

    private func data(_ value: ArraySlice<UInt8>?, contentType: ArraySlice<UInt8>?, to out: inout [UInt8]) {
        guard let value, !value.isEmpty else { return }
        let media = contentType.map { String(decoding: $0, as: UTF8.self) }
        if CloudEvent.isJSON(media), JSONCursor.isValid(value) {
            out.append(contentsOf: "\"data\":".utf8)
            out.append(contentsOf: value)
        } else {
            out.append(contentsOf: "\"data_base64\":\"".utf8)
            out.append(contentsOf: Data(value).base64EncodedData())
            out.append(UInt8(ascii: "\""))
        }
        out.append(UInt8(ascii: ","))
    }

    private func text(_ name: String, _ value: String, to out: inout [UInt8]) {
        JSONWriter.append(name, to: &out)
        out.append(UInt8(ascii: ":"))
        JSONWriter.append(value, to: &out)
        out.append(UInt8(ascii: ","))
    }

    private func member(_ name: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>, to out: inout [UInt8]) {
        JSONWriter.append(String(decoding: name, as: UTF8.self), to: &out)
        out.append(UInt8(ascii: ":"))
        if value.allSatisfy({ $0 < 0x80 }) {
            value.withUnsafeBytes { JSONWriter.append(utf8: $0, to: &out) }
        } else {
            JSONWriter.append(String(decoding: value, as: UTF8.self), to: &out)
        }
        out.append(UInt8(ascii: ","))
    }
}
