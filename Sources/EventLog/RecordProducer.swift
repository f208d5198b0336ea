// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import KafkaCodec
import Synchronization

/// Produces records into an ``EventLog``: chooses partitions, and joins what is sent at the same time into shared
/// batches.
///
/// While an append to a partition is on its way, further sends to that partition wait and go together in the next
/// batch. Sends that wait are bounded by `pendingBytesMax`; beyond it they are refused as `.overloaded`.
package final class RecordProducer: Sendable {
    private struct Waiting: Sendable {
        let records: ArraySlice<Record>
        let bytes: Int
        let continuation: CheckedContinuation<Turn, any Error>
    }

    /// What a waiting send is woken with.
    private enum Turn: Sendable {
        /// Its records are in the log from this offset on.
        case done(Int64)
        /// The earlier append is through: it now appends for itself and for those who wait behind it.
        case lead
    }

    private struct PartitionQueue {
        var isBusy = false
        var waiting: [Waiting] = []
    }

    private struct State {
        var queues: [TopicPartition: PartitionQueue] = [:]
        var stickyPartitions: [String: Int32] = [:]
        var pendingBytes = 0
    }

    private let log: any EventLog
    private let pendingBytesMax: Int
    private let batchBytesMax: Int
    private let state = Mutex(State())

    /// Creates a producer; batches hold up to `batchBytesMax` bytes, or what the topic allows if that is less.
    package init(log: any EventLog, pendingBytesMax: Int = 64 << 20, batchBytesMax: Int = 1 << 20) {
        self.log = log
        self.pendingBytesMax = pendingBytesMax
        self.batchBytesMax = batchBytesMax
    }

    /// Appends records and returns where each stands, in the order given; durable as the topic's settings say.
    ///
    /// Records with a key go to the partition Kafka's default partitioner gives, others to one partition that changes
    /// from batch to batch; `fixed` takes the place of both. The order within a partition is the order given. Not cancellable
    /// once begun.
    /// - Throws: what ``EventLog/append(_:to:)`` throws; records of other partitions, or of earlier batches where they did not fit
    ///   one, may then be in the log.
    package func send(
        _ records: [Record],
        topic name: String,
        partition fixed: Int32? = nil
    ) async throws -> [RecordPosition] {
        try await send(
            records,
            topic: name,
            partitions: Array(repeating: fixed, count: fixed == nil ? 0 : records.count)
        )
    }

    /// As ``send(_:topic:partition:)``, with a partition for single records, in their order; nil, or none at all, has it chosen.
    package func send(
        _ records: [Record],
        topic name: String,
        partitions: [Int32?]
    ) async throws -> [RecordPosition] {
        guard !records.isEmpty else { return [] }
        guard let topic = try await log.topic(name) else {
            throw EventLogError(.unknownTopic, "there is no topic \(name)", topic: name)
        }
        let limit = min(Int(topic.settings.messageBytesMax), max(batchBytesMax, 1024))
        try checkSizes(records, of: topic)
        var indexes: [Int32: [Int]] = [:]
        var usesSticky = false
        let sticky = state.withLock { $0.stickyPartitions[name, default: 0] % topic.partitions }
        for (index, record) in records.enumerated() {
            let fixed = partitions.isEmpty ? nil : partitions[index]
            let partition =
                fixed ?? record.key.map { Partitioner.partition(forKey: $0, of: topic.partitions) } ?? sticky
            indexes[partition, default: []].append(index)
            if fixed == nil, record.key == nil { usesSticky = true }
        }
        if usesSticky { noteSticky(name, sticky, topic.partitions) }
        var positions = [RecordPosition](repeating: RecordPosition(partition: -1, offset: -1), count: records.count)
        if indexes.count == 1, let (partition, _) = indexes.first {
            let id = TopicPartition(topic: name, partition: partition)
            for (index, offset) in try await send(records, to: id, limit: limit).enumerated() {
                positions[index] = RecordPosition(partition: partition, offset: offset)
            }
            return positions
        }
        try await withThrowingTaskGroup(of: (Int32, [Int64]).self) { group in
            for (partition, members) in indexes {
                let part = members.map { records[$0] }
                let id = TopicPartition(topic: name, partition: partition)
                group.addTask { (partition, try await self.send(part, to: id, limit: limit)) }
            }
            for try await (partition, offsets) in group {
                for (index, offset) in zip(indexes[partition] ?? [], offsets) {
                    positions[index] = RecordPosition(partition: partition, offset: offset)
                }
            }
        }
        return positions
    }

    private func checkSizes(_ records: [Record], of topic: TopicDescription) throws {
        let limit = Int(topic.settings.messageBytesMax)
        for (index, record) in records.enumerated() {
            // The encoded size is at most this; the exact one is only worked out where it matters.
            guard record.encodedBytesMax + RecordBatchHeader.byteCount > limit else { continue }
            let size = RecordBatchEncoder.encode([record]).count
            guard size > limit else { continue }
            throw EventLogError(
                .messageTooLarge,
                "records[\(index)] needs a batch of \(size) bytes, topic \(topic.name) takes up to \(limit)",
                topic: topic.name
            )
        }
    }

    /// Moves on to another partition for keyless records unless a batch for this one is being collected.
    private func noteSticky(_ topic: String, _ partition: Int32, _ partitions: Int32) {
        state.withLock { state in
            let isCollecting = state.queues[TopicPartition(topic: topic, partition: partition)]?.isBusy ?? false
            state.stickyPartitions[topic] = isCollecting ? partition : (partition + 1) % partitions
        }
    }

    private func send(_ records: [Record], to id: TopicPartition, limit: Int) async throws -> [Int64] {
        var offsets: [Int64] = []
        offsets.reserveCapacity(records.count)
        for part in Self.split(records, limit: limit) {
            let base = try await sendPart(part, to: id, limit: limit)
            for index in 0..<Int64(part.count) { offsets.append(base + index) }
        }
        return offsets
    }

    private static func split(_ records: [Record], limit: Int) -> [ArraySlice<Record>] {
        var parts: [ArraySlice<Record>] = []
        var start = 0
        var bytes = RecordBatchHeader.byteCount
        for (index, record) in records.enumerated() {
            let size = record.encodedBytesMax
            if index > start, bytes + size > limit {
                parts.append(records[start..<index])
                start = index
                bytes = RecordBatchHeader.byteCount
            }
            bytes += size
        }
        parts.append(records[start...])
        return parts
    }

    /// Appends one part, alone or together with others; returns the offset of its first record.
    private func sendPart(_ records: ArraySlice<Record>, to id: TopicPartition, limit: Int) async throws -> Int64 {
        let bytes = records.reduce(0) { $0 + $1.encodedBytesMax }
        let mayLead = state.withLock { state in
            if state.queues[id]?.isBusy ?? false { return false }
            state.queues[id, default: PartitionQueue()].isBusy = true
            return true
        }
        if mayLead { return try await lead(records, bytes, to: id, limit: limit) }
        let turn: Turn = try await withCheckedThrowingContinuation { continuation in
            let outcome = enqueue(records, bytes, id, continuation)
            if let outcome { continuation.resume(with: outcome) }
        }
        switch turn {
        case .done(let base): return base
        case .lead: return try await lead(records, bytes, to: id, limit: limit)
        }
    }

    private func enqueue(
        _ records: ArraySlice<Record>,
        _ bytes: Int,
        _ id: TopicPartition,
        _ continuation: CheckedContinuation<Turn, any Error>
    ) -> Result<Turn, any Error>? {
        state.withLock { state in
            // The append ahead may have finished since the first look.
            if !(state.queues[id]?.isBusy ?? false) {
                state.queues[id, default: PartitionQueue()].isBusy = true
                return .success(.lead)
            }
            guard state.pendingBytes + bytes <= pendingBytesMax else {
                return .failure(
                    EventLogError(.overloaded, "too many records are waiting to be appended; try again").at(id)
                )
            }
            state.pendingBytes += bytes
            let waiting = Waiting(records: records, bytes: bytes, continuation: continuation)
            state.queues[id]?.waiting.append(waiting)
            return nil
        }
    }

    /// Appends own records with those of waiting sends that fit, answers them, and hands over to the next in line.
    private func lead(
        _ own: ArraySlice<Record>,
        _ ownBytes: Int,
        to id: TopicPartition,
        limit: Int
    ) async throws -> Int64 {
        let followers = takeFollowers(of: id, room: limit - RecordBatchHeader.byteCount - ownBytes)
        defer { handOver(id) }
        do {
            let batch = RecordBatchEncoder.encode(followers.reduce(into: Array(own)) { $0 += $1.records })
            var base = try await log.append(batch, to: id).baseOffset
            let first = base
            base += Int64(own.count)
            for follower in followers {
                follower.continuation.resume(returning: .done(base))
                base += Int64(follower.records.count)
            }
            return first
        } catch {
            for follower in followers { follower.continuation.resume(throwing: error) }
            throw error
        }
    }

    private func takeFollowers(of id: TopicPartition, room: Int) -> [Waiting] {
        state.withLock { state in
            guard var queue = state.queues[id] else { return [] }
            var left = room
            let taken = queue.waiting.prefix { waiting in
                left -= waiting.bytes
                return left >= 0
            }
            queue.waiting.removeFirst(taken.count)
            state.pendingBytes -= taken.reduce(0) { $0 + $1.bytes }
            state.queues[id] = queue
            return Array(taken)
        }
    }

    private func handOver(_ id: TopicPartition) {
        let next = state.withLock { state -> Waiting? in
            guard let queue = state.queues[id], let first = queue.waiting.first else {
                state.queues[id] = nil
                return nil
            }
            state.queues[id]?.waiting.removeFirst()
            state.pendingBytes -= first.bytes
            return first
        }
        next?.continuation.resume(returning: .lead)
    }
}
