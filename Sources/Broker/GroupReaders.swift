// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
import Foundation
import Groups
import KafkaCodec
package import MartletCore
import Synchronization

/// Readers of groups that ask for records one request after the other.
///
/// Each is a subscriber of its group as one over gRPC is, so that all of them share the records and the offsets never go back.
package final class GroupReaders: GroupReaderServices {
    private static let bytesMax = 2 << 20
    /// A reader is alive as long as it asks: what it holds goes to others when it ends, not before.
    private static let deadline = Duration.seconds(86_400)

    private final class Reader: Sendable {
        let group: String
        let handle: SubscriberHandle
        let sink: ReaderSink
        let topic: String
        let used = Mutex(ContinuousClock.now)
        let isBusy = Atomic<Bool>(false)

        init(group: String, handle: SubscriberHandle, sink: ReaderSink, topic: String) {
            self.group = group
            self.handle = handle
            self.sink = sink
            self.topic = topic
        }
    }

    private let hub: SubscriptionHub
    private let log: LocalLog
    private let topicName: @Sendable (String) async throws -> String
    private let readers = Mutex([String: Reader]())

    /// Reads through `hub`; `topicName` finds the name of a topic by whatever people call it.
    package init(
        hub: SubscriptionHub,
        log: LocalLog,
        topicName: @escaping @Sendable (String) async throws -> String
    ) {
        self.hub = hub
        self.log = log
        self.topicName = topicName
    }

    /// Ends readers that ask for nothing any more, until cancelled.
    package func run() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(1)) } catch { break }
            let oldest = ContinuousClock.now - .seconds(GroupReaderLimits.idleSeconds)
            let gone = readers.withLock { readers -> [Reader] in
                let idle = readers.filter { _, reader in
                    !reader.isBusy.load(ordering: .relaxed) && reader.used.withLock { $0 } < oldest
                }
                for id in idle.keys { readers[id] = nil }
                return Array(idle.values)
            }
            for reader in gone { reader.handle.leave() }
        }
        for reader in readers.withLock({ Array($0.values) }) { reader.handle.leave() }
    }

    // MARK: GroupReaderServices

    package func begin(_ request: GroupReaderRequest) async throws -> String {
        let topic = try await topicName(request.topic)
        guard !EngineTopic.isOne(topic) else {
            throw ServiceError(
                .forbidden,
                "topic '\(topic)' is the engine's own and is not read by groups",
                fix: "read it without a group"
            )
        }
        let start: StartPosition
        switch request.start {
        case .earliest: start = .earliest
        case .latest: start = .latest
        case .timestamp(let time): start = .time(time)
        case .offset, .last:
            throw ServiceError.invalid(
                field: "from",
                "an offset is no place to begin for a group",
                fix: "use earliest, latest or a time; offsets are moved with: martlet groups reset"
            )
        }
        guard readers.withLock({ $0.count }) < GroupReaderLimits.readersMax else {
            throw ServiceError(
                .unavailable,
                "\(GroupReaderLimits.readersMax) readers of groups are at work, which is the most",
                fix: "end some of them, or subscribe over gRPC"
            )
        }
        let sink = ReaderSink(bytesMax: Self.bytesMax)
        let handle = try await hub.subscribe(
            SubscriptionRequest(
                group: request.group,
                topics: [topic],
                start: start,
                filter: nil,
                limits: .init(
                    countMax: GroupReaderLimits.recordsMax,
                    bytesMax: Self.bytesMax,
                    deadline: Self.deadline
                ),
                reportsCommits: false,
                peer: "http"
            ),
            sink
        )
        let id = UUID().uuidString.lowercased()
        let reader = Reader(group: request.group, handle: handle, sink: sink, topic: topic)
        readers.withLock { $0[id] = reader }
        return id
    }

    package func read(_ group: String, _ id: String, _ next: GroupReadRequest) async throws -> GroupRecords {
        let reader = try find(group, id)
        guard reader.isBusy.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
            throw ServiceError(
                .failedPrecondition,
                "another request of reader '\(id)' is under way",
                fix: "wait for its answer, or begin another reader"
            )
        }
        defer {
            reader.used.withLock { $0 = .now }
            reader.isBusy.store(false, ordering: .releasing)
        }
        if next.mark > 0 { reader.handle.acknowledge(ids: [], through: next.mark) }
        reader.sink.limit(to: min(next.limit, GroupReaderLimits.recordsMax))
        let end = ContinuousClock.now + next.wait
        while true {
            if let taken = reader.handle.takeDeliveries() {
                return GroupRecords(records: reader.sink.taken(), mark: taken.lastID, isAtEnd: false)
            }
            if let failure = reader.sink.failure() {
                _ = readers.withLock { $0.removeValue(forKey: id) }
                reader.handle.leave()
                throw failure
            }
            let isAtEnd = try isAtEnd(reader)
            if (isAtEnd && next.stopsAtEnd) || ContinuousClock.now >= end || Task.isCancelled {
                // What is said of the end is to be true after a crash as well.
                if isAtEnd { await reader.handle.flush() }
                return GroupRecords(records: [], mark: next.mark, isAtEnd: isAtEnd)
            }
            await reader.sink.wait(until: end)
        }
    }

    package func touch(_ group: String, _ id: String) async throws {
        try find(group, id).used.withLock { $0 = .now }
    }

    package func end(_ group: String, _ id: String, through mark: UInt64) async throws {
        let reader = try find(group, id)
        _ = readers.withLock { $0.removeValue(forKey: id) }
        if mark > 0 { reader.handle.acknowledge(ids: [], through: mark) }
        await reader.handle.flush()
        reader.handle.leave()
        await reader.handle.leftByAll()
    }

    private func find(_ group: String, _ id: String) throws(ServiceError) -> Reader {
        guard let reader = readers.withLock({ $0[id] }), reader.group == group else {
            throw ServiceError(
                .notFound,
                "consumer group '\(group.prefix(260))' has no reader '\(id.prefix(60))'",
                fix: "begin another one: readers end after \(GroupReaderLimits.idleSeconds) s without a request"
            )
        }
        return reader
    }

    private func isAtEnd(_ reader: Reader) throws -> Bool {
        for (partition, offset) in reader.handle.positions where offset < (try log.bounds(partition).stable) {
            return false
        }
        return true
    }
}

/// A reader's records until they are asked for.
private final class ReaderSink: DeliverySink {
    private struct State {
        var waiting: [(record: TopicRecord, id: UInt64)] = []
        var taken: [TopicRecord] = []
        var limit = 1
        var failure: ServiceError?
    }

    private let bytesMax: Int
    private let state = Mutex(State())
    private let bell = Bell()

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    func add(_ record: RecordView, of partition: TopicPartition, id: UInt64, attempt: UInt32) {
        let copy = TopicRecord(
            partition: partition.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map { Array($0) },
            value: record.value.map { Array($0) },
            headers: record.headers.map { header in
                .init(name: String(decoding: header.name, as: UTF8.self), value: header.value.map { Array($0) })
            }
        )
        state.withLock { $0.waiting.append((copy, id)) }
    }

    func takeDeliveries() -> EncodedDeliveries? {
        state.withLock { state in
            var count = 0
            var bytes = 0
            while count < min(state.limit, state.waiting.count), bytes < bytesMax {
                let record = state.waiting[count].record
                bytes += 64 + (record.key?.count ?? 0) + (record.value?.count ?? 0)
                count += 1
            }
            guard count > 0 else { return nil }
            state.taken = state.waiting[..<count].map(\.record)
            let last = state.waiting[count - 1].id
            state.waiting.removeFirst(count)
            return EncodedDeliveries(bytes: [], lastID: last)
        }
    }

    func discard() { state.withLock { $0.waiting.removeAll() } }

    func add(committed: [TopicPartition: Int64]) {}

    func fail(_ error: ServiceError) {
        state.withLock { if $0.failure == nil { $0.failure = error } }
    }

    func ring() { bell.ring() }

    func limit(to count: Int) { state.withLock { $0.limit = max(1, count) } }

    /// What ``takeDeliveries()`` took out last.
    func taken() -> [TopicRecord] {
        state.withLock { state in
            defer { state.taken = [] }
            return state.taken
        }
    }

    func failure() -> ServiceError? { state.withLock { $0.failure } }

    func wait(until instant: ContinuousClock.Instant) async { await bell.sleep(until: instant) }
}

extension SubscriberHandle {
    /// Waits a moment for the group to be without members, where this was its last subscriber: what comes next may want to move its offsets.
    fileprivate func leftByAll() async {
        guard subscription.contents.withLock({ $0.subscribers.isEmpty }) else { return }
        await withTaskGroup(of: Void.self) { group in
            // Cancelled where the time is up.
            group.addTask { _ = try? await subscription.ended.value() }
            group.addTask { try? await Task.sleep(for: .seconds(2)) }
            await group.next()
            group.cancelAll()
        }
    }
}
