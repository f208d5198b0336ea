// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Why a text is not JSON that a table takes.
struct JSONFault {
    enum Kind {
        case syntax, cutOff, encoding, surrogate, depth
    }

    var kind = Kind.syntax
    var at: Bytes?
}

/// Scans JSON text in place.
///
/// Every function takes the text's end and may read, but never takes for a part of the text, up to 16 bytes behind it.
/// Functions return where they stopped, or nil with ``fault`` set.
struct JSONText {
    /// How deep objects and arrays may nest, the outermost included.
    static let depthMax = 512

    var fault = JSONFault()
    private let stack = UnsafeMutablePointer<UInt8>.allocate(capacity: JSONText.depthMax + 1)

    func free() { stack.deallocate() }

    @inline(__always)
    static func load(_ p: Bytes) -> UInt64 {
        UnsafeRawPointer(p).loadUnaligned(as: UInt64.self)
    }

    @inline(__always)
    static func skipSpace(_ start: Bytes, _ end: Bytes) -> Bytes {
        var p = start
        while p < end, p.pointee <= 0x20 {
            let byte = p.pointee
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { break }
            p += 1
        }
        return p
    }

    @inline(never)
    mutating func fail(_ kind: JSONFault.Kind, _ at: Bytes) -> Bytes? {
        fault = JSONFault(kind: kind, at: at)
        return nil
    }

    // MARK: Strings

    /// Finds the closing quote of the string whose first byte is at `start`, checking all of it.
    @inline(__always)
    mutating func stringEnd(_ start: Bytes, _ end: Bytes, _ hasEscapes: inout Bool) -> Bytes? {
        var p = start
        while true {
            let word = Self.load(p)
            let quote = word ^ 0x2222_2222_2222_2222
            let slash = word ^ 0x5C5C_5C5C_5C5C_5C5C
            let ones: UInt64 = 0x0101_0101_0101_0101
            let found =
                ((quote &- ones) & ~quote | (slash &- ones) & ~slash | (word &- 0x2020_2020_2020_2020) & ~word | word)
                & 0x8080_8080_8080_8080
            if found == 0 {
                p += 8
                if p < end { continue }
                return fail(.cutOff, end)
            }
            p += found.trailingZeroBitCount &>> 3
            if p >= end { return fail(.cutOff, end) }
            if p.pointee == 0x22 { return p }
            return slowStringEnd(p, end, &hasEscapes)
        }
    }

    @inline(never)
    private mutating func slowStringEnd(_ start: Bytes, _ end: Bytes, _ hasEscapes: inout Bool) -> Bytes? {
        var p = start
        while p < end {
            let byte = p.pointee
            if byte == 0x22 { return p }
            if byte >= 0x80 {
                let length = Self.sequenceLength(p, end)
                guard length > 0 else { return fail(.encoding, p) }
                p += length
            } else if byte == 0x5C {
                hasEscapes = true
                guard let next = escapeEnd(p, end) else { return nil }
                p = next
            } else if byte < 0x20 {
                return fail(.syntax, p)
            } else {
                p += 1
            }
        }
        return fail(.cutOff, end)
    }

    private mutating func escapeEnd(_ slash: Bytes, _ end: Bytes) -> Bytes? {
        guard end - slash >= 2 else { return fail(.cutOff, end) }
        switch slash[1] {
        case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: return slash + 2
        case 0x75: break
        default: return fail(.syntax, slash + 1)
        }
        guard end - slash >= 6 else { return fail(.cutOff, end) }
        guard let unit = Self.hexadecimal(slash + 2) else { return fail(.syntax, slash + 2) }
        guard unit >= 0xD800, unit <= 0xDFFF else { return slash + 6 }
        guard unit <= 0xDBFF, end - slash >= 12, slash[6] == 0x5C, slash[7] == 0x75,
            let low = Self.hexadecimal(slash + 8), low >= 0xDC00, low <= 0xDFFF
        else { return fail(.surrogate, slash) }
        return slash + 12
    }

    static func hexadecimal(_ p: Bytes) -> UInt32? {
        var value: UInt32 = 0
        for index in 0..<4 {
            let byte = p[index]
            let digit: UInt8
            switch byte {
            case 0x30...0x39: digit = byte - 0x30
            case 0x41...0x46: digit = byte - 0x37
            case 0x61...0x66: digit = byte - 0x57
            default: return nil
            }
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    /// The length of the well-formed UTF-8 sequence of more than one byte at `p` (Unicode, table 3-7); 0 when there is none.
    static func sequenceLength(_ p: Bytes, _ end: Bytes) -> Int {
        func isTail(_ index: Int) -> Bool { p[index] & 0xC0 == 0x80 }
        let left = end - p
        switch p[0] {
        case 0xC2...0xDF: return left >= 2 && isTail(1) ? 2 : 0
        case 0xE0...0xEF:
            guard left >= 3, isTail(1), isTail(2) else { return 0 }
            if p[0] == 0xE0, p[1] < 0xA0 { return 0 }
            if p[0] == 0xED, p[1] > 0x9F { return 0 }
            return 3
        case 0xF0...0xF4:
            guard left >= 4, isTail(1), isTail(2), isTail(3) else { return 0 }
            if p[0] == 0xF0, p[1] < 0x90 { return 0 }
            if p[0] == 0xF4, p[1] > 0x8F { return 0 }
            return 4
        default: return 0
        }
    }

    /// Whether bytes are UTF-8; reads nothing behind `end`.
    static func isUTF8(_ start: Bytes, _ count: Int) -> Bool {
        var p = start
        let end = start + count
        while p < end {
            if end - p >= 8, load(p) & 0x8080_8080_8080_8080 == 0 {
                p += 8
            } else if p.pointee < 0x80 {
                p += 1
            } else {
                let length = sequenceLength(p, end)
                if length == 0 { return false }
                p += length
            }
        }
        return true
    }

    /// Writes a checked string without its escapes and returns how many bytes it has, never more than before.
    static func unescape(_ start: Bytes, _ end: Bytes, into place: UnsafeMutablePointer<UInt8>) -> Int {
        var p = start
        var out = place
        while p < end {
            guard p.pointee == 0x5C else {
                out.pointee = p.pointee
                out += 1
                p += 1
                continue
            }
            var code: UInt32
            switch p[1] {
            case 0x62: code = 0x08
            case 0x66: code = 0x0C
            case 0x6E: code = 0x0A
            case 0x72: code = 0x0D
            case 0x74: code = 0x09
            case 0x75:
                code = hexadecimal(p + 2) ?? 0xFFFD
                p += 4
                if code & 0xFC00 == 0xD800 {
                    code = 0x10000 + (code & 0x3FF) << 10 + (hexadecimal(p + 4) ?? 0) & 0x3FF
                    p += 6
                }
            default: code = UInt32(p[1])
            }
            p += 2
            out += encode(code, at: out)
        }
        return out - place
    }

    private static func encode(_ code: UInt32, at out: UnsafeMutablePointer<UInt8>) -> Int {
        func tail(_ shift: UInt32) -> UInt8 { UInt8(0x80 | code >> shift & 0x3F) }
        switch code {
        case ..<0x80:
            out[0] = UInt8(code)
            return 1
        case ..<0x800:
            (out[0], out[1]) = (UInt8(0xC0 | code >> 6), tail(0))
            return 2
        case ..<0x10000:
            (out[0], out[1], out[2]) = (UInt8(0xE0 | code >> 12), tail(6), tail(0))
            return 3
        default:
            (out[0], out[1], out[2], out[3]) = (UInt8(0xF0 | code >> 18), tail(12), tail(6), tail(0))
            return 4
        }
    }

    // MARK: Values

    /// Steps over `true`, `false` or `null` at `start`.
    @inline(__always)
    mutating func literalEnd(_ start: Bytes, _ end: Bytes) -> Bytes? {
        let word = UnsafeRawPointer(start).loadUnaligned(as: UInt32.self)
        if word == 0x6575_7274 || word == 0x6C6C_756E, end - start >= 4 { return start + 4 }
        if word == 0x736C_6166, end - start >= 5, start[4] == 0x65 { return start + 5 }
        return fail(.syntax, start)
    }

    /// Finds the end of the value at `start`, white space before it included, inside `outer` containers.
    mutating func valueEnd(_ start: Bytes, _ end: Bytes, outer: Int) -> Bytes? {
        var p = start
        var depth = 0
        while true {
            p = Self.skipSpace(p, end)
            guard p < end else { return fail(.cutOff, end) }
            let byte = p.pointee
            var isOpen = false
            if byte == 0x7B || byte == 0x5B {
                depth += 1
                guard depth + outer <= Self.depthMax else { return fail(.depth, p) }
                stack[depth] = byte
                p = Self.skipSpace(p + 1, end)
                guard p < end else { return fail(.cutOff, end) }
                isOpen = p.pointee != byte + 2
                if isOpen, byte == 0x7B {
                    guard let next = memberName(p, end) else { return nil }
                    p = next
                }
            } else {
                guard let next = scalarEnd(p, end) else { return nil }
                p = next
            }
            if isOpen { continue }
            // A value or an empty container has ended, or its bracket stands here.
            while true {
                if depth == 0 { return p }
                p = Self.skipSpace(p, end)
                guard p < end else { return fail(.cutOff, end) }
                if p.pointee == stack[depth] + 2 {
                    p += 1
                    depth -= 1
                    continue
                }
                guard p.pointee == 0x2C else { return fail(.syntax, p) }
                p += 1
                if stack[depth] == 0x7B {
                    guard let next = memberName(Self.skipSpace(p, end), end) else { return nil }
                    p = next
                }
                break
            }
        }
    }

    /// Steps over a member's name and its colon.
    private mutating func memberName(_ start: Bytes, _ end: Bytes) -> Bytes? {
        guard start < end else { return fail(.cutOff, end) }
        guard start.pointee == 0x22 else { return fail(.syntax, start) }
        var hasEscapes = false
        guard let quote = stringEnd(start + 1, end, &hasEscapes) else { return nil }
        let colon = Self.skipSpace(quote + 1, end)
        guard colon < end else { return fail(.cutOff, end) }
        guard colon.pointee == 0x3A else { return fail(.syntax, colon) }
        return colon + 1
    }

    private mutating func scalarEnd(_ p: Bytes, _ end: Bytes) -> Bytes? {
        switch p.pointee {
        case 0x22:
            var hasEscapes = false
            guard let quote = stringEnd(p + 1, end, &hasEscapes) else { return nil }
            return quote + 1
        case 0x74, 0x66, 0x6E: return literalEnd(p, end)
        default:
            return NumberText.end(p, end) ?? fail(.syntax, p)
        }
    }
}
