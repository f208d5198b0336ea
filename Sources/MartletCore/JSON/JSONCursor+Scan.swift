// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension JSONCursor {
    /// Whether the bytes are one JSON value, and nothing else but white space, in valid UTF-8.
    package static func isValid(_ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { isValid($0) }
    }

    /// Whether the slice is one JSON value, and nothing else but white space, in valid UTF-8.
    package static func isValid(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.withUnsafeBytes { isValid($0) }
    }

    /// Whether the buffer is one JSON value, and nothing else but white space, in valid UTF-8.
    package static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var cursor = JSONCursor(bytes)
        do {
            _ = try cursor.skipValue()
            try cursor.finish()
            return true
        } catch {
            return false
        }
    }

    // MARK: Bytes

    @inline(__always)
    func byte(at index: Int) -> UInt8 {
        assert(index >= 0 && index < end)
        return base.load(fromByteOffset: index, as: UInt8.self)
    }

    @inline(__always)
    mutating func skipWhitespace() {
        while offset < end {
            let byte = byte(at: offset)
            guard byte <= 0x20, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            offset += 1
        }
    }

    @inline(__always)
    mutating func nextSignificantByte() throws(JSONError) -> UInt8 {
        skipWhitespace()
        guard offset < end else { throw JSONError(.unexpectedEnd, offset: end) }
        return byte(at: offset)
    }

    @inline(__always)
    func kind(of byte: UInt8) throws(JSONError) -> JSONKind {
        switch byte {
        case 0x22: .string
        case 0x2D, 0x30...0x39: .number
        case 0x7B: .object
        case 0x5B: .array
        case 0x74, 0x66: .bool
        case 0x6E: .null
        default: throw JSONError(.unexpectedByte(byte), offset: offset)
        }
    }

    // MARK: Whole values

    /// Scans the value at the offset, keeping the open containers in a bit mask instead of on the stack.
    mutating func scanValue() throws(JSONError) {
        var isObject: UInt128 = 0
        var nested = 0
        value: while true {
            let byte = try nextSignificantByte()
            switch byte {
            case 0x22: _ = try scanString()
            case 0x2D, 0x30...0x39: _ = try scanNumber()
            case 0x74, 0x66, 0x6E: try scanLiteral()
            case 0x7B, 0x5B:
                guard depth + nested < Self.depthMax else { throw JSONError(.tooDeep, offset: offset) }
                offset += 1
                let closing = try nextSignificantByte()
                guard closing == byte + 2 else {
                    nested += 1
                    isObject = isObject << 1 | (byte == 0x7B ? 1 : 0)
                    if byte == 0x7B { try scanKey() }
                    continue value
                }
                offset += 1
            default: throw JSONError(.unexpectedByte(byte), offset: offset)
            }
            while true {
                guard nested > 0 else { return }
                let byte = try nextSignificantByte()
                let inObject = isObject & 1 == 1
                if byte == 0x2C {
                    offset += 1
                    if inObject { try scanKey() }
                    continue value
                }
                guard byte == (inObject ? 0x7D : 0x5D) else { throw JSONError(.unexpectedByte(byte), offset: offset) }
                offset += 1
                nested -= 1
                isObject >>= 1
            }
        }
    }

    private mutating func scanKey() throws(JSONError) {
        let quote = try nextSignificantByte()
        guard quote == 0x22 else { throw JSONError(.unexpectedByte(quote), offset: offset) }
        _ = try scanString()
        let colon = try nextSignificantByte()
        guard colon == 0x3A else { throw JSONError(.unexpectedByte(colon), offset: offset) }
        offset += 1
    }

    /// Scans `null`, `true` or `false`, chosen by the byte at the offset.
    mutating func scanLiteral() throws(JSONError) {
        let literal: StaticString =
            switch byte(at: offset) {
            case 0x74: "true"
            case 0x66: "false"
            default: "null"
            }
        for index in 0..<literal.utf8CodeUnitCount {
            guard offset + index < end else { throw JSONError(.unexpectedEnd, offset: end) }
            let found = byte(at: offset + index)
            guard found == literal.utf8Start[index] else {
                throw JSONError(.unexpectedByte(found), offset: offset + index)
            }
        }
        offset += literal.utf8CodeUnitCount
    }

    /// Scans a number and tells whether it has neither fraction nor exponent.
    mutating func scanNumber() throws(JSONError) -> Bool {
        var index = offset
        if byte(at: index) == 0x2D { index += 1 }
        guard index < end else { throw JSONError(.unexpectedEnd, offset: end) }
        if byte(at: index) == 0x30 {
            index += 1
            if index < end, isDigit(byte(at: index)) { throw JSONError(.invalidNumber, offset: index) }
        } else {
            index = try scanDigits(index)
        }
        var isInteger = true
        if index < end, byte(at: index) == 0x2E {
            isInteger = false
            index = try scanDigits(index + 1)
        }
        if index < end, byte(at: index) | 0x20 == 0x65 {
            isInteger = false
            index += 1
            if index < end, byte(at: index) == 0x2B || byte(at: index) == 0x2D { index += 1 }
            index = try scanDigits(index)
        }
        offset = index
        return isInteger
    }

    @inline(__always)
    private func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 <= 9 }

    @inline(__always)
    private func scanDigits(_ start: Int) throws(JSONError) -> Int {
        var index = start
        while index < end, isDigit(byte(at: index)) { index += 1 }
        guard index > start else { throw JSONError(index < end ? .invalidNumber : .unexpectedEnd, offset: index) }
        return index
    }

    // MARK: Strings

    /// Scans the string at the offset, checking escapes and UTF-8, and returns the range between its quotes.
    mutating func scanString() throws(JSONError) -> (content: Range<Int>, hasEscapes: Bool) {
        var index = offset + 1
        let start = index
        var hasEscapes = false
        while true {
            while index + 8 <= end {
                let special = Self.specialBytes(base.loadUnaligned(fromByteOffset: index, as: UInt64.self))
                if special != 0 {
                    index += special.trailingZeroBitCount >> 3
                    break
                }
                index += 8
            }
            guard index < end else { throw JSONError(.unexpectedEnd, offset: end) }
            let byte = byte(at: index)
            if byte == 0x22 {
                offset = index + 1
                return (start..<index, hasEscapes)
            }
            if byte == 0x5C {
                hasEscapes = true
                index = try scanEscape(index)
            } else if byte < 0x20 {
                throw JSONError(.controlCharacter(byte), offset: index)
            } else if byte < 0x80 {
                index += 1
            } else {
                repeat { index = try scanMultibyte(index) } while index < end && self.byte(at: index) >= 0x80
            }
        }
    }

    /// Marks, in the high bit of each byte, quotes, backslashes, control characters and bytes above 0x7F.
    ///
    /// Little-endian words only: bytes above the first marked one may be marked wrongly, which no caller looks at.
    @inline(__always)
    static func specialBytes(_ word: UInt64) -> UInt64 {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let quote = word ^ (ones &* 0x22)
        let backslash = word ^ (ones &* 0x5C)
        let control = word &- (ones &* 0x20)
        return ((quote &- ones) & ~quote | (backslash &- ones) & ~backslash | control & ~word | word) & (ones &* 0x80)
    }

    private func scanEscape(_ index: Int) throws(JSONError) -> Int {
        guard index + 1 < end else { throw JSONError(.unexpectedEnd, offset: end) }
        switch byte(at: index + 1) {
        case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: return index + 2
        case 0x75: break
        default: throw JSONError(.invalidEscape, offset: index)
        }
        let unit = try hexUnit(index)
        guard unit & 0xF800 == 0xD800 else { return index + 6 }
        guard unit < 0xDC00, index + 7 < end, byte(at: index + 6) == 0x5C, byte(at: index + 7) == 0x75 else {
            throw JSONError(.loneSurrogate, offset: index)
        }
        guard try hexUnit(index + 6) & 0xFC00 == 0xDC00 else { throw JSONError(.loneSurrogate, offset: index) }
        return index + 12
    }

    /// The code unit of the `\uXXXX` escape at `index`.
    private func hexUnit(_ index: Int) throws(JSONError) -> UInt32 {
        guard index + 6 <= end else { throw JSONError(.unexpectedEnd, offset: end) }
        var unit: UInt32 = 0
        for position in index + 2..<index + 6 {
            let byte = byte(at: position)
            switch byte {
            case 0x30...0x39: unit = unit << 4 | UInt32(byte &- 0x30)
            case 0x41...0x46, 0x61...0x66: unit = unit << 4 | UInt32((byte | 0x20) &- 0x57)
            default: throw JSONError(.invalidEscape, offset: index)
            }
        }
        return unit
    }

    /// Checks one UTF-8 sequence of two to four bytes (Unicode 15, table 3-7).
    private func scanMultibyte(_ index: Int) throws(JSONError) -> Int {
        let lead = byte(at: index)
        let length: Int
        var lowest: UInt8 = 0x80
        var highest: UInt8 = 0xBF
        switch lead {
        case 0xC2...0xDF: length = 2
        case 0xE0...0xEF:
            length = 3
            if lead == 0xE0 { lowest = 0xA0 }
            if lead == 0xED { highest = 0x9F }
        case 0xF0...0xF4:
            length = 4
            if lead == 0xF0 { lowest = 0x90 }
            if lead == 0xF4 { highest = 0x8F }
        default: throw JSONError(.invalidUTF8, offset: index)
        }
        guard index + length <= end else { throw JSONError(.invalidUTF8, offset: index) }
        let second = byte(at: index + 1)
        guard second >= lowest, second <= highest else { throw JSONError(.invalidUTF8, offset: index) }
        if length > 2, byte(at: index + 2) & 0xC0 != 0x80 { throw JSONError(.invalidUTF8, offset: index) }
        if length > 3, byte(at: index + 3) & 0xC0 != 0x80 { throw JSONError(.invalidUTF8, offset: index) }
        return index + length
    }

    /// Appends the content of a scanned string with its escapes resolved.
    func appendUnescaped(_ content: Range<Int>, to buffer: inout [UInt8]) {
        var index = content.lowerBound
        while index < content.upperBound {
            let byte = byte(at: index)
            guard byte == 0x5C else {
                buffer.append(byte)
                index += 1
                continue
            }
            let escape = self.byte(at: index + 1)
            index += 2
            switch escape {
            case 0x62: buffer.append(0x08)
            case 0x66: buffer.append(0x0C)
            case 0x6E: buffer.append(0x0A)
            case 0x72: buffer.append(0x0D)
            case 0x74: buffer.append(0x09)
            case 0x75:
                var scalar = scannedUnit(index)
                index += 4
                if scalar & 0xFC00 == 0xD800 {
                    scalar = 0x10000 + (scalar & 0x3FF) << 10 + (scannedUnit(index + 2) & 0x3FF)
                    index += 6
                }
                Self.appendUTF8(scalar, to: &buffer)
            default: buffer.append(escape)
            }
        }
    }

    /// The code unit of four hexadecimal digits that were checked before.
    private func scannedUnit(_ index: Int) -> UInt32 {
        var unit: UInt32 = 0
        for position in index..<index + 4 {
            let byte = byte(at: position)
            unit = unit << 4 | UInt32(byte <= 0x39 ? byte &- 0x30 : (byte | 0x20) &- 0x57)
        }
        return unit
    }

    private static func appendUTF8(_ scalar: UInt32, to buffer: inout [UInt8]) {
        if scalar < 0x80 {
            buffer.append(UInt8(scalar))
        } else if scalar < 0x800 {
            buffer.append(UInt8(0xC0 | scalar >> 6))
            buffer.append(UInt8(0x80 | scalar & 0x3F))
        } else if scalar < 0x10000 {
            buffer.append(UInt8(0xE0 | scalar >> 12))
            buffer.append(UInt8(0x80 | scalar >> 6 & 0x3F))
            buffer.append(UInt8(0x80 | scalar & 0x3F))
        } else {
            buffer.append(UInt8(0xF0 | scalar >> 18))
            buffer.append(UInt8(0x80 | scalar >> 12 & 0x3F))
            buffer.append(UInt8(0x80 | scalar >> 6 & 0x3F))
            buffer.append(UInt8(0x80 | scalar & 0x3F))
        }
    }
}
