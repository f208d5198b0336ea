// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import FoundationEssentials
import Glibc
package import KafkaCodec
import Synchronization

extension LocalLog {
    /// Where the log's files are.
    package var path: String { directory }

    /// Returns the topic with this id, or `nil` when there is none.
    package func topic(id: KafkaUUID) -> TopicDescription? {
        registry.withLock { registry in
            registry.names[id].flatMap { registry.topics[$0] }?.file.description
        }
    }

    /// Returns how many bytes of records each partition holds.
    package func sizes() -> [TopicPartition: Int64] {
        var sizes: [TopicPartition: Int64] = [:]
        for (_, partition) in allPartitions() {
            sizes[partition.id] = partition.state.withLock { $0.segments.reduce(0) { $0 + $1.byteCount } }
        }
        return sizes
    }

    /// Returns the size of the disk the log is on and what of it can be used, in bytes.
    package func space() -> (total: Int64, usable: Int64)? {
        var status = statvfs()
        guard statvfs(directory, &status) == 0 else { return nil }
        let unit = Int64(status.f_frsize)
        return (Int64(status.f_blocks) * unit, Int64(status.f_bavail) * unit)
    }

    /// Returns the record with the highest timestamp of a partition, the first of several; `nil` when there is none.
    package func latestRecord(_ id: TopicPartition) async throws -> (offset: Int64, timestamp: Int64)? {
        let partition = try partition(id).0
        let found = try await partition.onReaderThread { () throws(EventLogError) in try partition.latestRecord() }
        return found.map { ($0.offset, $0.timestamp) }
    }

    /// Waits until one of the partitions has a record at or behind its offset; false when the time is up.
    ///
    /// One wait is registered with all of them, so a thousand partitions cost a thousand entries and neither tasks nor deadlines.
    /// - Throws: `.unknownTopic`, `.unknownPartition`, `CancellationError`.
    package func waitForRecords(
        behind ends: [(TopicPartition, Int64)],
        atMost duration: Duration,
        isolation: ReadIsolation
    ) async throws -> Bool {
        let partitions = try partitions(ends.map(\.0))
        let wait = RecordWait(deadlines: environment.deadlines)
        defer { for partition in partitions { partition.forget(wait) } }
        for (partition, end) in zip(partitions, ends) {
            if wait.isOver { break }
            partition.register(wait, at: end.1, isolation)
        }
        return try await wait.value(atMost: duration)
    }

    /// Finds partitions with one look at the registry.
    private func partitions(_ ids: [TopicPartition]) throws(EventLogError) -> [PartitionLog] {
        let found = registry.withLock { registry in
            ids.map { id -> PartitionLog? in
                guard let topic = registry.topics[id.topic], id.partition >= 0,
                    Int(id.partition) < topic.partitions.count
                else { return nil }
                return topic.partitions[Int(id.partition)]
            }
        }
        var partitions: [PartitionLog] = []
        partitions.reserveCapacity(ids.count)
        // What is wrong with an id is told the ordinary way.
        for (id, one) in zip(ids, found) {
            if let one { partitions.append(one) } else { partitions.append(try partition(id).0) }
        }
        return partitions
    }
}

extension KafkaUUID {
    /// Creates the id with the same bytes.
    package init(_ id: UUID) {
        let halves = withUnsafeBytes(of: id.uuid) { bytes in
            (bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        self.init(high: UInt64(bigEndian: halves.0), low: UInt64(bigEndian: halves.1))
    }
}
