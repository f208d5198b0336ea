// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A single-pass pull parser over UTF-8 JSON text (RFC 8259, strict), which copies nothing it is not asked for.
///
/// The cursor stands before a value. Containers are read as `try beginArray(); while try nextElement() { … }` and
/// `try beginObject(); while let key = try nextKey() { … }`, with exactly one value read or skipped in each round.
/// It points into the caller's bytes: use it only inside the closure of ``withBytes(_:_:)-(ArraySlice<UInt8>,_)`` or of
/// the `withUnsafeBytes` it was made in. After an error the position is unspecified.
package struct JSONCursor {
    /// How deep arrays and objects may nest.
    package static let depthMax = 128

    let base: UnsafeRawPointer
    let end: Int
    /// Offset of the next unread byte from the start of the text.
    package internal(set) var offset = 0
    private(set) var depth = 0
    /// True right after an opening bracket, when no comma is due.
    private var isFresh = false

    /// Makes a cursor at the start of `bytes`, which must stay valid while the cursor is used.
    package init(_ bytes: UnsafeRawBufferPointer) {
        if let base = bytes.baseAddress {
            self.base = base
            end = bytes.count
        } else {
            base = UnsafeRawPointer(bitPattern: 1).unsafelyUnwrapped
            end = 0
        }
    }

    /// Runs `body` with a cursor over a whole text and checks that nothing but white space follows what it read.
    package static func withBytes<R>(_ bytes: [UInt8], _ body: (inout JSONCursor) throws -> R) throws -> R {
        try bytes.withUnsafeBytes { try run($0, body) }
    }

    /// Runs `body` with a cursor over a whole text, where offset 0 is the slice's first byte.
    package static func withBytes<R>(_ bytes: ArraySlice<UInt8>, _ body: (inout JSONCursor) throws -> R) throws -> R {
        try bytes.withUnsafeBytes { try run($0, body) }
    }

    private static func run<R>(_ bytes: UnsafeRawBufferPointer, _ body: (inout JSONCursor) throws -> R) throws -> R {
        var cursor = JSONCursor(bytes)
        let result = try body(&cursor)
        try cursor.finish()
        return result
    }

    // MARK: Looking

    /// The kind of the value the cursor stands before, judged by its first byte.
    package mutating func peek() throws(JSONError) -> JSONKind {
        try kind(of: nextSignificantByte())
    }

    /// Checks that only white space is left.
    package mutating func finish() throws(JSONError) {
        skipWhitespace()
        guard offset == end else { throw JSONError(.trailingBytes, offset: offset) }
    }

    // MARK: Containers

    /// Enters the array the cursor stands before.
    package mutating func beginArray() throws(JSONError) {
        try begin(0x5B, .array)
    }

    /// Enters the object the cursor stands before.
    package mutating func beginObject() throws(JSONError) {
        try begin(0x7B, .object)
    }

    /// Moves to the next element of the array entered last; false when its end was read.
    package mutating func nextElement() throws(JSONError) -> Bool {
        let byte = try nextSignificantByte()
        if byte == 0x5D {
            leave()
            return false
        }
        if isFresh {
            isFresh = false
            return true
        }
        guard byte == 0x2C else { throw JSONError(.unexpectedByte(byte), offset: offset) }
        offset += 1
        let following = try nextSignificantByte()
        guard following != 0x5D else { throw JSONError(.unexpectedByte(following), offset: offset) }
        return true
    }

    /// Reads the next key of the object entered last and moves before its value; nil when its end was read.
    package mutating func nextKey() throws(JSONError) -> String? {
        var byte = try nextSignificantByte()
        if byte == 0x7D {
            leave()
            return nil
        }
        if isFresh {
            isFresh = false
        } else {
            guard byte == 0x2C else { throw JSONError(.unexpectedByte(byte), offset: offset) }
            offset += 1
            byte = try nextSignificantByte()
        }
        guard byte == 0x22 else { throw JSONError(.unexpectedByte(byte), offset: offset) }
        let key = try readString()
        let colon = try nextSignificantByte()
        guard colon == 0x3A else { throw JSONError(.unexpectedByte(colon), offset: offset) }
        offset += 1
        return key
    }

    private mutating func begin(_ bracket: UInt8, _ wanted: JSONKind) throws(JSONError) {
        let byte = try nextSignificantByte()
        guard byte == bracket else { throw JSONError(.expected(wanted, found: try kind(of: byte)), offset: offset) }
        guard depth < Self.depthMax else { throw JSONError(.tooDeep, offset: offset) }
        depth += 1
        offset += 1
        isFresh = true
    }

    private mutating func leave() {
        precondition(depth > 0, "JSONCursor: the end of a container was asked for outside of one")
        depth -= 1
        offset += 1
        isFresh = false
    }

    // MARK: Scalars

    /// Reads `null`.
    package mutating func readNull() throws(JSONError) {
        try expect(.null)
        try scanLiteral()
    }

    /// Reads `true` or `false`.
    package mutating func readBool() throws(JSONError) -> Bool {
        try expect(.bool)
        let value = byte(at: offset) == 0x74
        try scanLiteral()
        return value
    }

    /// Reads `null` when it stands there; false leaves the cursor where it is.
    package mutating func readNullIfPresent() throws(JSONError) -> Bool {
        guard try peek() == .null else { return false }
        try scanLiteral()
        return true
    }

    /// Reads a string and resolves its escapes.
    package mutating func readString() throws(JSONError) -> String {
        try expect(.string)
        let (content, hasEscapes) = try scanString()
        if !hasEscapes {
            return String(
                decoding: UnsafeRawBufferPointer(start: base + content.lowerBound, count: content.count),
                as: UTF8.self
            )
        }
        var decoded: [UInt8] = []
        decoded.reserveCapacity(content.count)
        appendUnescaped(content, to: &decoded)
        return String(decoding: decoded, as: UTF8.self)
    }

    /// Reads a string and appends its UTF-8 bytes, escapes resolved, to `buffer`.
    package mutating func readString(appendingTo buffer: inout [UInt8]) throws(JSONError) {
        try expect(.string)
        let (content, hasEscapes) = try scanString()
        if hasEscapes {
            appendUnescaped(content, to: &buffer)
        } else {
            buffer.append(contentsOf: UnsafeRawBufferPointer(start: base + content.lowerBound, count: content.count))
        }
    }

    /// Reads an integer exactly; a fraction, an exponent or more than 64 bits is an error.
    package mutating func readInt64() throws(JSONError) -> Int64 {
        let number = try readNumber()
        guard number.isInteger else { throw JSONError(.notAnInteger, offset: number.range.lowerBound) }
        guard let value = int64(number) else { throw JSONError(.numberOutOfRange, offset: number.range.lowerBound) }
        return value
    }

    /// Reads a number as the nearest double; one too large for a finite double is an error.
    package mutating func readDouble() throws(JSONError) -> Double {
        let number = try readNumber()
        let value = double(number)
        guard value.isFinite else { throw JSONError(.numberOutOfRange, offset: number.range.lowerBound) }
        return value
    }

    /// Reads a number and returns where its text stands and whether it is written as an integer.
    package mutating func readNumber() throws(JSONError) -> JSONNumber {
        try expect(.number)
        let start = offset
        let isInteger = try scanNumber()
        return JSONNumber(range: start..<offset, isInteger: isInteger)
    }

    /// The exact value of a number read before, or nil when it is not an integer of 64 bits.
    package func int64(_ number: JSONNumber) -> Int64? {
        guard number.isInteger else { return nil }
        var index = number.range.lowerBound
        let isNegative = byte(at: index) == 0x2D
        if isNegative { index += 1 }
        guard number.range.upperBound - index <= 19 else { return nil }
        var magnitude: UInt64 = 0
        while index < number.range.upperBound {
            magnitude = magnitude &* 10 &+ UInt64(byte(at: index) &- 0x30)
            index += 1
        }
        if isNegative {
            return magnitude <= 1 << 63 ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil
        }
        return Int64(exactly: magnitude)
    }

    /// The nearest double of a number read before; infinite when it is too large.
    package func double(_ number: JSONNumber) -> Double {
        if let exact = shortDouble(number.range) { return exact }
        return Double(text(number.range)) ?? .infinity
    }

    /// Reads past one value of any kind, checking all of it, and returns the range of its text.
    package mutating func skipValue() throws(JSONError) -> Range<Int> {
        _ = try nextSignificantByte()
        let start = offset
        try scanValue()
        isFresh = false
        return start..<offset
    }

    // MARK: Raw text

    /// The bytes of a range that a read returned.
    package func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        precondition(range.lowerBound >= 0 && range.upperBound <= end, "JSONCursor: range outside of the text")
        return UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count)
    }

    /// The text of a range that a read returned.
    package func text(_ range: Range<Int>) -> String {
        String(decoding: bytes(range), as: UTF8.self)
    }

    private mutating func expect(_ wanted: JSONKind) throws(JSONError) {
        let found = try peek()
        guard found == wanted else { throw JSONError(.expected(wanted, found: found), offset: offset) }
    }

    /// The value of a number of at most 18 digits and a small power of ten, where one rounding is enough (Clinger's fast path).
    private func shortDouble(_ range: Range<Int>) -> Double? {
        guard range.count <= 24 else { return nil }
        var index = range.lowerBound
        let isNegative = byte(at: index) == 0x2D
        if isNegative { index += 1 }
        var mantissa: UInt64 = 0
        var digits = 0
        var exponent = 0
        var isFraction = false
        scan: while index < range.upperBound {
            let byte = byte(at: index)
            index += 1
            switch byte {
            case 0x30...0x39:
                mantissa = mantissa &* 10 &+ UInt64(byte &- 0x30)
                digits += 1
                if isFraction { exponent -= 1 }
            case 0x2E: isFraction = true
            default:
                var explicit = 0
                var sign = 1
                while index < range.upperBound {
                    let byte = self.byte(at: index)
                    index += 1
                    if byte == 0x2D { sign = -1 } else if byte != 0x2B { explicit = explicit * 10 + Int(byte &- 0x30) }
                    if explicit > 400 { return nil }
                }
                exponent += sign * explicit
                break scan
            }
        }
        guard digits <= 18, mantissa <= 1 << 53, exponent >= -22, exponent <= 22 else { return nil }
        let magnitude =
            exponent < 0
            ? Double(mantissa) / Self.powersOfTen[-exponent] : Double(mantissa) * Self.powersOfTen[exponent]
        return isNegative ? -magnitude : magnitude
    }

    private static let powersOfTen: [Double] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ]
}

/// Where the text of a number stands and whether it has neither fraction nor exponent.
package struct JSONNumber: Sendable, Hashable {
    /// Byte range of the number's text.
    package let range: Range<Int>
    /// True when the text has neither fraction nor exponent.
    package let isInteger: Bool
}
