// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why bytes are no protobuf message.
struct ProtobufFault: Error {
    let message: String
}

/// Walks the fields of one protobuf message in memory that lives longer than the walk; every read is checked against its end.
///
/// Publishing reads messages with this and not with generated code, which would allocate several times for each event.
struct ProtobufReader {
    /// A field's value.
    enum Value {
        case number(UInt64)
        case bytes(UnsafeRawBufferPointer)
        case fixed
    }

    private let base: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) {
        base = bytes
    }

    /// The next field and its value; nil at the end.
    mutating func next() throws(ProtobufFault) -> (field: UInt64, value: Value)? {
        guard position < base.count else { return nil }
        let tag = try varint()
        guard tag >> 3 > 0 else { throw ProtobufFault(message: "a field has the number 0") }
        switch tag & 7 {
        case 0: return (tag >> 3, .number(try varint()))
        case 1:
            try skip(8)
            return (tag >> 3, .fixed)
        case 2:
            let length = try varint()
            guard length <= UInt64(base.count - position) else {
                throw ProtobufFault(message: "a field of \(length) bytes where \(base.count - position) are left")
            }
            let start = position
            position += Int(length)
            return (tag >> 3, .bytes(UnsafeRawBufferPointer(rebasing: base[start..<position])))
        case 5:
            try skip(4)
            return (tag >> 3, .fixed)
        case let type: throw ProtobufFault(message: "a field has the wire type \(type)")
        }
    }

    private mutating func skip(_ count: Int) throws(ProtobufFault) {
        guard base.count - position >= count else { throw ProtobufFault(message: "it ends in the middle of a field") }
        position += count
    }

    private mutating func varint() throws(ProtobufFault) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard position < base.count else { throw ProtobufFault(message: "it ends in the middle of a number") }
            let byte = base[position]
            position += 1
            if shift == 63, byte > 1 { throw ProtobufFault(message: "a number has more than 64 bits") }
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
    }
}

/// Writes fields of protobuf messages.
extension [UInt8] {
    mutating func putVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }

    /// A number; 0 is what an absent one means.
    mutating func putField(_ field: UInt64, _ value: UInt64) {
        guard value != 0 else { return }
        putVarint(field << 3)
        putVarint(value)
    }

    /// Bytes, text or a message.
    mutating func putField(_ field: UInt64, _ bytes: some Collection<UInt8>) {
        putVarint(field << 3 | 2)
        putVarint(UInt64(bytes.count))
        append(contentsOf: bytes)
    }

    /// Text that may be absent; an empty one is what an absent one means.
    mutating func putField(_ field: UInt64, text: String?) {
        guard let text, !text.isEmpty else { return }
        putField(field, text.utf8)
    }
}
