// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Writes the fields of one message of the Kafka protocol; records are only referred to.
///
/// The first fault sticks and ``frame()`` throws it. Null where a version has none is written as empty.
package struct KafkaWriter {
    /// Where records come between the bytes, in order.
    package private(set) var chunks: [KafkaFrame.Chunk] = []
    /// The first fault, if there was one.
    package private(set) var fault: KafkaCodecError?
    /// Whether lengths are variable-length integers and structs end with tagged fields.
    package var isFlexible = false

    // Longer than what was written, so that a field costs one store and no append.
    private var storage: [UInt8]
    private var count = 0
    private var chunkByteCount = 0

    /// Creates a writer with room for `capacity` bytes, records not counted.
    package init(capacity: Int = 256) {
        storage = [UInt8](repeating: 0, count: capacity)
    }

    /// What was written so far, without the records.
    package var bytes: [UInt8] { Array(storage.prefix(count)) }

    /// How many bytes were written so far, records included.
    package var byteCount: Int { count + chunkByteCount }

    @inline(never)
    private mutating func grow(_ room: Int) {
        storage.append(contentsOf: repeatElement(0, count: max(room, storage.count, 64)))
    }

    @inline(__always)
    private mutating func append(_ buffer: UnsafeRawBufferPointer) {
        guard !buffer.isEmpty else { return }
        if storage.count - count < buffer.count { grow(buffer.count) }
        storage.withUnsafeMutableBytes {
            UnsafeMutableRawBufferPointer(rebasing: $0[count..<count + buffer.count]).copyMemory(from: buffer)
        }
        count += buffer.count
    }

    /// Records a fault.
    package mutating func fail(_ code: KafkaCodecError.Code, _ value: Int) {
        if fault == nil { fault = KafkaCodecError(code, at: byteCount, value: value) }
    }

    private mutating func append(_ other: KafkaWriter) {
        other.storage.withUnsafeBytes { append(UnsafeRawBufferPointer(rebasing: $0[..<other.count])) }
    }

    @inline(__always)
    private mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
        if storage.count - count < MemoryLayout<Value>.size { grow(MemoryLayout<Value>.size) }
        storage.withUnsafeMutableBytes {
            $0.storeBytes(of: value.bigEndian, toByteOffset: count, as: Value.self)
        }
        count += MemoryLayout<Value>.size
    }

    /// Writes a signed byte.
    @inline(never)
    package mutating func int8(_ value: Int8) { integer(value) }
    /// Writes two bytes.
    @inline(never)
    package mutating func int16(_ value: Int16) { integer(value) }
    /// Writes two bytes without a sign.
    @inline(never)
    package mutating func uint16(_ value: UInt16) { integer(value) }
    /// Writes four bytes.
    @inline(never)
    package mutating func int32(_ value: Int32) { integer(value) }
    /// Writes eight bytes.
    @inline(never)
    package mutating func int64(_ value: Int64) { integer(value) }
    /// Writes a byte, 1 for true.
    @inline(never)
    package mutating func bool(_ value: Bool) { integer(UInt8(value ? 1 : 0)) }
    /// Writes an error code.
    @inline(never)
    package mutating func errorCode(_ value: KafkaErrorCode) { integer(value.rawValue) }

    /// Writes 16 bytes.
    @inline(never)
    package mutating func uuid(_ value: KafkaUUID) {
        integer(value.high)
        integer(value.low)
    }

    /// Writes an unsigned variable-length integer of up to 32 bits.
    @inline(never)
    package mutating func unsignedVarInt(_ value: Int) {
        guard var rest = UInt32(exactly: value) else { return fail(.tooLong, value) }
        while rest >= 0x80 {
            integer(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        integer(UInt8(rest))
    }

    /// Writes the length of bytes, records or an array; -1 for null.
    private mutating func length(_ count: Int) {
        guard let narrow = Int32(exactly: count) else { return fail(.tooLong, count) }
        if isFlexible { unsignedVarInt(count + 1) } else { integer(narrow) }
    }

    /// Writes a string that may be null.
    @inline(never)
    package mutating func nullableString(_ value: String?) {
        guard var value else {
            if isFlexible { integer(UInt8(0)) } else { integer(Int16(-1)) }
            return
        }
        value.withUTF8 { text in
            if isFlexible {
                guard text.count < Int(Int32.max) else { return fail(.tooLong, text.count) }
                unsignedVarInt(text.count + 1)
            } else {
                guard let narrow = Int16(exactly: text.count) else { return fail(.tooLong, text.count) }
                integer(narrow)
            }
            append(UnsafeRawBufferPointer(text))
        }
    }

    /// Writes a string; null becomes an empty one.
    @inline(never)
    package mutating func string(_ value: String?) { nullableString(value ?? "") }

    /// Writes the client's name of a request header: never compact.
    package mutating func clientID(_ value: String?) {
        let wasFlexible = isFlexible
        isFlexible = false
        nullableString(value)
        isFlexible = wasFlexible
    }

    /// Writes bytes that may be null.
    @inline(never)
    package mutating func nullableBytes(_ value: [UInt8]?) {
        length(value?.count ?? -1)
        value?.withUnsafeBytes { append($0) }
    }

    /// Writes bytes; null becomes none.
    @inline(never)
    package mutating func byteArray(_ value: [UInt8]?) { nullableBytes(value ?? []) }

    /// Refers to records that may be null: their length is written, they themselves are left to the sender.
    @inline(never)
    package mutating func nullableRecords(_ value: KafkaRecords?) {
        length(value?.byteCount ?? -1)
        guard let value, value.byteCount > 0 else { return }
        chunks.append(KafkaFrame.Chunk(position: count, records: value))
        chunkByteCount += value.byteCount
    }

    /// Refers to records; null becomes none.
    @inline(never)
    package mutating func records(_ value: KafkaRecords?) { nullableRecords(value ?? .empty) }

    /// Writes an array that may be null.
    package mutating func nullableArray<Element>(
        _ elements: [Element]?,
        _ write: (inout KafkaWriter, Element) -> Void
    ) {
        length(elements?.count ?? -1)
        guard let elements else { return }
        for element in elements { write(&self, element) }
    }

    /// Writes an array; null becomes an empty one.
    package mutating func array<Element>(_ elements: [Element]?, _ write: (inout KafkaWriter, Element) -> Void) {
        nullableArray(elements ?? [], write)
    }

    /// Writes a struct that may be null.
    package mutating func nullable<Value>(_ value: Value?, _ write: (inout KafkaWriter, Value) -> Void) {
        guard let value else { return int8(-1) }
        int8(1)
        write(&self, value)
    }

    /// The tagged fields at the end of a struct, while they are gathered.
    package struct Tags {
        fileprivate var count = 0
        fileprivate var writer = KafkaWriter(capacity: 0)

        /// Begins an empty list.
        package init() {
            writer.isFlexible = true
        }

        /// Adds a field; tags must ascend.
        package mutating func add(_ tag: Int, _ write: (inout KafkaWriter) -> Void) {
            count += 1
            var body = KafkaWriter(capacity: 16)
            body.isFlexible = true
            write(&body)
            writer.unsignedVarInt(tag)
            writer.unsignedVarInt(body.count)
            writer.append(body)
            if let fault = body.fault { writer.fail(fault.code, fault.value) }
        }
    }

    /// Ends a struct with its tagged fields; nothing is written before the flexible versions.
    @inline(never)
    package mutating func end(_ tags: Tags) {
        guard isFlexible else { return }
        unsignedVarInt(tags.count)
        append(tags.writer)
        if let fault = tags.writer.fault { fail(fault.code, fault.value) }
    }

    /// Ends a struct that has no tagged fields.
    @inline(never)
    package mutating func end() {
        if isFlexible { integer(UInt8(0)) }
    }

    /// Returns what was written, behind its length of four bytes.
    ///
    /// - Throws: The first fault; `.tooLong` for more than 2 GiB.
    package consuming func frame() throws(KafkaCodecError) -> KafkaFrame {
        if let fault { throw fault }
        guard let size = Int32(exactly: byteCount) else { throw KafkaCodecError(.tooLong, at: 0, value: byteCount) }
        return KafkaFrame(size: size, bytes: storage.prefix(count), chunks: chunks)
    }
}
