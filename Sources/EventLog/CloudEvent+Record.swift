// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import KafkaCodec
package import MartletCore

/// Why a record is no event.
package struct CloudEventRecordError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is missing or wrong.
    package var message: String

    package var description: String { message }
}

extension Record {
    /// The record that carries an event in Kafka's binary content mode: attributes in `ce_` headers, data as the value.
    ///
    /// `timestamp` is in milliseconds since 1970.
    package init(event: CloudEvent, key: [UInt8]?, timestamp: Int64) {
        var headers: [RecordHeader] = []
        headers.reserveCapacity(8 + event.extensions.count)
        func add(_ name: String, _ value: String?) {
            if let value { headers.append(RecordHeader(key: name, string: value)) }
        }
        add("ce_specversion", "1.0")
        add("ce_id", event.id)
        add("ce_source", event.source)
        add("ce_type", event.type)
        add("ce_subject", event.subject)
        add("ce_time", event.time)
        add("ce_dataschema", event.dataSchema)
        for item in event.extensions { add("ce_\(item.name)", item.value) }
        add("content-type", event.dataContentType)
        self.init(timestamp: timestamp, key: key, value: event.data, headers: headers)
    }
}

extension CloudEvent {
    private static let structuredType = "application/cloudevents+json"

    /// The event a record carries, in binary or structured (JSON) content mode.
    ///
    /// - Throws: `CloudEventRecordError` where an attribute that every event has is missing.
    package init(record: RecordView) throws(CloudEventRecordError) {
        var id: String?
        var source: String?
        var type: String?
        self.init(id: "", source: "", type: "")
        for header in record.headers {
            guard let bytes = header.value else { continue }
            let text = String(decoding: bytes, as: UTF8.self)
            if header.name.elementsEqual("content-type".utf8) {
                dataContentType = text
                continue
            }
            guard header.name.starts(with: "ce_".utf8) else { continue }
            switch String(decoding: header.name.dropFirst(3), as: UTF8.self) {
            case "id": id = text
            case "source": source = text
            case "type": type = text
            case "specversion": break
            case "subject": subject = text
            case "time": time = text
            case "dataschema": dataSchema = text
            case "datacontenttype": dataContentType = text
            case let name: extensions.append(Extension(name, text))
            }
        }
        if id == nil, let media = dataContentType?.prefix(while: { $0 != ";" }), media == Self.structuredType {
            try self.init(structured: record.value.map { Array($0) } ?? [])
            return
        }
        guard let id, let source, let type else {
            let missing = id == nil ? "id" : source == nil ? "source" : "type"
            throw CloudEventRecordError(
                message: "the record at offset \(record.offset) has no header ce_\(missing), so it is no CloudEvent; "
                    + "send ce_id, ce_source, ce_type and ce_specversion as headers"
            )
        }
        self.id = id
        self.source = source
        self.type = type
        data = record.value.map { Array($0) }
    }

    private init(structured bytes: [UInt8]) throws(CloudEventRecordError) {
        let object: JSONObject
        do {
            guard case .object(let parsed) = try JSONValue(parsing: bytes) else {
                throw CloudEventRecordError(message: "a structured CloudEvent must be a JSON object")
            }
            object = parsed
        } catch let error as CloudEventRecordError {
            throw error
        } catch {
            throw CloudEventRecordError(message: "a structured CloudEvent must be JSON: \(error)")
        }
        guard let id = object["id"]?.stringValue, let source = object["source"]?.stringValue,
            let type = object["type"]?.stringValue
        else { throw CloudEventRecordError(message: "a structured CloudEvent needs the texts id, source and type") }
        self.init(id: id, source: source, type: type)
        for member in object.members {
            switch (member.key, member.value) {
            case ("id", _), ("source", _), ("type", _), ("specversion", _), (_, .null): break
            case ("subject", .string(let text)): subject = text
            case ("time", .string(let text)): time = text
            case ("datacontenttype", .string(let text)): dataContentType = text
            case ("dataschema", .string(let text)): dataSchema = text
            case ("data_base64", .string(let text)): data = Self.base64(text)
            case ("data", let value):
                let isText = !Self.isJSON(object["datacontenttype"]?.stringValue)
                data = isText ? value.stringValue.map { Array($0.utf8) } ?? value.bytes : value.bytes
            case (let name, .string(let text)): extensions.append(Extension(name, text))
            case (let name, let value): extensions.append(Extension(name, value.text))
            }
        }
    }

    private static func base64(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        for byte in text.utf8 where byte != UInt8(ascii: "=") {
            let value: UInt8
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = byte - UInt8(ascii: "A")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = byte - UInt8(ascii: "a") + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = byte - UInt8(ascii: "0") + 52
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            default: return nil
            }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return bytes
    }
}
