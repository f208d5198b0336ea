// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Zig-zag variable-length integers as records use them.
enum VarInt {
    static func zigZag(_ value: Int64) -> UInt64 {
        UInt64(bitPattern: (value << 1) ^ (value >> 63))
    }

    static func size(_ value: Int64) -> Int {
        let significant = max(1, 64 - zigZag(value).leadingZeroBitCount)
        return (significant + 6) / 7
    }
}

/// Reads the fields of a record; every read is checked against `end`.
struct RecordCursor {
    let bytes: [UInt8]
    var position: Int
    var end: Int

    mutating func byte() throws(RecordBatchError) -> UInt8 {
        guard position < end else { throw RecordBatchError(.malformedRecord, "a record ends in the middle of a field") }
        defer { position += 1 }
        return bytes[position]
    }

    /// Reads up to 64 bits.
    mutating func varLong() throws(RecordBatchError) -> Int64 {
        var result: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = try byte()
            if shift == 63, next > 1 {
                throw RecordBatchError(.malformedRecord, "a variable-length integer has more than 64 bits")
            }
            result |= UInt64(next & 0x7F) << shift
            if next & 0x80 == 0 { break }
            shift += 7
        }
        return Int64(bitPattern: result >> 1) ^ -Int64(bitPattern: result & 1)
    }

    /// Reads up to 32 bits.
    mutating func varInt() throws(RecordBatchError) -> Int {
        let value = try varLong()
        guard let narrow = Int32(exactly: value) else {
            throw RecordBatchError(.malformedRecord, "\(value) does not fit the 32 bits of its field")
        }
        return Int(narrow)
    }

    /// Reads a length and steps over that many bytes; `nil` for length -1 where null is allowed.
    mutating func field(nullable: Bool, name: String) throws(RecordBatchError) -> Range<Int>? {
        let length = try varInt()
        if length == -1, nullable { return nil }
        guard length >= 0, length <= end - position else {
            throw RecordBatchError(.malformedRecord, "\(name) of \(length) bytes where \(end - position) are left")
        }
        defer { position += length }
        return position..<position + length
    }
}
