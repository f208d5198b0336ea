// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// An event as people wrote it, and the text of its data.
struct WrittenEvent: Sendable {
    var value: JSONValue
    /// The JSON text that stands under `data`; nil where it was written in YAML.
    var data: [UInt8]?

    init(value: JSONValue, data: [UInt8]? = nil) {
        self.value = value
        self.data = data
    }

    /// An event that has nothing but data.
    ///
    /// - Throws: `JSONError` where the text is not JSON.
    init(data text: String) throws {
        let bytes = Array(text.utf8)
        value = ["data": ""]
        data = try JSONCursor.withBytes(bytes) { cursor in
            let range = try cursor.skipValue()
            return Array(cursor.bytes(range))
        }
    }

    /// One event in JSON.
    ///
    /// - Throws: `JSONError` where the text is not JSON.
    init(json bytes: [UInt8]) throws {
        self = try JSONCursor.withBytes(bytes) { try WrittenEvent(&$0) }
    }

    /// What a file holds: one event, or a list of them.
    static func read(_ file: InputFile) throws -> (events: [WrittenEvent], isList: Bool) {
        if JSONCursor.isValid(file.bytes) {
            return try JSONCursor.withBytes(file.bytes) { cursor in
                guard try cursor.peek() == .array else { return ([try WrittenEvent(&cursor)], false) }
                var events: [WrittenEvent] = []
                try cursor.beginArray()
                while try cursor.nextElement() { events.append(try WrittenEvent(&cursor)) }
                return (events, true)
            }
        }
        let value = try file.value()
        guard let list = value.arrayValue else { return ([WrittenEvent(value: value)], false) }
        return (list.map { WrittenEvent(value: $0) }, true)
    }

    private init(_ cursor: inout JSONCursor) throws {
        guard try cursor.peek() == .object else {
            self.init(value: try cursor.readValue())
            return
        }
        var members: [JSONObject.Member] = []
        var data: [UInt8]?
        try cursor.beginObject()
        while let key = try cursor.nextKey() {
            guard key == "data" else {
                members.append(.init(key: key, value: try cursor.readValue()))
                continue
            }
            let isNull = try cursor.peek() == .null
            let range = try cursor.skipValue()
            data = Array(cursor.bytes(range))
            members.append(.init(key: key, value: isNull ? .null : ""))
        }
        self.init(value: .object(JSONObject(members: members)), data: data)
    }
}
