// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Reads the fields of one message of the Kafka protocol.
///
/// The first fault sticks: what is read after it is zero, empty or nil, and ``check()`` throws it. So the code of a
/// message needs no test behind every field, and every loop ends. No length is believed before it is compared with the
/// bytes that are left, and arrays share one limit, so that what is allocated stays in proportion.
package struct KafkaReader {
    /// How many array elements a message may have in all, unless the creator says otherwise.
    package static let elementsMaxDefault = 100_000

    /// Where the next field begins, counted from the first byte given.
    package private(set) var position = 0
    /// The first fault, if there was one.
    package private(set) var fault: KafkaCodecError?
    /// Whether lengths are variable-length integers and structs end with tagged fields.
    package var isFlexible = false

    private let bytes: UnsafeRawBufferPointer
    private var limit: Int
    private var elementsLeft: Int

    /// Creates a reader of `bytes`, which must stay where they are for as long as it is used.
    package init(_ bytes: UnsafeRawBufferPointer, elementsMax: Int = Self.elementsMaxDefault) {
        self.bytes = bytes
        limit = bytes.count
        elementsLeft = elementsMax
    }

    /// How many bytes are not read yet; 0 after a fault.
    package var bytesLeft: Int { limit - position }

    /// Throws the first fault, if there was one.
    package func check() throws(KafkaCodecError) {
        if let fault { throw fault }
    }

    /// Records a fault; nothing can be read after it.
    package mutating func fail(_ code: KafkaCodecError.Code, _ value: Int) {
        if fault == nil { fault = KafkaCodecError(code, at: position, value: value) }
        limit = position
    }

    /// Steps over `count` bytes and returns where they begin.
    @inline(__always)
    private mutating func take(_ count: Int) -> Int? {
        guard count <= limit - position else {
            fail(.truncated, count)
            return nil
        }
        defer { position += count }
        return position
    }

    @inline(__always)
    private mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value {
        guard let start = take(MemoryLayout<Value>.size) else { return 0 }
        return Value(bigEndian: bytes.loadUnaligned(fromByteOffset: start, as: type))
    }

    /// Reads a signed byte.
    @inline(never)
    package mutating func int8() -> Int8 { integer(Int8.self) }
    /// Reads two bytes.
    @inline(never)
    package mutating func int16() -> Int16 { integer(Int16.self) }
    /// Reads two bytes without a sign.
    @inline(never)
    package mutating func uint16() -> UInt16 { integer(UInt16.self) }
    /// Reads four bytes.
    @inline(never)
    package mutating func int32() -> Int32 { integer(Int32.self) }
    /// Reads eight bytes.
    @inline(never)
    package mutating func int64() -> Int64 { integer(Int64.self) }
    /// Reads a byte; everything but zero is true.
    @inline(never)
    package mutating func bool() -> Bool { integer(UInt8.self) != 0 }
    /// Reads an error code; one that is not known becomes `.unknownServerError`.
    @inline(never)
    package mutating func errorCode() -> KafkaErrorCode { KafkaErrorCode(rawValue: int16()) ?? .unknownServerError }

    /// Reads 16 bytes.
    @inline(never)
    package mutating func uuid() -> KafkaUUID {
        let high = integer(UInt64.self)
        return KafkaUUID(high: high, low: integer(UInt64.self))
    }

    /// Reads an unsigned variable-length integer of up to 32 bits.
    @inline(never)
    package mutating func unsignedVarInt() -> Int {
        var result = 0
        var shift = 0
        while shift < 35 {
            let byte = integer(UInt8.self)
            if shift == 28, byte > 0x0F { break }
            result |= Int(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return result }
            shift += 7
        }
        fail(.badLength, result)
        return 0
    }

    /// Reads the length of a string, or -1 for null.
    private mutating func textLength() -> Int {
        isFlexible ? unsignedVarInt() - 1 : Int(int16())
    }

    /// Reads the length of bytes, records or an array, or -1 for null.
    private mutating func length() -> Int {
        isFlexible ? unsignedVarInt() - 1 : Int(int32())
    }

    /// Steps over `length` bytes; `nil` for -1 and for a fault.
    private mutating func field(_ length: Int) -> Range<Int>? {
        guard length >= 0 else {
            if length < -1 { fail(.badLength, length) }
            return nil
        }
        guard let start = take(length) else { return nil }
        return start..<start + length
    }

    private mutating func notNull<Value>(_ value: Value?) -> Value? {
        if value == nil { fail(.unexpectedNull, -1) }
        return value
    }

    /// Reads a string that may be null.
    @inline(never)
    package mutating func nullableString() -> String? {
        guard let range = field(textLength()) else { return nil }
        let text = UnsafeRawBufferPointer(rebasing: bytes[range])
        guard let string = String(validating: text, as: UTF8.self) else {
            fail(.badText, range.count)
            return nil
        }
        return string
    }

    /// Reads a string.
    @inline(never)
    package mutating func string() -> String { notNull(nullableString()) ?? "" }

    /// Reads the client's name of a request header: never compact, null allowed, bytes that are not UTF-8 replaced.
    package mutating func clientID() -> String? {
        guard let range = field(Int(int16())) else { return nil }
        return String(decoding: UnsafeRawBufferPointer(rebasing: bytes[range]), as: UTF8.self)
    }

    /// Reads bytes that may be null.
    @inline(never)
    package mutating func nullableBytes() -> [UInt8]? {
        guard let range = field(length()) else { return nil }
        return [UInt8](UnsafeRawBufferPointer(rebasing: bytes[range]))
    }

    /// Reads bytes.
    @inline(never)
    package mutating func byteArray() -> [UInt8] { notNull(nullableBytes()) ?? [] }

    /// Reads where records stand; they may be null.
    @inline(never)
    package mutating func nullableRecords() -> KafkaRecords? {
        field(length()).map { KafkaRecords(reference: $0.lowerBound, byteCount: $0.count) }
    }

    /// Reads where records stand.
    @inline(never)
    package mutating func records() -> KafkaRecords { notNull(nullableRecords()) ?? .empty }

    /// Reads how many elements an array has; -1 for null and for a fault.
    @inline(never)
    private mutating func elementCount(minimum: Int) -> Int {
        let count = length()
        if count < -1 {
            fail(.badLength, count)
        } else if count > bytesLeft / minimum {
            fail(.truncated, count)
        } else if count > elementsLeft {
            fail(.tooManyElements, count)
        } else {
            elementsLeft -= max(0, count)
            return fault == nil ? count : -1
        }
        return -1
    }

    /// Reads the elements of an array; none after a fault.
    @inline(never)
    private mutating func elements<Element>(
        _ count: Int,
        _ element: (inout KafkaReader) -> Element
    ) -> [Element] {
        var elements: [Element] = []
        guard count > 0 else { return elements }
        // A count is a claim until its elements have been read.
        elements.reserveCapacity(min(count, max(1, 65_536 / max(1, MemoryLayout<Element>.stride))))
        for _ in 0..<count {
            elements.append(element(&self))
            if fault != nil { return [] }
        }
        return elements
    }

    /// Reads an array that may be null; `minimum` is the least number of bytes an element takes.
    package mutating func nullableArray<Element>(
        minimum: Int,
        _ element: (inout KafkaReader) -> Element
    ) -> [Element]? {
        let count = elementCount(minimum: minimum)
        return count < 0 ? nil : elements(count, element)
    }

    /// Reads an array; `minimum` is the least number of bytes an element takes.
    package mutating func array<Element>(minimum: Int, _ element: (inout KafkaReader) -> Element) -> [Element] {
        let count = elementCount(minimum: minimum)
        if count < 0 { fail(.unexpectedNull, -1) }
        return elements(count, element)
    }

    /// Reads a struct that may be null.
    package mutating func nullable<Value>(_ value: (inout KafkaReader) -> Value) -> Value? {
        switch int8() {
        case -1: return nil
        case let mark where mark < 0:
            fail(.badLength, Int(mark))
            return nil
        default: return fault == nil ? value(&self) : nil
        }
    }

    /// The tagged fields at the end of a struct, while they are read.
    package struct Tags {
        fileprivate var count: Int
        fileprivate var previous = -1
        fileprivate var end: Int?
        fileprivate let limit: Int
    }

    /// Begins the tagged fields at the end of a struct; there are none before the flexible versions.
    @inline(never)
    package mutating func tags() -> Tags {
        let count = isFlexible ? unsignedVarInt() : 0
        return Tags(count: count, limit: limit)
    }

    /// Returns the next tag, or `nil` behind the last; its field must then be read or passed to ``skip(_:)``.
    @inline(never)
    package mutating func nextTag(of tags: inout Tags) -> Int? {
        guard fault == nil else { return nil }
        if let end = tags.end {
            guard position == end else {
                fail(.badTag, tags.previous)
                return nil
            }
            limit = tags.limit
            tags.end = nil
        }
        guard tags.count > 0 else { return nil }
        tags.count -= 1
        let tag = unsignedVarInt()
        let size = unsignedVarInt()
        guard fault == nil else { return nil }
        guard tag > tags.previous else {
            fail(.badTag, tag)
            return nil
        }
        guard size <= bytesLeft else {
            fail(.truncated, size)
            return nil
        }
        tags.previous = tag
        tags.end = position + size
        limit = position + size
        return tag
    }

    /// Steps over a tagged field that is not known.
    package mutating func skip(_ tags: inout Tags) {
        if fault == nil, let end = tags.end { position = end }
    }

    /// Steps over all tagged fields at the end of a struct.
    @inline(never)
    package mutating func skipTags() {
        guard isFlexible else { return }
        var tags = tags()
        while nextTag(of: &tags) != nil { skip(&tags) }
    }
}
