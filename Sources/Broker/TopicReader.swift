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
        /// The first offset to read.
        package var start: Int64
        /// The offset in front of which reading ends; nil where it goes on for ever.
        package var end: Int64?

        fileprivate var isDone: Bool { end.map { start >= $0 } ?? false }
    }

    /// Most partitions one reader may read.
    package static let partitionsMax = 1000
    private static let readWait = Duration.seconds(30)
    /// Bytes read at once; a larger batch comes whole.
    private static let readBytes = 1 << 20
    /// What a read is thought to take with the batch that is decoded, until that is known.
    private static let readClaim = 2 << 20

    private let log: LocalLog
    private let memory: ReadMemory<RecordBacklog>

    /// Reads `log`; what is read and not sent yet is kept in `memory`.
    package init(log: LocalLog, memory: ReadMemory<RecordBacklog>) {
        self.log = log
        self.memory = memory
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
    /// `encode` appends a record to a message, or nothing to pass it over; `send` is called with messages of up to `messageBytesMax`, or of
    /// one record, and may wait. The partitions take turns of one read each, so that one call has one read in memory, and none that it must
    /// keep while `send` waits. The order within a partition is that of the log.
    /// - Throws: `EventLogError`, `RecordBatchError`, or what `send` throws.
    package func read(
        _ shares: [Share],
        messageBytesMax: Int,
        encode: (RecordView, TopicPartition, inout [UInt8]) -> Void,
        send: ([UInt8]) async throws -> Void
    ) async throws {
        let reader = memory.reader()
        var packer = MessagePacker(bytesMax: messageBytesMax)
        var open = shares.filter { !$0.isDone }
        while !open.isEmpty {
            try Task.checkCancellation()
            var hasMoved = false
            for place in open.indices {
                let bounds = try log.bounds(open[place].partition)
                // Retention may overtake the reader: it goes on with what is left.
                open[place].start = max(open[place].start, bounds.start)
                guard open[place].start < bounds.stable, !open[place].isDone else { continue }
                open[place].start = try await pass(open[place], reader, &packer, encode, send)
                hasMoved = true
            }
            open.removeAll { $0.isDone }
            if hasMoved || open.isEmpty { continue }
            if let message = packer.take() { try await send(message) }
            _ = try await log.waitForRecords(
                behind: open.map { ($0.partition, $0.start) },
                atMost: Self.readWait,
                isolation: .committed
            )
        }
        if let message = packer.take() { try await send(message) }
    }

    /// Reads once, and returns where to go on.
    private func pass(
        _ share: Share,
        _ reader: ReadMemory<RecordBacklog>.Reader,
        _ packer: inout MessagePacker,
        _ encode: (RecordView, TopicPartition, inout [UInt8]) -> Void,
        _ send: ([UInt8]) async throws -> Void
    ) async throws -> Int64 {
        guard let claim = await memory.claim(Self.readClaim, for: reader) else { throw CancellationError() }
        defer { claim.end() }
        guard var backlog = try await backlog(of: share) else { return share.start }
        _ = try backlog.next()
        claim.resize(to: backlog.byteCount)
        while true {
            switch try fill(&packer, from: &backlog, of: share, encode) {
            case .end: return share.end.map { max($0, backlog.nextOffset) } ?? backlog.nextOffset
            case .drained: return backlog.nextOffset
            case .full(let message):
                let next = backlog.nextOffset
                claim.resize(to: backlog.byteCount)
                claim.rest(with: backlog)
                // What rests must be the only copy, so that taking it away frees it.
                backlog = RecordBacklog(nothingFrom: next)
                try await send(message)
                guard let kept = claim.resume() else { return next }
                backlog = kept
            }
        }
    }

    /// Why no more records are encoded.
    private enum Pause {
        case full([UInt8])
        case drained
        /// The share's end is reached.
        case end
    }

    private func fill(
        _ packer: inout MessagePacker,
        from backlog: inout RecordBacklog,
        of share: Share,
        _ encode: (RecordView, TopicPartition, inout [UInt8]) -> Void
    ) throws(RecordBatchError) -> Pause {
        let end = share.end ?? .max
        while true {
            let records = try backlog.next()
            if records.isEmpty { return .drained }
            var taken = 0
            for record in records {
                guard record.offset < end else {
                    backlog.drop(taken)
                    return .end
                }
                taken += 1
                guard let message = packer.add({ encode(record, share.partition, &$0) }) else { continue }
                backlog.drop(taken)
                return .full(message)
            }
            backlog.drop(taken)
        }
    }

    /// What is read from where a share stands; nil where it was deleted meanwhile.
    private func backlog(of share: Share) async throws -> RecordBacklog? {
        do {
            let found = try await log.read(share.partition, from: share.start, bytesMax: Self.readBytes, wait: .zero)
            return RecordBacklog(found, from: share.start)
        } catch let error as EventLogError where error.code == .offsetOutOfRange {
            guard share.start < (try log.bounds(share.partition).start) else { throw error }
            return nil
        }
    }
}
