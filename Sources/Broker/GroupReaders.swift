// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
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

        func acknowledge(through mark: UInt64) throws(ServiceError) {
            guard mark > 0 else { return }
            guard mark <= sink.given() else {
                throw ServiceError.invalid(
                    field: "acknowledge",
                    "\(mark) is no mark this reader was given: the last one is \(sink.given())",
                    fix: "send the mark of the last answer whose records are done with"
                )
            }
            handle.acknowledge(ids: [], through: mark)
            sink.forget(through: mark)
        }
    }

    private struct State {
        var readers: [String: Reader] = [:]
        /// How many are about to be among them.
        var beginning = 0
    }

    private let hub: SubscriptionHub
    private let log: LocalLog
    private let topicName: @Sendable (String) async throws -> String
    private let state = Mutex(State())

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
            let gone = state.withLock { state -> [Reader] in
                let idle = state.readers.filter { _, reader in
                    !reader.isBusy.load(ordering: .relaxed) && reader.used.withLock { $0 } < oldest
                }
                for id in idle.keys { state.readers[id] = nil }
                return Array(idle.values)
            }
            for reader in gone { reader.handle.leave() }
        }
        for reader in state.withLock({ Array($0.readers.values) }) { reader.handle.leave() }
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
        try reservePlace()
        defer { state.withLock { $0.beginning -= 1 } }
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
        state.withLock { $0.readers[id] = reader }
        return id
    }

    private func reservePlace() throws(ServiceError) {
        let hasPlace = state.withLock { state in
            guard state.readers.count + state.beginning < GroupReaderLimits.readersMax else { return false }
            state.beginning += 1
            return true
        }
        guard !hasPlace else { return }
        throw ServiceError(
            .unavailable,
            "\(GroupReaderLimits.readersMax) readers of groups are at work, which is the most",
            fix: "end some of them, or subscribe over gRPC"
        )
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
        try reader.acknowledge(through: next.mark)
        reader.sink.limit(to: min(next.limit, GroupReaderLimits.recordsMax))
        let end = ContinuousClock.now + next.wait
        while true {
            if let taken = reader.handle.takeDeliveries() {
                return GroupRecords(records: reader.sink.taken(), mark: taken.lastID, isAtEnd: false)
            }
            if let failure = ended(reader, id) { throw failure }
            let isAtEnd = try isAtEnd(reader)
            if (isAtEnd && next.stopsAtEnd) || ContinuousClock.now >= end || Task.isCancelled {
                // What is said of the end is to be true after a crash as well.
                if isAtEnd { try await store(reader) }
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
        try reader.acknowledge(through: mark)
        // Where that fails the reader stays for a while, so that it can be ended again.
        do throws(ServiceError) { try await store(reader) } catch { throw ended(reader, id) ?? error }
        _ = state.withLock { $0.readers.removeValue(forKey: id) }
        reader.handle.leave()
        await reader.handle.leftByAll()
    }

    private func find(_ group: String, _ id: String) throws(ServiceError) -> Reader {
        guard let reader = state.withLock({ $0.readers[id] }), reader.group == group else {
            throw ServiceError(
                .notFound,
                "consumer group '\(group.prefix(260))' has no reader '\(id.prefix(60))'",
                fix: "begin another one: readers end after \(GroupReaderLimits.idleSeconds) s without a request"
            )
        }
        return reader
    }

    /// Why the group is no longer read for, which ends the reader; nil where it is.
    private func ended(_ reader: Reader, _ id: String) -> ServiceError? {
        guard let failure = reader.sink.failure() else { return nil }
        _ = state.withLock { $0.readers.removeValue(forKey: id) }
        reader.handle.leave()
        return failure
    }

    /// Waits for what the group has acknowledged to be on disk.
    private func store(_ reader: Reader) async throws(ServiceError) {
        if await reader.handle.flush() { return }
        throw ServiceError(
            .unavailable,
            "what was acknowledged for consumer group '\(reader.group)' cannot be stored now",
            fix: "try again; the engine's log has the cause, which may be a full disk"
        )
    }

    private func isAtEnd(_ reader: Reader) throws -> Bool {
        for (partition, offset) in reader.handle.positions where offset < (try log.bounds(partition).stable) {
            return false
        }
        return true
    }
}

/// A reader's records until they are acknowledged: whoever did not get an answer asks again and is given the same.
private final class ReaderSink: DeliverySink {
    private struct State {
        /// What the reader was given, and behind it what it has yet to be given; as much as it may have unacknowledged.
        var held: Deque<(record: TopicRecord, id: UInt64, bytes: Int)> = []
        /// The last id it was given.
        var givenThrough: UInt64 = 0
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
        state.withLock { $0.held.append((copy, id, record.deliveryByteCount)) }
    }

    func takeDeliveries() -> EncodedDeliveries? {
        state.withLock { state in
            var count = 0
            var bytes = 0
            while count < min(state.limit, state.held.count), bytes < bytesMax {
                bytes += state.held[count].bytes
                count += 1
            }
            guard count > 0 else { return nil }
            state.taken = state.held.prefix(count).map(\.record)
            let last = state.held[count - 1].id
            state.givenThrough = max(state.givenThrough, last)
            return EncodedDeliveries(bytes: [], lastID: last)
        }
    }

    func discard() {
        state.withLock { state in
            while let last = state.held.last, last.id > state.givenThrough { state.held.removeLast() }
        }
    }

    /// Gives up what is acknowledged, of what the reader was given.
    func forget(through mark: UInt64) {
        state.withLock { state in
            let last = min(mark, state.givenThrough)
            while let first = state.held.first, first.id <= last { state.held.removeFirst() }
        }
    }

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

    /// The last id the reader was given.
    func given() -> UInt64 { state.withLock(\.givenThrough) }

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
