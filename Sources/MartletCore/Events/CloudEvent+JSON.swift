// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

extension CloudEvent {
    /// Reads one event in structured form (`application/cloudevents+json`, CloudEvents JSON format 1.0).
    ///
    /// JSON data is kept as the text it was sent as. A member that is null counts as absent.
    /// - Throws: `JSONError` where it is not JSON; `ServiceError` `.invalid` naming the attribute.
    package static func decodeStructured(_ bytes: [UInt8]) throws -> CloudEvent {
        try JSONCursor.withBytes(bytes) { try decode(&$0, at: "") }
    }

    /// As ``decodeStructured(_:)-([UInt8])``, where byte offsets count from the slice's first byte.
    package static func decodeStructured(_ bytes: ArraySlice<UInt8>) throws -> CloudEvent {
        try JSONCursor.withBytes(bytes) { try decode(&$0, at: "") }
    }

    /// Reads a batch (`application/cloudevents-batch+json`): an array of events, maybe empty, of at most `limit`.
    ///
    /// - Throws: `JSONError` where it is not JSON; `ServiceError` `.invalid` naming event and attribute, `.tooLarge` beyond the limit.
    package static func decodeBatch(_ bytes: [UInt8], limit: Int = .max) throws -> [CloudEvent] {
        try JSONCursor.withBytes(bytes) { cursor in
            var events: [CloudEvent] = []
            try cursor.beginArray()
            while try cursor.nextElement() {
                guard events.count < limit else {
                    throw ServiceError(
                        .tooLarge,
                        "the batch has more than \(limit) events",
                        fix: "send several batches"
                    )
                }
                events.append(try decode(&cursor, at: "[\(events.count)]."))
            }
            return events
        }
    }

    /// Appends the event in structured form; JSON data is spliced in as it is, other data goes to `data_base64`.
    package func encodeStructured(into buffer: inout [UInt8]) {
        buffer += Self.opening
        JSONWriter.append(id, to: &buffer)
        Self.append("source", source, to: &buffer)
        Self.append("type", type, to: &buffer)
        Self.append("subject", subject, to: &buffer)
        Self.append("time", time, to: &buffer)
        Self.append("datacontenttype", dataContentType, to: &buffer)
        Self.append("dataschema", dataSchema, to: &buffer)
        for item in extensions { Self.append(item.name, item.value, to: &buffer) }
        if let data {
            if Self.isJSON(dataContentType), JSONCursor.isValid(data) {
                buffer += Self.dataKey
                buffer += data
            } else {
                Self.append("data_base64", Data(data).base64EncodedString(), to: &buffer)
            }
        }
        buffer.append(0x7D)
    }

    /// Appends events as a batch.
    package static func encodeBatch(_ events: some Sequence<CloudEvent>, into buffer: inout [UInt8]) {
        buffer.append(0x5B)
        var isFirst = true
        for event in events {
            if !isFirst { buffer.append(0x2C) }
            isFirst = false
            event.encodeStructured(into: &buffer)
        }
        buffer.append(0x5D)
    }

    /// Makes an event from the attributes of a request in binary form, checking them as CloudEvents 1.0 demands.
    ///
    /// `attributes` are lower-case names without prefix, with `specversion` among them.
    /// - Throws: `ServiceError` `.invalid` naming the attribute.
    package init(
        attributes: [(name: String, value: String)],
        dataContentType: String?,
        data: [UInt8]?
    ) throws {
        var parts = CloudEventParts(place: "")
        for attribute in attributes {
            guard attribute.name != "datacontenttype" else { continue }  // The content type says it in this form.
            try parts.set(attribute.name, attribute.value)
        }
        if let dataContentType { try parts.set("datacontenttype", dataContentType) }
        self = try parts.event(data: data)
    }

    private static let opening = Array(#"{"specversion":"1.0","id":"#.utf8)
    private static let dataKey = Array(#","data":"#.utf8)

    private static func append(_ name: String, _ value: String?, to buffer: inout [UInt8]) {
        guard let value else { return }
        buffer.append(0x2C)
        JSONWriter.append(name, to: &buffer)
        buffer.append(0x3A)
        JSONWriter.append(value, to: &buffer)
    }

    private static func decode(_ cursor: inout JSONCursor, at place: String) throws -> CloudEvent {
        guard try cursor.peek() == .object else {
            let kind = try cursor.peek()
            throw ServiceError.invalid(field: place, "an event must be an object, not \(kind.noun)")
        }
        var parts = CloudEventParts(place: place)
        var dataRange: Range<Int>?
        var base64: String?
        try cursor.beginObject()
        while let name = try cursor.nextKey() {
            switch name {
            case "data":
                guard dataRange == nil else { throw parts.fault("data", "is given twice") }
                dataRange = try cursor.skipValue()
            case "data_base64":
                guard base64 == nil else { throw parts.fault("data_base64", "is given twice") }
                if try cursor.readNullIfPresent() { continue }
                guard try cursor.peek() == .string else {
                    throw parts.fault("data_base64", "must be a string of base64", fix: "use data for JSON")
                }
                base64 = try cursor.readString()
            default:
                if let value = try value(of: name, &cursor, parts) { try parts.set(name, value) }
            }
        }
        let text = dataRange.map { cursor.bytes($0) }
        var data: [UInt8]?
        if let text, !text.elementsEqual("null".utf8) {
            guard base64 == nil else {
                throw parts.fault("data_base64", "is given beside data", fix: "leave one of them out")
            }
            data = Self.isJSON(parts.dataContentType) ? Array(text) : try plain(text)
            // What JSON format means where it names no type; in other forms it would not be known any more.
            if parts.dataContentType == nil { try parts.set("datacontenttype", "application/json") }
        } else if let base64 {
            guard let decoded = Data(base64Encoded: base64) else { throw parts.fault("data_base64", "is not base64") }
            data = Array(decoded)
        }
        return try parts.event(data: data)
    }

    /// An attribute's value as text, or nil for null.
    private static func value(
        of name: String,
        _ cursor: inout JSONCursor,
        _ parts: CloudEventParts
    ) throws -> String? {
        switch try cursor.peek() {
        case .null:
            try cursor.readNull()
            return nil
        case .string: return try cursor.readString()
        case .bool where !CloudEventParts.isCore(name): return try cursor.readBool() ? "true" : "false"
        case .number where !CloudEventParts.isCore(name):
            let number = try cursor.readNumber()
            guard let value = cursor.int64(number) else {
                throw parts.fault(
                    name,
                    "'\(cursor.text(number.range).prefix(40))' is no integer",
                    fix: "write the value in quotes"
                )
            }
            return String(value)
        case let kind:
            throw parts.fault(
                name,
                "must be a string\(CloudEventParts.isCore(name) ? "" : ", boolean or integer"), not \(kind.noun)",
                fix: "put structured values into data"
            )
        }
    }

    /// Data under a type that is not JSON: the content of a JSON string, or the text of any other value.
    private static func plain(_ text: UnsafeRawBufferPointer) throws -> [UInt8] {
        guard text.first == 0x22 else { return Array(text) }
        var cursor = JSONCursor(text)
        var bytes: [UInt8] = []
        try cursor.readString(appendingTo: &bytes)
        return bytes
    }
}

/// The attributes of an event while it is read, checked by CloudEvents 1.0.
private struct CloudEventParts {
    let place: String
    private var core: [String: String] = [:]
    private var extensions: [CloudEvent.Extension] = []

    private static let names: Set<String> = [
        "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
    ]

    init(place: String) {
        self.place = place
    }

    static func isCore(_ name: String) -> Bool { names.contains(name) }

    var dataContentType: String? { core["datacontenttype"] }

    func fault(_ name: String, _ message: String, fix: String? = nil) -> ServiceError {
        .invalid(field: place + name, message, fix: fix)
    }

    mutating func set(_ name: String, _ value: String) throws {
        if let bad = value.unicodeScalars.first(where: Self.isForbidden) {
            let code = String(bad.value, radix: 16, uppercase: true)
            throw fault(
                name,
                "contains the character U+\(String(repeating: "0", count: max(0, 4 - code.count)))\(code), which no attribute may contain"
            )
        }
        if Self.isCore(name) {
            guard core[name] == nil else { throw fault(name, "is given twice") }
            if let problem = Self.problem(name, value) { throw fault(name, problem.message, fix: problem.fix) }
            core[name] = value
            return
        }
        guard !name.isEmpty, name != "data",
            name.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) })
        else {
            throw fault(
                String(name.prefix(60)),
                "is not a usable attribute name",
                fix: "use lower-case letters and digits only"
            )
        }
        guard !extensions.contains(where: { $0.name == name }) else { throw fault(name, "is given twice") }
        extensions.append(CloudEvent.Extension(name, value))
    }

    func event(data: [UInt8]?) throws -> CloudEvent {
        for name in ["specversion", "id", "source", "type"] where core[name] == nil {
            throw fault(name, "is missing", fix: "every event needs specversion, id, source and type")
        }
        return CloudEvent(
            id: core["id"] ?? "",
            source: core["source"] ?? "",
            type: core["type"] ?? "",
            subject: core["subject"],
            time: core["time"],
            dataContentType: core["datacontenttype"],
            dataSchema: core["dataschema"],
            extensions: extensions,
            data: data
        )
    }

    private static func problem(_ name: String, _ value: String) -> (message: String, fix: String?)? {
        if value.isEmpty { return ("must not be empty", "give it a value or leave it out") }
        switch name {
        case "specversion" where value != "1.0":
            return ("'\(value.prefix(20))' is no version that is understood", "send CloudEvents 1.0")
        case "source", "dataschema":
            guard value.utf8.allSatisfy(isURIByte) else {
                return ("'\(value.prefix(100))' is no URI", "percent-encode spaces, quotes and brackets")
            }
        case "time" where Timestamp.parseMicroseconds(value) == nil:
            return ("'\(value.prefix(60))' is no RFC 3339 time", "write it like 2026-04-08T15:41:29.591955Z")
        case "datacontenttype":
            let media = value.prefix { $0 != ";" }
            let halves = media.split(separator: "/", omittingEmptySubsequences: false)
            guard halves.count == 2, halves.allSatisfy({ !$0.isEmpty }) else {
                return ("'\(value.prefix(100))' is no media type", "write it like application/json")
            }
        default: break
        }
        return nil
    }

    /// Characters of URI references, and bytes above ASCII, which international ones have.
    private static func isURIByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x00...0x20, 0x22, 0x3C, 0x3E, 0x5C, 0x5E, 0x60, 0x7B, 0x7C, 0x7D, 0x7F: false
        default: true
        }
    }

    /// Control characters and non-characters (CloudEvents 1.0, "Type System").
    private static func isForbidden(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0...0x1F, 0x7F...0x9F, 0xFDD0...0xFDEF: true
        default: scalar.value & 0xFFFE == 0xFFFE
        }
    }
}
