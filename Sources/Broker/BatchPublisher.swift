// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
import KafkaCodec
package import MartletCore
import Synchronization

/// Puts records into the log as batches, one for each partition: what is large enough goes at once, what is small waits
/// for the append ahead of it and goes together with what came meanwhile.
///
/// Appends of many requests are on their way at the same time and share the flushes of the log. The order of calls is the
/// order in each partition. What waits here is less than ``batchBytesWanted`` for each partition; what is on its way is bounded by the log.
package final class BatchPublisher: Sendable {
    /// A batch of this size does not wait for others to join it.
    private static let batchBytesWanted = 64 << 10
    /// The largest batch made, where the topic allows it.
    private static let batchBytesMax = 1 << 20

    private struct Target: Hashable {
        let topic: Int
        let partition: Int32
    }

    private struct Batch: Sendable {
        var builder: RecordBatchBuilder
        var parts: [PublishReceipt.Part] = []
    }

    private struct Queue: Sendable {
        /// Full batches, oldest first.
        var sealed: [Batch] = []
        var open: Batch?
        var inFlight = 0
        /// Whether somebody is handing batches to the log; nobody else may, so that they stay in order.
        var isSubmitting = false

        var isIdle: Bool { sealed.isEmpty && open == nil && inFlight == 0 && !isSubmitting }

        /// The next batch to hand over, or nil where it is better to wait.
        mutating func next() -> Batch? {
            if !sealed.isEmpty { return sealed.removeFirst() }
            guard let batch = open, inFlight == 0 || batch.builder.byteCount >= batchBytesWanted else { return nil }
            open = nil
            return batch
        }
    }

    /// Several locks, so that partitions do not wait for one another.
    private final class Stripes: Sendable {
        private let first = Mutex([TopicPartition: Queue]())
        private let second = Mutex([TopicPartition: Queue]())
        private let third = Mutex([TopicPartition: Queue]())
        private let fourth = Mutex([TopicPartition: Queue]())

        func with<Result: Sendable>(_ id: TopicPartition, _ body: (inout [TopicPartition: Queue]) -> Result) -> Result {
            switch id.partition & 3 {
            case 0: first.withLock { body(&$0) }
            case 1: second.withLock { body(&$0) }
            case 2: third.withLock { body(&$0) }
            default: fourth.withLock { body(&$0) }
            }
        }
    }

    private let log: LocalLog
    private let explain: @Sendable (any Error) -> ServiceError
    private let stripes = Stripes()
    private let turns = Atomic<UInt32>(0)

    /// Publishes into `log`; `explain` turns its errors into what callers are told.
    package init(log: LocalLog, explain: @escaping @Sendable (any Error) -> ServiceError) {
        self.log = log
        self.explain = explain
    }

    /// As ``publish(_:completion:)``.
    package func publish(_ records: EncodedRecords) async -> [PublishOutcome] {
        await withCheckedContinuation { continuation in
            publish(records) { continuation.resume(returning: $0) }
        }
    }

    /// Hands records to the log and returns; `completion` is called once, when each is on disk, as its topic's settings say, or refused.
    ///
    /// Records of one partition stay in their order, and behind those of calls before this one. A record that is refused does not
    /// harm the others, except that a batch fails as a whole where the disk does. The completion must be short and must not block.
    package func publish(_ records: EncodedRecords, completion: @escaping @Sendable ([PublishOutcome]) -> Void) {
        let receipt = PublishReceipt(records.items.count, completion)
        let topics = records.topics.map { name in topic(name) }
        let places = Self.places(of: records.topics)
        // Records without a key go to one partition, to another one with the next request.
        let turn = Int32(bitPattern: turns.wrappingAdd(1, ordering: .relaxed).oldValue & 0x7FFF_FFFF)
        var members: [Target: [Int]] = [:]
        var single: (Target, [Int])?
        for (index, item) in records.items.enumerated() {
            if let fault = item.fault {
                receipt.refuse(index, fault)
                continue
            }
            switch place(item, topics[item.topic], turn) {
            case .failure(let error): receipt.refuse(index, error)
            case .success(let partition):
                let target = Target(topic: places[item.topic], partition: partition)
                if single == nil { single = (target, []) }
                if single?.0 == target { single?.1.append(index) } else { members[target, default: []].append(index) }
            }
        }
        if let (target, indexes) = single {
            add(indexes, of: records, to: target, 0, topics[target.topic], receipt)
        }
        for (number, (target, indexes)) in members.enumerated() {
            add(indexes, of: records, to: target, Int32(number + 1), topics[target.topic], receipt)
        }
        receipt.seal()
    }

    // MARK: Places

    /// The first place of each name: one that stands there twice is one topic, whose records keep their order.
    private static func places(of names: [String]) -> [Int] {
        if names.count == 1 { return [0] }
        var first: [String: Int] = [:]
        return names.indices.map { place in
            if let known = first[names[place]] { return known }
            first[names[place]] = place
            return place
        }
    }

    private func topic(_ name: String) -> Result<TopicDescription, ServiceError> {
        guard !name.isEmpty else {
            return .failure(.invalid(field: "topic", "is missing", fix: "name a topic in the request, or in the event"))
        }
        guard !name.hasPrefix("__") else {
            return .failure(
                ServiceError(
                    .forbidden,
                    "topic '\(name.prefix(260))' is the engine's own",
                    fix: "publish to a topic whose name does not begin with '__'"
                )
            )
        }
        guard let topic = log.topic(name) else {
            return .failure(
                ServiceError(
                    .notFound,
                    "no topic named '\(name.prefix(260))'",
                    fix: "make it with: martlet topics create NAME, or CreateTopic of martlet.v1.Topics"
                )
            )
        }
        return .success(topic)
    }

    private func place(
        _ item: EncodedRecords.Item,
        _ topic: Result<TopicDescription, ServiceError>,
        _ turn: Int32
    ) -> Result<Int32, ServiceError> {
        switch topic {
        case .failure(let error): return .failure(error)
        case .success(let topic):
            // Here, since the log would refuse it with the events of others that share its batch.
            if topic.settings.compaction != nil, item.keyHash == nil {
                return .failure(
                    .invalid(field: "key", "is missing, and topic '\(topic.name)' is compacted", fix: "send a key")
                )
            }
            let size = RecordBatchBuilder.bytesMax(ofBody: item.body.count)
            guard size <= Int(topic.settings.messageBytesMax) else {
                return .failure(
                    ServiceError(
                        .tooLarge,
                        "the event needs \(size) bytes; topic '\(topic.name)' takes up to \(topic.settings.messageBytesMax)",
                        fix: "put large data into a file and send its path, or raise the topic's max.message.bytes"
                    )
                )
            }
            if let partition = item.partition {
                guard (0..<topic.partitions).contains(partition) else {
                    return .failure(
                        .invalid(
                            field: "partition",
                            "topic '\(topic.name)' has no partition \(partition)",
                            fix: "use 0 to \(topic.partitions - 1), or leave it out"
                        )
                    )
                }
                return .success(partition)
            }
            if let hash = item.keyHash { return .success(Partitioner.partition(forHash: hash, of: topic.partitions)) }
            return .success(turn % topic.partitions)
        }
    }

    // MARK: Batches

    private func add(
        _ indexes: [Int],
        of records: EncodedRecords,
        to target: Target,
        _ number: Int32,
        _ topic: Result<TopicDescription, ServiceError>,
        _ receipt: PublishReceipt
    ) {
        guard case .success(let topic) = topic else { return }
        let id = TopicPartition(topic: topic.name, partition: target.partition)
        let limit = min(Self.batchBytesMax, Int(topic.settings.messageBytesMax))
        let bytes = indexes.reduce(0) { $0 + records.items[$1].body.count + 12 }
        let mayHandOver = stripes.with(id) { queues in
            var queue = queues.removeValue(forKey: id) ?? Queue()
            defer { queues[id] = queue }
            var placed: [(item: Int, target: Int32, partition: Int32, delta: Int)] = []
            placed.reserveCapacity(indexes.count)
            var parts = 0
            var first: Int?
            func close(_ batch: inout Batch, at end: Int) {
                guard let begin = first else { return }
                batch.parts.append(PublishReceipt.Part(receipt: receipt, target: number, items: begin..<end))
                parts += 1
                first = nil
            }
            var batch = queue.open ?? Batch(builder: RecordBatchBuilder(capacity: min(bytes + 61, limit)))
            queue.open = nil
            for index in indexes {
                let item = records.items[index]
                // The first record of a batch fits: its size was checked, alone it may be larger than the batches made here.
                if batch.builder.count > 0, !batch.builder.hasRoom(forBody: item.body.count, bytesMax: limit) {
                    close(&batch, at: index)
                    queue.sealed.append(batch)
                    batch = Batch(builder: RecordBatchBuilder(capacity: min(bytes + 61, limit)))
                }
                if first == nil { first = index }
                placed.append((index, number, target.partition, batch.builder.count))
                batch.builder.append(body: records.bodies[item.body])
            }
            close(&batch, at: (indexes.last ?? 0) + 1)
            queue.open = batch
            receipt.begin(placed, parts: parts)
            let hasWork = !queue.isSubmitting
            if hasWork { queue.isSubmitting = true }
            return hasWork
        }
        if mayHandOver { handOver(id) }
    }

    /// Hands batches to the log for as long as there are some that should not wait.
    private func handOver(_ id: TopicPartition) {
        while true {
            let batch = stripes.with(id) { queues -> Batch? in
                guard var queue = queues.removeValue(forKey: id) else { return nil }
                let batch = queue.next()
                if batch == nil { queue.isSubmitting = false } else { queue.inFlight += 1 }
                if !queue.isIdle { queues[id] = queue }
                return batch
            }
            guard let batch else { return }
            let parts = batch.parts
            let bytes = batch.builder.finish(timestamp: Timestamp.nowMicroseconds() / 1000)
            log.submit(bytes, to: id) { [self] result in
                for part in parts { PublishReceipt.end(part, result, explain: explain) }
                let mayHandOver = stripes.with(id) { queues -> Bool in
                    guard var queue = queues.removeValue(forKey: id) else { return false }
                    queue.inFlight -= 1
                    let hasWork = !queue.isSubmitting && (queue.open != nil || !queue.sealed.isEmpty)
                    if hasWork { queue.isSubmitting = true }
                    if !queue.isIdle { queues[id] = queue }
                    return hasWork
                }
                if mayHandOver { handOver(id) }
            }
        }
    }
}
