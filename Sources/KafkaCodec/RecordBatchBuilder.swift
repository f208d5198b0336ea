// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Puts bodies of records behind one another into one batch, version 2, uncompressed.
///
/// All records get the same timestamp. A body is copied once; the batch is handed out without another copy.
package struct RecordBatchBuilder: Sendable {
    // The length of a record (5), its attributes, its timestamp's delta (0) and its offset's delta (5).
    private static let recordOverheadMax = 12

    /// How many records there are.
    package private(set) var count = 0
    private var bytes: [UInt8]

    /// Creates an empty batch with room for so many bytes.
    package init(capacity: Int) {
        bytes = []
        bytes.reserveCapacity(max(capacity, RecordBatchHeader.byteCount))
        bytes.append(contentsOf: repeatElement(0, count: RecordBatchHeader.byteCount))
    }

    /// The size of the batch, header included.
    package var byteCount: Int { bytes.count }

    /// The most bytes that a batch of one record takes whose body has so many.
    package static func bytesMax(ofBody bodyBytes: Int) -> Int {
        RecordBatchHeader.byteCount + recordOverheadMax + bodyBytes
    }

    /// Whether a batch of at most `bytesMax` has room for a body of so many bytes.
    package func hasRoom(forBody bodyBytes: Int, bytesMax: Int) -> Bool {
        bytes.count + Self.recordOverheadMax + bodyBytes <= bytesMax
    }

    /// Adds a record: what a ``RecordBodyWriter`` has written.
    package mutating func append(body: ArraySlice<UInt8>) {
        let delta = Int64(count)
        bytes.appendVarInt(Int64(2 + VarInt.size(delta) + body.count))
        bytes.append(0)
        bytes.append(0)
        bytes.appendVarInt(delta)
        bytes.append(contentsOf: body)
        count += 1
    }

    /// Returns the batch with base offset 0, all its records of this time in milliseconds since 1970.
    ///
    /// There must be a record, and no more than 2 GiB: callers bound their batches.
    package consuming func finish(timestamp: Int64) -> [UInt8] {
        precondition(count > 0, "a batch needs at least one record")
        precondition(
            bytes.count - RecordBatchHeader.lengthPrefixByteCount <= Int(Int32.max),
            "a batch is at most 2 GiB"
        )
        BigEndian.store(Int32(bytes.count - RecordBatchHeader.lengthPrefixByteCount), to: &bytes, at: 8)
        BigEndian.store(Int32(-1), to: &bytes, at: 12)
        bytes[16] = 2
        BigEndian.store(Int32(count - 1), to: &bytes, at: 23)
        BigEndian.store(timestamp, to: &bytes, at: 27)
        BigEndian.store(timestamp, to: &bytes, at: 35)
        BigEndian.store(Int64(-1), to: &bytes, at: 43)
        BigEndian.store(Int16(-1), to: &bytes, at: 51)
        BigEndian.store(Int32(-1), to: &bytes, at: 53)
        BigEndian.store(Int32(count), to: &bytes, at: 57)
        let checksum = CRC32C.checksum(bytes, in: RecordBatchHeader.checksummedFrom..<bytes.count)
        BigEndian.store(checksum, to: &bytes, at: 17)
        return bytes
    }
}
