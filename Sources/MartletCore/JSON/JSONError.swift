// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why a text is not the JSON that was asked for, and at which byte.
package struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What is wrong at the offset.
    package enum Code: Sendable, Hashable {
        case unexpectedEnd
        case unexpectedByte(UInt8)
        case expected(JSONKind, found: JSONKind)
        case invalidUTF8
        case invalidEscape
        case loneSurrogate
        case controlCharacter(UInt8)
        case invalidNumber
        case notAnInteger
        case numberOutOfRange
        case tooDeep
        case trailingBytes
    }

    /// What is wrong.
    package let code: Code
    /// Byte offset in the text where the fault was seen.
    package let offset: Int

    /// Makes an error for one place in a text.
    package init(_ code: Code, offset: Int) {
        self.code = code
        self.offset = offset
    }

    /// The fault in words, without the place.
    package var reason: String {
        switch code {
        case .unexpectedEnd: "the text ends too early"
        case .unexpectedByte(let byte): "unexpected \(Self.name(of: byte))"
        case .expected(let wanted, let found): "expected \(wanted.noun), found \(found.noun)"
        case .invalidUTF8: "the bytes are not UTF-8"
        case .invalidEscape: "invalid escape sequence in a string"
        case .loneSurrogate: "a \\u escape is half of a surrogate pair"
        case .controlCharacter(let byte): "a string contains an unescaped \(Self.name(of: byte))"
        case .invalidNumber: "malformed number"
        case .notAnInteger: "expected an integer without fraction or exponent"
        case .numberOutOfRange: "the number does not fit the type that is asked for"
        case .tooDeep: "arrays and objects are nested deeper than \(JSONCursor.depthMax) levels"
        case .trailingBytes: "there is more text after the end of the value"
        }
    }

    /// The fault in words, with the place.
    package var description: String { "\(reason) at byte \(offset)" }

    private static func name(of byte: UInt8) -> String {
        if byte >= 0x20, byte < 0x7F { return "'\(Character(Unicode.Scalar(byte)))'" }
        let digits = String(byte, radix: 16, uppercase: true)
        return "byte 0x\(digits.count < 2 ? "0" : "")\(digits)"
    }
}

/// The six kinds of JSON value.
package enum JSONKind: Sendable, Hashable {
    case null, bool, number, string, array, object

    /// The kind with its article, for messages.
    package var noun: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}
