// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import KafkaCodec
import MartletCore

/// Reads partitions without a group, for one reader that takes what it is given in its own time.
package struct TopicReader: Sendable {
    /// A partition and where reading it begins and ends.
    package struct Share: Sendable {
        /// The partition.
        package var partition: TopicPartition
        /// The first offset read.
        package var start: Int64
        /// The offset in front of which reading ends; nil where it goes on for ever.
        package var end: Int64?
    }

    /// Most partitions one reader may read.
    package static let partitionsMax = 1000
    private static let readWait = Duration.seconds(30)
    private static let readBytesMax = 16 << 20
    private static let decompressedBytesMax = 4 << 20

    private let log: LocalLog

    /// Reads `log`.
    package init(log: LocalLog) {
        self.log = log
    }

    /// Finds out what is to be read: all partitions of the topics, or those the start names.
    ///
    /// - Throws: `ServiceError` `.notFound`, `.tooLarge`; `EventLogError`.
    package func shares(topics: [String], start: StartPosition, stopsAtEnd: Bool) async throws -> [Share] {
        var partitions: [TopicPartition] = []
        for name in topics {
            guard let topic = log.topic(name) else { throw ServiceError.notFound(.topics, name) }
            for partition in 0..<topic.partitions {
                partitions.append(TopicPartition(topic: name, partition: partition))
            }
        }
        if case .offsets(let offsets) = start {
            let known = Set(partitions)
            if let unknown = offsets.keys.first(where: { !known.contains($0) }) {
                throw ServiceError.invalid(
                    field: "start",
                    "partition \(unknown.partition) of topic '\(unknown.topic.prefix(260))' is not among what is read",
                    fix: "name the topic in topics, and a partition that it has"
                )
            }
            partitions = partitions.filter { offsets[$0] != nil }
        }
        guard partitions.count <= Self.partitionsMax else {
            throw ServiceError(
                .tooLarge,
                "the topics have \(partitions.count) partitions; without a group up to \(Self.partitionsMax) are read",
                fix: "name partitions by start.offsets, or a group"
            )
        }
        var shares: [Share] = []
        for partition in partitions {
            let offset = try await start.offset(in: partition, of: log)
            let end = stopsAtEnd ? try log.bounds(partition).stable : nil
            shares.append(Share(partition: partition, start: offset, end: end))
        }
        return shares
    }

    /// Reads until all ends are reached, or until cancelled; records of aborted transactions are left out.
    ///
    /// `deliver` is called for one partition after the other or at the same time, for each in its order; reading waits for it.
    /// - Throws: `EventLogError`, or what `deliver` throws.
    package func read(
        _ shares: [Share],
        deliver: @escaping @Sendable (TopicPartition, [RecordView]) async throws -> Void
    ) async throws {
        let bytes = min(1 << 20, max(64 << 10, Self.readBytesMax / max(1, shares.count)))
        try await withThrowingDiscardingTaskGroup { group in
            for share in shares {
                group.addTask { try await read(share, bytesMax: bytes, deliver) }
            }
        }
    }

    private func read(
        _ share: Share,
        bytesMax: Int,
        _ deliver: @Sendable (TopicPartition, [RecordView]) async throws -> Void
    ) async throws {
        var position = share.start
        while share.end.map({ position < $0 }) ?? true {
            try Task.checkCancellation()
            do {
                let found = try await log.read(
                    share.partition,
                    from: position,
                    bytesMax: bytesMax,
                    wait: Self.readWait
                )
                var walk = RecordBatches(
                    found.bytes,
                    verifiesChecksums: false,
                    decompressedBytesMax: Self.decompressedBytesMax
                )
                var records: [RecordView] = []
                while let record = try walk.nextRecord() {
                    if record.offset >= position, share.end.map({ record.offset < $0 }) ?? true {
                        records.append(record)
                    }
                }
                if !records.isEmpty { try await deliver(share.partition, records) }
                position = max(position, walk.pausedAt ?? found.nextOffset)
            } catch let error as EventLogError where error.code == .offsetOutOfRange {
                // Retention has overtaken the reader: it goes on with what is left.
                let bounds = try log.bounds(share.partition)
                guard position < bounds.start else { throw error }
                position = bounds.start
            }
        }
    }
}
