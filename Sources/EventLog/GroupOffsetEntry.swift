// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import KafkaCodec

/// An offset together with the identity of the topic it was committed for.
struct StoredOffset: Sendable, Equatable {
    let topicID: UUID
    let committed: CommittedOffset
}

/// One entry of the consumer groups' file.
///
/// Format: docs/formats/group-offsets.md.
enum GroupOffsetEntry: Sendable, Equatable {
    case commit(group: String, offsets: [TopicPartition: StoredOffset])
    case deleteGroup(String)
    case deleteTopic(UUID)

    /// "MLGO".
    static let magic: UInt32 = 0x4D4C_474F
    static let version: UInt8 = 1
    static let frameBytes = 12

    private var kind: UInt8 {
        switch self {
        case .commit: 1
        case .deleteGroup: 2
        case .deleteTopic: 3
        }
    }

    /// Appends the framed entry.
    func encode(to bytes: inout [UInt8]) {
        var payload: [UInt8] = [Self.version, kind]
        switch self {
        case .commit(let group, let offsets):
            Self.append(group, to: &payload)
            BigEndian.append(UInt32(offsets.count), to: &payload)
            for (partition, stored) in offsets {
                Self.append(partition.topic, to: &payload)
                payload += stored.topicID.bytes
                BigEndian.append(partition.partition, to: &payload)
                BigEndian.append(stored.committed.offset, to: &payload)
                BigEndian.append(Int32(-1), to: &payload)
                BigEndian.append(stored.committed.committedAt, to: &payload)
                BigEndian.append(UInt32(stored.committed.metadata.utf8.count), to: &payload)
                payload += stored.committed.metadata.utf8
            }
        case .deleteGroup(let group): Self.append(group, to: &payload)
        case .deleteTopic(let id): payload += id.bytes
        }
        BigEndian.append(Self.magic, to: &bytes)
        BigEndian.append(UInt32(payload.count), to: &bytes)
        BigEndian.append(CRC32C.checksum(payload), to: &bytes)
        bytes += payload
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        BigEndian.append(UInt16(text.utf8.count), to: &bytes)
        bytes += text.utf8
    }

    /// Reads the entry at `position`; `nil` when there is no whole, sound one.
    static func decode(_ bytes: [UInt8], at position: Int) -> (entry: GroupOffsetEntry, end: Int)? {
        guard bytes.count - position >= frameBytes, BigEndian.load(UInt32.self, from: bytes, at: position) == magic
        else {
            return nil
        }
        let length = Int(BigEndian.load(UInt32.self, from: bytes, at: position + 4))
        let start = position + frameBytes
        guard length <= bytes.count - start,
            CRC32C.checksum(bytes, in: start..<start + length)
                == BigEndian.load(UInt32.self, from: bytes, at: position + 8)
        else { return nil }
        var reader = Reader(bytes: bytes, position: start, end: start + length)
        guard let entry = reader.entry(), reader.position == reader.end else { return nil }
        return (entry, start + length)
    }

    private struct Reader {
        let bytes: [UInt8]
        var position: Int
        let end: Int

        mutating func entry() -> GroupOffsetEntry? {
            guard integer(UInt8.self) == version, let kind = integer(UInt8.self) else { return nil }
            switch kind {
            case 1: return commit()
            case 2: return text(integer(UInt16.self)).map { .deleteGroup($0) }
            case 3: return raw(16).map { .deleteTopic(UUID(bytes: $0)) }
            default: return nil
            }
        }

        private mutating func commit() -> GroupOffsetEntry? {
            guard let group = text(integer(UInt16.self)), let count = integer(UInt32.self) else { return nil }
            var offsets: [TopicPartition: StoredOffset] = [:]
            for _ in 0..<count {
                guard let topic = text(integer(UInt16.self)), let id = raw(16), let partition = integer(Int32.self),
                    let offset = integer(Int64.self), integer(Int32.self) != nil, let committedAt = integer(Int64.self),
                    let metadata = text(integer(UInt32.self))
                else { return nil }
                let committed = CommittedOffset(offset: offset, metadata: metadata, committedAt: committedAt)
                offsets[TopicPartition(topic: topic, partition: partition)] = StoredOffset(
                    topicID: UUID(bytes: id),
                    committed: committed
                )
            }
            return .commit(group: group, offsets: offsets)
        }

        private mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value? {
            guard end - position >= MemoryLayout<Value>.size else { return nil }
            defer { position += MemoryLayout<Value>.size }
            return BigEndian.load(type, from: bytes, at: position)
        }

        private mutating func raw(_ count: Int) -> ArraySlice<UInt8>? {
            guard end - position >= count else { return nil }
            defer { position += count }
            return bytes[position..<position + count]
        }

        private mutating func text(_ count: (some FixedWidthInteger)?) -> String? {
            guard let count, let slice = raw(Int(count)) else { return nil }
            return String(validating: slice, as: UTF8.self)
        }
    }
}
