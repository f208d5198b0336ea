// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// A JSON value in memory, where numbers stay as they were written and objects keep the order of their keys.
package enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    /// A number as it was written, where neither an `int` nor a `double` would be written the same: 30 digits, `1.50`, `1e400`.
    case number(String)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    /// Parses a whole text.
    ///
    /// A number becomes `int` or `double` where that is written the same again, and `number` otherwise. Of a key that an object
    /// repeats the last value counts, unless repeated keys are to be kept, which is for values that are only passed on.
    package init(parsing bytes: [UInt8], keepingRepeatedKeys: Bool = false) throws {
        self = try JSONCursor.withBytes(bytes) { try $0.readValue(keepingRepeatedKeys: keepingRepeatedKeys) }
    }

    /// Parses a whole text.
    package init(parsing bytes: ArraySlice<UInt8>) throws {
        self = try JSONCursor.withBytes(bytes) { try $0.readValue() }
    }

    /// Parses a whole text.
    package init(parsing text: String) throws {
        try self.init(parsing: Array(text.utf8))
    }

    /// The compact JSON text.
    package var bytes: [UInt8] {
        var buffer: [UInt8] = []
        JSONWriter.append(self, to: &buffer)
        return buffer
    }

    /// The compact JSON text as a string.
    package var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The kind of the value.
    package var kind: JSONKind {
        switch self {
        case .null: .null
        case .bool: .bool
        case .int, .double, .number: .number
        case .string: .string
        case .array: .array
        case .object: .object
        }
    }

    /// The member of an object, or nil when there is none or this is no object.
    package subscript(key: String) -> JSONValue? {
        guard case .object(let object) = self else { return nil }
        return object[key]
    }

    /// The text of a string value.
    package var stringValue: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// The value of an integer.
    package var intValue: Int64? {
        guard case .int(let value) = self else { return nil }
        return value
    }

    /// The value of any number, as near as a double comes; nil beyond its range.
    package var doubleValue: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        case .number(let text): Double(text).flatMap { $0.isFinite ? $0 : nil }
        default: nil
        }
    }

    /// The value of a boolean.
    package var boolValue: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    /// The elements of an array.
    package var arrayValue: [JSONValue]? {
        guard case .array(let elements) = self else { return nil }
        return elements
    }

    /// The members of an object.
    package var objectValue: JSONObject? {
        guard case .object(let object) = self else { return nil }
        return object
    }
}

extension JSONCursor {
    /// Reads one value of any kind into memory.
    package mutating func readValue(keepingRepeatedKeys: Bool = false) throws(JSONError) -> JSONValue {
        switch try peek() {
        case .null:
            try readNull()
            return .null
        case .bool: return .bool(try readBool())
        case .string: return .string(try readString())
        case .number:
            let number = try readNumber()
            if let integer = int64(number) { return .int(integer) }
            let value = double(number)
            let text = bytes(number.range)
            // The shortest text of a double has at most 24 bytes.
            guard text.count <= 24, value.description.utf8.elementsEqual(text) else {
                return .number(String(decoding: text, as: UTF8.self))
            }
            return .double(value)
        case .array:
            var elements: [JSONValue] = []
            try beginArray()
            while try nextElement() {
                elements.append(try readValue(keepingRepeatedKeys: keepingRepeatedKeys))
            }
            return .array(elements)
        case .object:
            var members: [JSONObject.Member] = []
            try beginObject()
            while let key = try nextKey() {
                let value = try readValue(keepingRepeatedKeys: keepingRepeatedKeys)
                members.append(JSONObject.Member(key: key, value: value))
            }
            return .object(keepingRepeatedKeys ? JSONObject(asWritten: members) : JSONObject(members: members))
        }
    }
}

extension JSONValue: Codable {
    /// Decodes any JSON; a decoder without order gives an object's keys in any order.
    package init(from decoder: any Decoder) throws {
        // Each `try?` below asks for one kind; the wrong kind is no fault, the next is tried.
        if let container = try? decoder.container(keyedBy: MemberKey.self) {
            var object = JSONObject()
            for key in container.allKeys { object[key.stringValue] = try container.decode(JSONValue.self, forKey: key) }
            self = .object(object)
            return
        }
        if var container = try? decoder.unkeyedContainer() {
            var elements: [JSONValue] = []
            while !container.isAtEnd { elements.append(try container.decode(JSONValue.self)) }
            self = .array(elements)
            return
        }
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else {
            self = .string(try container.decode(String.self))
        }
    }

    /// Encodes the value as itself.
    package func encode(to encoder: any Encoder) throws {
        switch self {
        case .object(let object):
            var container = encoder.container(keyedBy: MemberKey.self)
            for member in object.members {
                try container.encode(member.value, forKey: MemberKey(stringValue: member.key))
            }
        case .array(let elements):
            var container = encoder.unkeyedContainer()
            for element in elements { try container.encode(element) }
        case .null:
            var container = encoder.singleValueContainer()
            try container.encodeNil()
        case .bool(let value):
            var container = encoder.singleValueContainer()
            try container.encode(value)
        case .int(let value):
            var container = encoder.singleValueContainer()
            try container.encode(value)
        case .double(let value):
            var container = encoder.singleValueContainer()
            try container.encode(value)
        case .number(let text):
            var container = encoder.singleValueContainer()
            // Encoders take numbers of 38 digits; what is longer goes as text, which loses nothing.
            let digits = text.prefix { $0 != "e" && $0 != "E" }.count { $0.isNumber }
            if digits <= 38, let value = Decimal(string: text), value.isFinite {
                try container.encode(value)
            } else if digits <= 15, let value = doubleValue {
                try container.encode(value)
            } else {
                try container.encode(text)
            }
        case .string(let value):
            var container = encoder.singleValueContainer()
            try container.encode(value)
        }
    }

    private struct MemberKey: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }
}

extension JSONValue: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    /// Makes the value a literal stands for.
    package init(nilLiteral: ()) { self = .null }
    /// Makes the value a literal stands for.
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    /// Makes the value a literal stands for.
    package init(integerLiteral value: Int64) { self = .int(value) }
    /// Makes the value a literal stands for.
    package init(floatLiteral value: Double) { self = .double(value) }
    /// Makes the value a literal stands for.
    package init(stringLiteral value: String) { self = .string(value) }
    /// Makes the value a literal stands for.
    package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    /// Makes the value a literal stands for.
    package init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(JSONObject(members: elements.map { JSONObject.Member(key: $0.0, value: $0.1) }))
    }
}
