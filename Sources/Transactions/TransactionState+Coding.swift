// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec

extension TransactionState {
    static let formatVersion: UInt8 = 2
    /// The first version that has the leader epochs of offsets.
    private static let leaderEpochsFrom: UInt8 = 2

    /// The longest name of a topic or group that the stored form has room for, in bytes of UTF-8.
    static let nameBytesMax = Int(UInt16.max)

    /// Returns the stored form.
    package func encoded() -> [UInt8] {
        var bytes: [UInt8] = [Self.formatVersion, phase.rawValue]
        Self.append(producer, to: &bytes)
        Self.append(previous ?? ProducerIdentity(id: -1, epoch: -1), to: &bytes)
        Self.append(next ?? ProducerIdentity(id: -1, epoch: -1), to: &bytes)
        BigEndian.append(timeoutMilliseconds, to: &bytes)
        BigEndian.append(startedAt ?? -1, to: &bytes)
        BigEndian.append(changedAt, to: &bytes)
        BigEndian.append(UInt32(partitions.count), to: &bytes)
        for partition in partitions { Self.append(partition, to: &bytes) }
        BigEndian.append(UInt32(groups.count), to: &bytes)
        for group in groups {
            Self.append(group, to: &bytes)
            let committed = offsets[group] ?? [:]
            BigEndian.append(UInt32(committed.count), to: &bytes)
            for (partition, offset) in committed {
                Self.append(partition, to: &bytes)
                BigEndian.append(offset.offset, to: &bytes)
                BigEndian.append(offset.committedAt, to: &bytes)
                BigEndian.append(offset.leaderEpoch, to: &bytes)
                BigEndian.append(UInt32(offset.metadata.utf8.count), to: &bytes)
                bytes += offset.metadata.utf8
            }
        }
        return bytes
    }

    private static func append(_ producer: ProducerIdentity, to bytes: inout [UInt8]) {
        BigEndian.append(producer.id, to: &bytes)
        BigEndian.append(producer.epoch, to: &bytes)
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        BigEndian.append(UInt16(text.utf8.count), to: &bytes)
        bytes += text.utf8
    }

    private static func append(_ partition: TopicPartition, to bytes: inout [UInt8]) {
        append(partition.topic, to: &bytes)
        BigEndian.append(partition.partition, to: &bytes)
    }

    /// Reads a stored form; `nil` for anything else.
    package init?(decoding bytes: [UInt8]) {
        var reader = Reader(bytes: bytes)
        guard let version = reader.integer(UInt8.self), (1...Self.formatVersion).contains(version),
            let phase = reader.integer(UInt8.self).flatMap(Phase.init(rawValue:)),
            let producer = reader.producer(), let previous = reader.producer(), let next = reader.producer(),
            let timeout = reader.integer(Int32.self), let startedAt = reader.integer(Int64.self),
            let changedAt = reader.integer(Int64.self), let partitionCount = reader.integer(UInt32.self)
        else { return nil }
        self.init(producer: producer, timeoutMilliseconds: timeout, at: changedAt)
        self.phase = phase
        self.previous = previous.id < 0 ? nil : previous
        self.next = next.id < 0 ? nil : next
        self.startedAt = startedAt < 0 ? nil : startedAt
        for _ in 0..<partitionCount {
            guard let partition = reader.partition() else { return nil }
            partitions.insert(partition)
        }
        guard let groupCount = reader.integer(UInt32.self) else { return nil }
        for _ in 0..<groupCount {
            guard let group = reader.text(), let committed = reader.offsets(version) else { return nil }
            groups.insert(group)
            if !committed.isEmpty { offsets[group] = committed }
        }
        guard reader.position == bytes.count else { return nil }
    }

    private struct Reader {
        let bytes: [UInt8]
        var position = 0

        mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value? {
            guard bytes.count - position >= MemoryLayout<Value>.size else { return nil }
            defer { position += MemoryLayout<Value>.size }
            return BigEndian.load(type, from: bytes, at: position)
        }

        mutating func producer() -> ProducerIdentity? {
            guard let id = integer(Int64.self), let epoch = integer(Int16.self) else { return nil }
            return ProducerIdentity(id: id, epoch: epoch)
        }

        mutating func text() -> String? { integer(UInt16.self).flatMap { text(Int($0)) } }

        private mutating func text(_ count: Int) -> String? {
            guard bytes.count - position >= count else { return nil }
            defer { position += count }
            return String(validating: bytes[position..<position + count], as: UTF8.self)
        }

        mutating func partition() -> TopicPartition? {
            guard let topic = text(), let number = integer(Int32.self) else { return nil }
            return TopicPartition(topic: topic, partition: number)
        }

        mutating func offsets(_ version: UInt8) -> [TopicPartition: CommittedOffset]? {
            guard let count = integer(UInt32.self) else { return nil }
            var found: [TopicPartition: CommittedOffset] = [:]
            for _ in 0..<count {
                guard let partition = partition(), let offset = integer(Int64.self),
                    let committedAt = integer(Int64.self),
                    let leaderEpoch = version < TransactionState.leaderEpochsFrom ? -1 : integer(Int32.self),
                    let length = integer(UInt32.self), let metadata = text(Int(length))
                else { return nil }
                found[partition] = CommittedOffset(
                    offset: offset,
                    metadata: metadata,
                    committedAt: committedAt,
                    leaderEpoch: leaderEpoch
                )
            }
            return found
        }
    }
}
