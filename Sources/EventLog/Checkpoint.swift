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

/// How much of the coordinators' file was certainly on disk.
struct CoordinatorMark: Sendable, Equatable {
    /// Counts how often the file was written anew; 0 for one that does not say.
    let generation: Int64
    let bytes: Int64
}

/// The file that spares a restart reading everything again, and tells what there was.
///
/// Format: docs/formats/log-checkpoint.md.
struct Checkpoint: Sendable {
    var entries: [CheckpointEntry] = []
    /// `nil` where an older engine wrote it.
    var coordinators: CoordinatorMark?
    /// Every topic's name; empty where an older engine wrote it.
    var topics: [UUID: String] = [:]

    /// "MLCP".
    static let magic: UInt32 = 0x4D4C_4350
    static let version: UInt16 = 3
    private static let headerBytes = 16
    private static let entryBytes = 68
    /// Version 1 had nothing of producers.
    private static let entryBytesBefore = 52

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerBytes + entries.count * Self.entryBytes + topics.count * 64)
        BigEndian.append(Self.magic, to: &bytes)
        BigEndian.append(Self.version, to: &bytes)
        BigEndian.append(UInt16(0), to: &bytes)
        BigEndian.append(UInt32(entries.count), to: &bytes)
        BigEndian.append(UInt32(topics.count), to: &bytes)
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
        BigEndian.append(coordinators?.generation ?? 0, to: &bytes)
        BigEndian.append(coordinators?.bytes ?? 0, to: &bytes)
        for (id, name) in topics {
            bytes.append(contentsOf: id.bytes)
            BigEndian.append(UInt16(name.utf8.count), to: &bytes)
            bytes.append(contentsOf: name.utf8)
        }
        BigEndian.append(CRC32C.checksum(bytes), to: &bytes)
        return bytes
    }

    /// Reads a checkpoint.
    ///
    /// - Throws: `.unsupportedFormat` for a newer version, `.damaged` for anything else that cannot be read.
    static func decode(_ bytes: [UInt8], path: String) throws(EventLogError) -> Checkpoint {
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
        let entriesEnd = headerBytes + count * entryBytes
        guard found < 3 ? entriesEnd == end : entriesEnd + 16 <= end else { throw wrongSize(path) }
        var checkpoint = Checkpoint()
        checkpoint.entries = (0..<count).map { number in
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
        guard found >= 3 else { return checkpoint }
        checkpoint.coordinators = CoordinatorMark(
            generation: BigEndian.load(Int64.self, from: bytes, at: entriesEnd),
            bytes: BigEndian.load(Int64.self, from: bytes, at: entriesEnd + 8)
        )
        var at = entriesEnd + 16
        for _ in 0..<BigEndian.load(UInt32.self, from: bytes, at: 12) {
            guard at + 18 <= end else { throw wrongSize(path) }
            let name = at + 18
            let nameEnd = name + Int(BigEndian.load(UInt16.self, from: bytes, at: at + 16))
            guard nameEnd <= end else { throw wrongSize(path) }
            checkpoint.topics[UUID(bytes: bytes[at..<at + 16])] = String(decoding: bytes[name..<nameEnd], as: UTF8.self)
            at = nameEnd
        }
        guard at == end else { throw wrongSize(path) }
        return checkpoint
    }

    private static func wrongSize(_ path: String) -> EventLogError {
        EventLogError(.damaged, "\(path) has a wrong size", path: path)
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
