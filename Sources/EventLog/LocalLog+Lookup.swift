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
            registry.topics.values.first { KafkaUUID($0.file.id) == id }?.file.description
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
    /// - Throws: `.unknownTopic`, `.unknownPartition`, `CancellationError`.
    package func waitForRecords(
        behind ends: [(TopicPartition, Int64)],
        atMost duration: Duration,
        isolation: ReadIsolation
    ) async throws -> Bool {
        let partitions = try ends.map { (try partition($0.0).0, $0.1) }
        if let (partition, offset) = partitions.first, partitions.count == 1 {
            return try await partition.waitForRecords(at: offset, isolation, atMost: duration)
        }
        return try await withThrowingTaskGroup(of: Bool.self) { group in
            for (partition, offset) in partitions {
                group.addTask { try await partition.waitForRecords(at: offset, isolation, atMost: duration) }
            }
            let isThere = try await group.next() ?? false
            group.cancelAll()
            return isThere
        }
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
