// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Appends JSON text to a byte buffer.
package enum JSONWriter {
    /// Appends a string in quotes, escaping what RFC 8259 demands and nothing else.
    package static func append(_ string: String, to buffer: inout [UInt8]) {
        var string = string
        string.withUTF8 { append(utf8: UnsafeRawBufferPointer($0), to: &buffer) }
    }

    /// Appends UTF-8 text in quotes; the bytes must be valid UTF-8.
    package static func append(utf8: UnsafeRawBufferPointer, to buffer: inout [UInt8]) {
        buffer.append(0x22)
        var start = 0
        var index = 0
        while index < utf8.count {
            let byte = utf8[index]
            if byte >= 0x20, byte != 0x22, byte != 0x5C {
                index += 1
                continue
            }
            buffer.append(contentsOf: utf8[start..<index])
            appendEscape(byte, to: &buffer)
            index += 1
            start = index
        }
        buffer.append(contentsOf: utf8[start..<index])
        buffer.append(0x22)
    }

    /// Appends an integer.
    package static func append(_ value: Int64, to buffer: inout [UInt8]) {
        var magnitude = value.magnitude
        if value < 0 { buffer.append(0x2D) }
        let start = buffer.count
        repeat {
            buffer.append(0x30 + UInt8(truncatingIfNeeded: magnitude % 10))
            magnitude /= 10
        } while magnitude > 0
        buffer[start...].reverse()
    }

    /// Appends the shortest text that reads back as the same double, always with a fraction or an exponent.
    ///
    /// JSON has no NaN and no infinity: those are written as `null`.
    package static func append(_ value: Double, to buffer: inout [UInt8]) {
        buffer.append(contentsOf: value.isFinite ? value.description.utf8 : "null".utf8)
    }

    /// Appends `true` or `false`.
    package static func append(_ value: Bool, to buffer: inout [UInt8]) {
        buffer.append(contentsOf: value ? "true".utf8 : "false".utf8)
    }

    /// Appends `null`.
    package static func appendNull(to buffer: inout [UInt8]) {
        buffer.append(contentsOf: "null".utf8)
    }

    /// Appends a whole value.
    package static func append(_ value: JSONValue, to buffer: inout [UInt8]) {
        switch value {
        case .null: appendNull(to: &buffer)
        case .bool(let value): append(value, to: &buffer)
        case .int(let value): append(value, to: &buffer)
        case .double(let value): append(value, to: &buffer)
        case .number(let text): buffer.append(contentsOf: text.utf8)
        case .string(let value): append(value, to: &buffer)
        case .array(let elements):
            buffer.append(0x5B)
            for (index, element) in elements.enumerated() {
                if index > 0 { buffer.append(0x2C) }
                append(element, to: &buffer)
            }
            buffer.append(0x5D)
        case .object(let object):
            buffer.append(0x7B)
            for (index, member) in object.members.enumerated() {
                if index > 0 { buffer.append(0x2C) }
                append(member.key, to: &buffer)
                buffer.append(0x3A)
                append(member.value, to: &buffer)
            }
            buffer.append(0x7D)
        }
    }

    private static func appendEscape(_ byte: UInt8, to buffer: inout [UInt8]) {
        buffer.append(0x5C)
        switch byte {
        case 0x22, 0x5C: buffer.append(byte)
        case 0x08: buffer.append(0x62)
        case 0x09: buffer.append(0x74)
        case 0x0A: buffer.append(0x6E)
        case 0x0C: buffer.append(0x66)
        case 0x0D: buffer.append(0x72)
        default:
            buffer.append(contentsOf: "u00".utf8)
            buffer.append(byte < 0x10 ? 0x30 : 0x31)
            let low = byte & 0x0F
            buffer.append(low < 10 ? 0x30 + low : 0x57 + low)
        }
    }
}
