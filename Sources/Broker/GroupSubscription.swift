// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec
import Logging
import MartletCore
import Synchronization

/// One group's subscribers and the reading for them; lives from the first subscriber to the last.
final class GroupSubscription: Sendable {
    /// A subscriber and where its deliveries go.
    struct Subscriber: Sendable {
        let sink: any DeliverySink
        let reportsCommits: Bool
    }

    struct Contents: Sendable {
        var machine = SubscriptionState(positions: [])
        var partitions: [TopicPartition] = []
        /// Wakes the reading of each partition.
        var bells: [Bell] = []
        var subscribers: [Int: Subscriber] = [:]
        /// Who waits for the next commit.
        var commitWaiters: [CheckedContinuation<Bool, Never>] = []
        /// Why it ends; nil while it goes on.
        var failure: ServiceError?
        var isClosing = false
        /// Since when there is no subscriber.
        var emptySince: ContinuousClock.Instant?
    }

    /// How long what is unacknowledged is remembered when the last subscriber has gone.
    private static let linger = Duration.seconds(5)
    /// Least time between two commits.
    static let commitInterval = Duration.milliseconds(20)
    static let partitionsMax = 10_000
    static let subscribersMax = 1000

    let group: String
    let topics: [String]
    let filter: KeyFilter?
    let log: LocalLog
    let logger: Logger
    let explain: @Sendable (any Error) -> ServiceError
    let membership: GroupMembership
    /// Where what is read ahead is kept.
    let memory: ReadMemory<RecordBacklog>
    /// In whose name it is kept.
    let reader: ReadMemory<RecordBacklog>.Reader
    private let start: StartPosition
    private let coordinator: GroupCoordinator
    let contents = Mutex(Contents())
    let keeperBell = Bell()
    let commitBell = Bell()
    private let changeBell = Bell()
    /// Opened when the group is joined, or could not be.
    let began = Gate<Result<Void, ServiceError>>()
    /// Opened when the group is left.
    let ended = Gate<Void>()

    init(
        _ request: SubscriptionRequest,
        log: LocalLog,
        coordinator: GroupCoordinator,
        memory: ReadMemory<RecordBacklog>,
        explain: @escaping @Sendable (any Error) -> ServiceError,
        logger: Logger
    ) {
        group = request.group
        topics = request.topics
        filter = request.filter
        start = request.start
        self.log = log
        self.coordinator = coordinator
        self.memory = memory
        reader = memory.reader()
        self.explain = explain
        self.logger = logger
        membership = GroupMembership(request.group, topics: request.topics, peer: request.peer, coordinator)
    }

    // MARK: Running

    /// Joins the group and reads for its subscribers until the last one has gone or something fails.
    func run() async {
        do {
            try await begin()
        } catch {
            membership.leave()
            abandon(explain(error))
            return
        }
        began.open(.success(()))
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keepTime() }
            group.addTask { await self.commitRegularly() }
            group.addTask { await self.stayMember() }
            var pumps = 0
            while !Task.isCancelled {
                let count = contents.withLock { $0.partitions.count }
                for place in pumps..<max(pumps, count) { group.addTask { await self.read(place) } }
                pumps = count
                await changeBell.sleep(until: contents.withLock { $0.emptySince.map { $0 + Self.linger } })
                if isOver() { break }
            }
            group.cancelAll()
        }
        await end()
    }

    /// Tells those who wait for its begin, and for its end, that it does not happen.
    func abandon(_ reason: ServiceError) {
        contents.withLock { contents in
            contents.isClosing = true
            if contents.failure == nil { contents.failure = reason }
        }
        began.open(.failure(reason))
        ended.open(())
    }

    private func begin() async throws {
        let partitions = try self.partitions()
        guard partitions.count <= Self.partitionsMax else {
            throw ServiceError(
                .tooLarge,
                "the topics have \(partitions.count) partitions; a subscription takes up to \(Self.partitionsMax)",
                fix: "name fewer topics"
            )
        }
        try await membership.join(partitions)
        let (positions, isNew) = try await positions(of: partitions)
        if !isNew.isEmpty {
            // Where a group begins is kept too: what it was given and did not acknowledge must be before the next start, not behind "latest".
            if let error = await membership.commit(isNew, partitions: partitions) { throw error }
        }
        contents.withLock { contents in
            contents.machine = SubscriptionState(positions: positions)
            contents.partitions = partitions
            contents.bells = partitions.map { _ in Bell() }
            contents.emptySince = .now
        }
    }

    private func partitions() throws(ServiceError) -> [TopicPartition] {
        var all: [TopicPartition] = []
        for name in topics {
            guard let topic = log.topic(name) else { throw ServiceError.notFound(.topics, name) }
            for partition in 0..<topic.partitions { all.append(TopicPartition(topic: name, partition: partition)) }
        }
        return all
    }

    /// Where to begin in each partition, and which of these places no commit tells.
    private func positions(
        of partitions: [TopicPartition]
    ) async throws -> (positions: [Int64], isNew: [TopicPartition: Int64]) {
        let committed = await coordinator.committed(group: group)
        var positions: [Int64] = []
        var isNew: [TopicPartition: Int64] = [:]
        for partition in partitions {
            let bounds = try log.bounds(partition)
            if let offset = committed.offsets[partition]?.offset {
                positions.append(min(max(offset, bounds.start), bounds.end))
            } else {
                let offset = try await start.offset(in: partition, of: log)
                positions.append(offset)
                isNew[partition] = offset
            }
        }
        return (positions, isNew)
    }

    /// Whether to end; from then on nobody can subscribe.
    private func isOver() -> Bool {
        contents.withLock { contents in
            if contents.failure == nil {
                guard contents.subscribers.isEmpty, let since = contents.emptySince else { return false }
                let isIdle = !contents.machine.hasOpen && contents.machine.isCommitted
                guard isIdle || ContinuousClock.now - since >= Self.linger else { return false }
            }
            contents.isClosing = true
            return true
        }
    }

    private func end() async {
        contents.withLock { $0.isClosing = true }
        await commit()
        let (sinks, failure) = contents.withLock { contents in
            (contents.subscribers.values.map(\.sink), contents.failure)
        }
        let reason = failure ?? SubscriptionHub.stopping
        for sink in sinks {
            sink.fail(reason)
            sink.ring()
        }
        membership.leave()
        ended.open(())
    }

    /// Keeps the member in the group, and finds partitions that were added.
    private func stayMember() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: GroupMembership.heartbeatInterval) } catch { return }
            do {
                let now = try partitions()
                let known = contents.withLock { $0.partitions }
                let new = Set(now).subtracting(known).sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
                if !new.isEmpty {
                    // What was added while the group was reading belongs to it from the first record on.
                    var starts: [Int64] = []
                    for partition in new { starts.append(try log.bounds(partition).start) }
                    change { contents in
                        contents.partitions += new
                        contents.bells += new.map { _ in Bell() }
                        contents.machine.addPartitions(starts)
                    }
                    changeBell.ring()
                }
                if !new.isEmpty || membership.mustJoinAgain() { try await membership.join(known + new) }
            } catch {
                fail(explain(error))
            }
        }
    }

    /// Ends the subscription.
    func fail(_ error: ServiceError) {
        contents.withLock { contents in
            if contents.failure == nil { contents.failure = error }
        }
        changeBell.ring()
    }

    // MARK: Changing

    /// Changes the state under its lock, then does what comes of it.
    @discardableResult
    func change<Result: Sendable>(_ body: (inout Contents) -> Result) -> Result {
        let (result, bells, hasRetries, hasCommits) = contents.withLock { contents in
            let result = body(&contents)
            let effects = contents.machine.takeEffects()
            for number in effects.discarded { contents.subscribers[number]?.sink.discard() }
            let bells = effects.woken.map { contents.bells[$0] }
            return (result, bells, effects.hasRetries, contents.machine.hasCommittable)
        }
        for bell in bells { bell.ring() }
        if hasRetries { keeperBell.ring() }
        if hasCommits { commitBell.ring() }
        return result
    }

    /// Adds a subscriber; nil where the subscription is ending.
    func add(_ request: SubscriptionRequest, _ sink: any DeliverySink) throws(ServiceError) -> Int? {
        guard request.topics == topics, request.filter == filter else {
            throw ServiceError(
                .failedPrecondition,
                "the subscribers of group '\(group)' read \(topics.joined(separator: ", ")), or filter keys in another way",
                fix: "name the same topics and the same filter, or another group"
            )
        }
        let found = change { contents -> Swift.Result<Int?, ServiceError> in
            if contents.isClosing || contents.failure != nil { return .success(nil) }
            guard contents.subscribers.count < Self.subscribersMax else {
                return .failure(
                    ServiceError(
                        .unavailable,
                        "group '\(group)' has \(Self.subscribersMax) subscribers, which is the most",
                        fix: "end some of them"
                    )
                )
            }
            let number = contents.machine.add(request.limits)
            contents.subscribers[number] = Subscriber(sink: sink, reportsCommits: request.reportsCommits)
            contents.emptySince = nil
            return .success(number)
        }
        return try found.get()
    }

    /// Takes a subscriber away.
    func remove(_ number: Int) {
        change { contents in
            contents.subscribers[number] = nil
            contents.machine.remove(number, now: .now)
            if contents.subscribers.isEmpty { contents.emptySince = .now }
        }
        changeBell.ring()
    }
}
