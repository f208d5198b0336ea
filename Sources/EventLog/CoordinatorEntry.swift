// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import KafkaCodec

/// An offset together with the identity of the topic it was committed for.
struct StoredOffset: Sendable, Equatable {
    let topicID: UUID
    let committed: CommittedOffset
}

/// One entry of the coordinators' file: what consumer groups, producers and transactions must not lose.
///
/// Format: docs/formats/group-offsets.md.
enum CoordinatorEntry: Sendable, Equatable {
    case commit(group: String, offsets: [TopicPartition: StoredOffset])
    case deleteGroup(String)
    case deleteTopic(UUID)
    /// A group's own state, in a form that is not known here; `nil` forgets it.
    case groupState(group: String, state: [UInt8]?)
    /// Every producer id below may have been handed out.
    case producerIDs(reservedBelow: Int64)
    /// A transaction's state, in a form that is not known here; `nil` forgets it.
    case transaction(id: String, state: [UInt8]?)
    case deleteOffsets(group: String, partitions: [TopicPartition])
    /// Entries that are applied all or none; none of them is of this kind.
    case together([CoordinatorEntry])
    /// Stands at the file's head: how often it was written anew, and how long it was when it got its name.
    case begin(CoordinatorMark)

    /// "MLGO".
    static let magic: UInt32 = 0x4D4C_474F
    static let version: UInt8 = 1
    static let frameBytes = 12
    /// Stands for a length where there is nothing.
    private static let absent = UInt32.max

    private var kind: UInt8 {
        switch self {
        case .commit: 1
        case .deleteGroup: 2
        case .deleteTopic: 3
        case .groupState: 4
        case .producerIDs: 5
        case .transaction: 6
        case .deleteOffsets: 7
        case .together: 8
        case .begin: 9
        }
    }

    /// Appends the framed entry.
    func encode(to bytes: inout [UInt8]) {
        var payload: [UInt8] = [Self.version]
        encodeContent(to: &payload)
        BigEndian.append(Self.magic, to: &bytes)
        BigEndian.append(UInt32(payload.count), to: &bytes)
        BigEndian.append(CRC32C.checksum(payload), to: &bytes)
        bytes += payload
    }

    private func encodeContent(to payload: inout [UInt8]) {
        payload.append(kind)
        switch self {
        case .commit(let group, let offsets): Self.append(offsets, of: group, to: &payload)
        case .deleteGroup(let group): Self.append(group, to: &payload)
        case .deleteTopic(let id): payload += id.bytes
        case .groupState(let name, let state), .transaction(let name, let state):
            Self.append(name, to: &payload)
            BigEndian.append(state.map { UInt32($0.count) } ?? Self.absent, to: &payload)
            payload += state ?? []
        case .producerIDs(let reserved): BigEndian.append(reserved, to: &payload)
        case .deleteOffsets(let group, let partitions):
            Self.append(group, to: &payload)
            BigEndian.append(UInt32(partitions.count), to: &payload)
            for partition in partitions {
                Self.append(partition.topic, to: &payload)
                BigEndian.append(partition.partition, to: &payload)
            }
        case .together(let entries):
            BigEndian.append(UInt32(entries.count), to: &payload)
            for entry in entries { entry.encodeContent(to: &payload) }
        case .begin(let mark):
            BigEndian.append(mark.generation, to: &payload)
            BigEndian.append(mark.bytes, to: &payload)
        }
    }

    private static func append(
        _ offsets: [TopicPartition: StoredOffset],
        of group: String,
        to payload: inout [UInt8]
    ) {
        append(group, to: &payload)
        BigEndian.append(UInt32(offsets.count), to: &payload)
        for (partition, stored) in offsets {
            append(partition.topic, to: &payload)
            payload += stored.topicID.bytes
            BigEndian.append(partition.partition, to: &payload)
            BigEndian.append(stored.committed.offset, to: &payload)
            BigEndian.append(stored.committed.leaderEpoch, to: &payload)
            BigEndian.append(stored.committed.committedAt, to: &payload)
            BigEndian.append(UInt32(stored.committed.metadata.utf8.count), to: &payload)
            payload += stored.committed.metadata.utf8
        }
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        BigEndian.append(UInt16(text.utf8.count), to: &bytes)
        bytes += text.utf8
    }

    /// Reads the entry at `position`; `nil` when there is no whole, sound one.
    static func decode(_ bytes: [UInt8], at position: Int) -> (entry: CoordinatorEntry, end: Int)? {
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

        mutating func entry() -> CoordinatorEntry? {
            guard integer(UInt8.self) == version else { return nil }
            return content(mayHoldOthers: true)
        }

        private mutating func content(mayHoldOthers: Bool) -> CoordinatorEntry? {
            guard let kind = integer(UInt8.self) else { return nil }
            switch kind {
            case 1: return commit()
            case 2: return text(integer(UInt16.self)).map { .deleteGroup($0) }
            case 3: return raw(16).map { .deleteTopic(UUID(bytes: $0)) }
            case 4: return namedState().map { .groupState(group: $0.name, state: $0.state) }
            case 5: return integer(Int64.self).map { .producerIDs(reservedBelow: $0) }
            case 6: return namedState().map { .transaction(id: $0.name, state: $0.state) }
            case 7: return deletedOffsets()
            case 8 where mayHoldOthers: return together()
            case 9 where mayHoldOthers: return begin()
            default: return nil
            }
        }

        private mutating func namedState() -> (name: String, state: [UInt8]?)? {
            guard let name = text(integer(UInt16.self)), let length = integer(UInt32.self) else { return nil }
            if length == absent { return (name, nil) }
            return raw(Int(length)).map { (name, Array($0)) }
        }

        private mutating func deletedOffsets() -> CoordinatorEntry? {
            guard let group = text(integer(UInt16.self)), let count = integer(UInt32.self) else { return nil }
            var partitions: [TopicPartition] = []
            for _ in 0..<count {
                guard let topic = text(integer(UInt16.self)), let number = integer(Int32.self) else { return nil }
                partitions.append(TopicPartition(topic: topic, partition: number))
            }
            return .deleteOffsets(group: group, partitions: partitions)
        }

        private mutating func begin() -> CoordinatorEntry? {
            guard let generation = integer(Int64.self), let bytes = integer(Int64.self) else { return nil }
            return .begin(CoordinatorMark(generation: generation, bytes: bytes))
        }

        private mutating func together() -> CoordinatorEntry? {
            guard let count = integer(UInt32.self) else { return nil }
            var entries: [CoordinatorEntry] = []
            for _ in 0..<count {
                guard let entry = content(mayHoldOthers: false) else { return nil }
                entries.append(entry)
            }
            return .together(entries)
        }

        private mutating func commit() -> CoordinatorEntry? {
            guard let group = text(integer(UInt16.self)), let count = integer(UInt32.self) else { return nil }
            var offsets: [TopicPartition: StoredOffset] = [:]
            for _ in 0..<count {
                guard let topic = text(integer(UInt16.self)), let id = raw(16), let partition = integer(Int32.self),
                    let offset = integer(Int64.self), let leaderEpoch = integer(Int32.self),
                    let committedAt = integer(Int64.self), let metadata = text(integer(UInt32.self))
                else { return nil }
                let committed = CommittedOffset(
                    offset: offset,
                    metadata: metadata,
                    committedAt: committedAt,
                    leaderEpoch: leaderEpoch
                )
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
