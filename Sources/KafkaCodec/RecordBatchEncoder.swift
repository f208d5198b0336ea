// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Encodes records into batches, version 2, uncompressed.
package enum RecordBatchEncoder {
    /// Returns one whole batch with base offset 0.
    ///
    /// Record `i` has offset delta `i`; the base timestamp is the first record's.
    /// `records` must not be empty, nor encode to more than 2 GiB: callers bound their batches first.
    package static func encode(
        _ records: [Record],
        baseOffset: Int64 = 0,
        producerID: Int64 = -1,
        producerEpoch: Int16 = -1,
        baseSequence: Int32 = -1,
        isTransactional: Bool = false,
        isControl: Bool = false
    ) -> [UInt8] {
        precondition(!records.isEmpty, "a batch needs at least one record")
        let baseTimestamp = records[0].timestamp
        var maxTimestamp = baseTimestamp
        var bodySizes: [Int] = []
        bodySizes.reserveCapacity(records.count)
        var total = RecordBatchHeader.byteCount
        for (index, record) in records.enumerated() {
            maxTimestamp = max(maxTimestamp, record.timestamp)
            let size = bodySize(of: record, timestampDelta: record.timestamp &- baseTimestamp, offsetDelta: index)
            bodySizes.append(size)
            total += VarInt.size(Int64(size)) + size
        }
        precondition(total - RecordBatchHeader.lengthPrefixByteCount <= Int(Int32.max), "a batch is at most 2 GiB")
        let attributes: Int16 = (isTransactional ? 0x10 : 0) | (isControl ? 0x20 : 0)
        return [UInt8](unsafeUninitializedCapacity: total) { buffer, initialized in
            var writer = BatchWriter(UnsafeMutableRawBufferPointer(buffer))
            writer.put(baseOffset)
            writer.put(Int32(total - RecordBatchHeader.lengthPrefixByteCount))
            writer.put(Int32(-1))
            writer.put(Int8(2))
            writer.put(UInt32(0))
            writer.put(attributes)
            writer.put(Int32(records.count - 1))
            writer.put(baseTimestamp)
            writer.put(maxTimestamp)
            writer.put(producerID)
            writer.put(producerEpoch)
            writer.put(baseSequence)
            writer.put(Int32(records.count))
            for (index, record) in records.enumerated() {
                writer.putVarInt(Int64(bodySizes[index]))
                put(record, timestampDelta: record.timestamp &- baseTimestamp, offsetDelta: index, to: &writer)
            }
            precondition(writer.position == total, "the size computed is the size written")
            let covered = UnsafeRawBufferPointer(buffer)[RecordBatchHeader.checksummedFrom..<total]
            writer.position = 17
            writer.put(CRC32C.checksum(UnsafeRawBufferPointer(rebasing: covered)))
            initialized = total
        }
    }

    private static func bodySize(of record: Record, timestampDelta: Int64, offsetDelta: Int) -> Int {
        var size = 1 + VarInt.size(timestampDelta) + VarInt.size(Int64(offsetDelta))
        size += fieldSize(record.key) + fieldSize(record.value) + VarInt.size(Int64(record.headers.count))
        for header in record.headers {
            let nameSize = header.key.utf8.count
            size += VarInt.size(Int64(nameSize)) + nameSize + fieldSize(header.value)
        }
        return size
    }

    private static func fieldSize(_ field: [UInt8]?) -> Int {
        guard let field else { return 1 }
        return VarInt.size(Int64(field.count)) + field.count
    }

    private static func put(_ record: Record, timestampDelta: Int64, offsetDelta: Int, to writer: inout BatchWriter) {
        writer.put(Int8(0))
        writer.putVarInt(timestampDelta)
        writer.putVarInt(Int64(offsetDelta))
        writer.putField(record.key)
        writer.putField(record.value)
        writer.putVarInt(Int64(record.headers.count))
        for header in record.headers {
            writer.putVarInt(Int64(header.key.utf8.count))
            for byte in header.key.utf8 { writer.put(byte) }
            writer.putField(header.value)
        }
    }
}

/// Writes into the uninitialised memory of a batch under construction; every store is bounds-checked.
private struct BatchWriter {
    var position = 0
    private let buffer: UnsafeMutableRawBufferPointer

    init(_ buffer: UnsafeMutableRawBufferPointer) {
        self.buffer = buffer
    }

    mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
        precondition(buffer.count - position >= MemoryLayout<Value>.size)
        buffer.storeBytes(of: value.bigEndian, toByteOffset: position, as: Value.self)
        position += MemoryLayout<Value>.size
    }

    mutating func putVarInt(_ value: Int64) {
        var rest = VarInt.zigZag(value)
        while rest >= 0x80 {
            put(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        put(UInt8(rest))
    }

    mutating func putField(_ field: [UInt8]?) {
        guard let field else { return putVarInt(-1) }
        putVarInt(Int64(field.count))
        precondition(buffer.count - position >= field.count)
        if !field.isEmpty {
            UnsafeMutableRawBufferPointer(rebasing: buffer[position..<position + field.count]).copyBytes(from: field)
        }
        position += field.count
    }
}
