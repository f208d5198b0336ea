// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import KafkaCodec

/// What was certainly on disk of one partition when the checkpoint was written.
struct CheckpointEntry: Sendable, Equatable {
    let topicID: UUID
    let partition: Int32
    let logStartOffset: Int64
    /// The last segment's base offset.
    let segmentBase: Int64
    /// Bytes of the last segment that had been flushed.
    let syncedBytes: Int64
    /// The offset after those bytes.
    let nextOffset: Int64
    /// The offset of the snapshot of producers, or -1 for none.
    var producersAt: Int64 = -1
    /// Where batches may begin that the snapshot does not know.
    var producersFrom: Int64
}

/// The file that spares a restart reading everything again.
///
/// Format: docs/formats/log-checkpoint.md.
enum Checkpoint {
    /// "MLCP".
    static let magic: UInt32 = 0x4D4C_4350
    static let version: UInt16 = 2
    private static let headerBytes = 16
    private static let entryBytes = 68
    /// Version 1 had nothing of producers.
    private static let entryBytesBefore = 52

    static func encode(_ entries: [CheckpointEntry]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(headerBytes + entries.count * entryBytes + 4)
        BigEndian.append(magic, to: &bytes)
        BigEndian.append(version, to: &bytes)
        BigEndian.append(UInt16(0), to: &bytes)
        BigEndian.append(UInt32(entries.count), to: &bytes)
        BigEndian.append(UInt32(0), to: &bytes)
        for entry in entries {
            bytes.append(contentsOf: entry.topicID.bytes)
            BigEndian.append(entry.partition, to: &bytes)
            for field in [
                entry.logStartOffset, entry.segmentBase, entry.syncedBytes, entry.nextOffset, entry.producersAt,
                entry.producersFrom,
            ] {
                BigEndian.append(field, to: &bytes)
            }
        }
        BigEndian.append(CRC32C.checksum(bytes), to: &bytes)
        return bytes
    }

    /// Reads a checkpoint.
    ///
    /// - Throws: `.unsupportedFormat` for a newer version, `.damaged` for anything else that cannot be read.
    static func decode(_ bytes: [UInt8], path: String) throws(EventLogError) -> [CheckpointEntry] {
        guard bytes.count >= headerBytes + 4, BigEndian.load(UInt32.self, from: bytes, at: 0) == magic else {
            throw EventLogError(.damaged, "\(path) is not a checkpoint", path: path)
        }
        // Every version ends with this checksum, so that damage is not mistaken for a newer version.
        let end = bytes.count - 4
        guard BigEndian.load(UInt32.self, from: bytes, at: end) == CRC32C.checksum(bytes, in: 0..<end) else {
            throw EventLogError(.damaged, "\(path) has a wrong checksum", path: path)
        }
        let found = BigEndian.load(UInt16.self, from: bytes, at: 4)
        guard found <= version else {
            throw EventLogError(
                .unsupportedFormat,
                "\(path) has version \(found), this engine reads up to \(version); start the newer engine",
                path: path
            )
        }
        let entryBytes = found == 1 ? entryBytesBefore : entryBytes
        let count = Int(BigEndian.load(UInt32.self, from: bytes, at: 8))
        guard count == (end - headerBytes) / entryBytes, (end - headerBytes) % entryBytes == 0 else {
            throw EventLogError(.damaged, "\(path) has a wrong size", path: path)
        }
        return (0..<count).map { number in
            let at = headerBytes + number * entryBytes
            let nextOffset = BigEndian.load(Int64.self, from: bytes, at: at + 44)
            return CheckpointEntry(
                topicID: UUID(bytes: bytes[at..<at + 16]),
                partition: BigEndian.load(Int32.self, from: bytes, at: at + 16),
                logStartOffset: BigEndian.load(Int64.self, from: bytes, at: at + 20),
                segmentBase: BigEndian.load(Int64.self, from: bytes, at: at + 28),
                syncedBytes: BigEndian.load(Int64.self, from: bytes, at: at + 36),
                nextOffset: nextOffset,
                producersAt: found == 1 ? -1 : BigEndian.load(Int64.self, from: bytes, at: at + 52),
                producersFrom: found == 1 ? nextOffset : BigEndian.load(Int64.self, from: bytes, at: at + 60)
            )
        }
    }
}

extension UUID {
    var bytes: [UInt8] { withUnsafeBytes(of: uuid) { Array($0) } }

    /// Makes an id of 16 bytes; traps for another number.
    init(bytes: ArraySlice<UInt8>) {
        precondition(bytes.count == 16)
        var value: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &value) { $0.copyBytes(from: bytes) }
        self.init(uuid: value)
    }
}
