// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How the records of a batch are compressed (Kafka protocol guide, attributes bits 0 to 2).
package enum CompressionCodec: Int16, Sendable, CaseIterable {
    case none = 0
    case gzip = 1
    case snappy = 2
    case lz4 = 3
    case zstd = 4
}

/// The 61 bytes in front of the records of a batch, version 2 (Kafka protocol guide, "Record Batch").
package struct RecordBatchHeader: Hashable, Sendable {
    /// The size of the header in bytes.
    package static let byteCount = 61
    /// The bytes in front of those the length field counts.
    package static let lengthPrefixByteCount = 12
    /// The smallest legal value of the length field: a batch without records.
    package static let lengthMin: Int32 = 49
    /// Where the bytes that the checksum covers begin.
    package static let checksummedFrom = 21

    /// The offset of the first record.
    package var baseOffset: Int64
    /// The number of bytes after the length field.
    package var length: Int32
    /// The partition leader epoch; set by the log, not covered by the checksum.
    package var partitionLeaderEpoch: Int32
    /// CRC-32C over everything from the attributes to the end.
    package var checksum: UInt32
    /// Codec, timestamp type and flags as sent.
    package var attributes: Int16
    /// The offset of the last record minus the base offset.
    package var lastOffsetDelta: Int32
    /// The timestamp that the records' deltas are relative to, in milliseconds since 1970.
    package var baseTimestamp: Int64
    /// The largest timestamp in the batch, in milliseconds since 1970.
    package var maxTimestamp: Int64
    /// The idempotent producer's id, or -1.
    package var producerID: Int64
    /// The idempotent producer's epoch, or -1.
    package var producerEpoch: Int16
    /// The sequence number of the first record, or -1.
    package var baseSequence: Int32
    /// The number of records in the batch.
    package var recordCount: Int32

    /// The offset of the last record.
    package var lastOffset: Int64 { baseOffset + Int64(lastOffsetDelta) }
    /// The offset after the last record.
    package var nextOffset: Int64 { lastOffset + 1 }
    /// The size of the whole batch in bytes, header included.
    package var batchByteCount: Int { Self.lengthPrefixByteCount + Int(length) }
    /// The codec, or `nil` when the number is unknown.
    package var codec: CompressionCodec? { CompressionCodec(rawValue: attributes & 0x07) }
    /// Whether timestamps are the log's append time instead of the producer's.
    package var hasLogAppendTime: Bool { attributes & 0x08 != 0 }
    /// Whether the batch belongs to a transaction.
    package var isTransactional: Bool { attributes & 0x10 != 0 }
    /// Whether the batch holds a transaction marker instead of records for consumers.
    package var isControl: Bool { attributes & 0x20 != 0 }

    /// Reads the header at `position`, checking every field that later arithmetic relies on.
    ///
    /// The checksum is not checked and the batch need not be complete: see ``hasValidChecksum(in:at:)``.
    /// - Throws: `.truncated` with fewer than 61 bytes, `.unsupportedMagic`, `.badLength`, `.badCount`.
    package init(parsing bytes: [UInt8], at position: Int = 0) throws(RecordBatchError) {
        guard position >= 0, position <= bytes.count, bytes.count - position >= Self.byteCount else {
            throw RecordBatchError(
                .truncated,
                "a batch header needs \(Self.byteCount) bytes, there are \(max(0, bytes.count - position))"
            )
        }
        try self.init(loading: bytes, at: position)
    }

    private init(loading bytes: [UInt8], at position: Int) throws(RecordBatchError) {
        func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, _ field: Int) -> Value {
            BigEndian.load(type, from: bytes, at: position + field)
        }
        baseOffset = load(Int64.self, 0)
        length = load(Int32.self, 8)
        partitionLeaderEpoch = load(Int32.self, 12)
        checksum = load(UInt32.self, 17)
        attributes = load(Int16.self, 21)
        lastOffsetDelta = load(Int32.self, 23)
        baseTimestamp = load(Int64.self, 27)
        maxTimestamp = load(Int64.self, 35)
        producerID = load(Int64.self, 43)
        producerEpoch = load(Int16.self, 51)
        baseSequence = load(Int32.self, 53)
        recordCount = load(Int32.self, 57)
        let magic = load(Int8.self, 16)
        guard magic == 2 else {
            throw RecordBatchError(.unsupportedMagic, "magic is \(magic), only record batch version 2 is stored")
        }
        guard length >= Self.lengthMin else {
            throw RecordBatchError(.badLength, "length field is \(length), the smallest batch has \(Self.lengthMin)")
        }
        guard baseOffset >= 0, baseOffset < Int64.max - Int64(Int32.max) - 1 else {
            throw RecordBatchError(.badCount, "base offset \(baseOffset) is out of range")
        }
        guard lastOffsetDelta >= 0, recordCount >= 0, Int64(recordCount) <= Int64(lastOffsetDelta) + 1 else {
            throw RecordBatchError(.badCount, "\(recordCount) records with last offset delta \(lastOffsetDelta)")
        }
    }

    /// Whether the checksum matches the batch that begins at `position` of `bytes`; false when it is not complete.
    package func hasValidChecksum(in bytes: [UInt8], at position: Int = 0) -> Bool {
        guard position >= 0, batchByteCount <= bytes.count - position else { return false }
        return CRC32C.checksum(bytes, in: position + Self.checksummedFrom..<position + batchByteCount) == checksum
    }

    /// Whether bytes that are one batch have the checksum it says, whatever else it says.
    static func isIntact(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= byteCount else { return false }
        return CRC32C.checksum(bytes, in: checksummedFrom..<bytes.count)
            == BigEndian.load(UInt32.self, from: bytes, at: 17)
    }

    /// Writes base offset and leader epoch into the batch at `position`; the checksum stays right.
    package static func assign(baseOffset: Int64, leaderEpoch: Int32, in bytes: inout [UInt8], at position: Int = 0) {
        BigEndian.store(baseOffset, to: &bytes, at: position)
        BigEndian.store(leaderEpoch, to: &bytes, at: position + 12)
    }
}
