// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import Groups
package import Logging
package import MartletCore
import Synchronization

/// The groups that are read for by subscribers, each with one reader for all of its subscribers.
package final class SubscriptionHub: Sendable {
    /// Most groups at one time.
    private static let groupsMax = 1000

    private let log: LocalLog
    private let coordinator: GroupCoordinator
    private let explain: @Sendable (any Error) -> ServiceError
    private let logger: Logger
    private struct State {
        var active: [String: GroupSubscription] = [:]
        /// Nobody runs subscriptions any more.
        var isOver = false
    }

    /// Where what is read ahead is kept, for groups and for readers without one.
    package let memory: ReadMemory<RecordBacklog>
    private let state = Mutex(State())
    /// Bounded by the number of groups: each is in it once.
    private let begun = AsyncStream.makeStream(of: GroupSubscription.self)

    static let stopping = ServiceError(.unavailable, "the engine is stopping", fix: "subscribe again in a moment")

    /// Reads `log` for the groups of `coordinator`; `explain` turns errors into what callers are told.
    package init(
        log: LocalLog,
        coordinator: GroupCoordinator,
        memory: ReadMemory<RecordBacklog> = ReadMemory(bytesMax: 64 << 20),
        explain: @escaping @Sendable (any Error) -> ServiceError,
        logger: Logger
    ) {
        self.log = log
        self.coordinator = coordinator
        self.memory = memory
        self.explain = explain
        self.logger = logger
    }

    /// The number of groups that are read for, or about to be.
    package var groupCount: Int { state.withLock { $0.active.count } }

    /// Reads for the groups until cancelled; what is acknowledged by then is committed.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await subscription in begun.stream {
                group.addTask {
                    await subscription.run()
                    self.forget(subscription)
                }
            }
        }
        let left = state.withLock { state in
            state.isOver = true
            return Array(state.active.values)
        }
        // Nobody would begin them any more, and whoever asked for them waits for that.
        for subscription in left { subscription.abandon(Self.stopping) }
    }

    private func forget(_ subscription: GroupSubscription) {
        state.withLock { state in
            if state.active[subscription.group] === subscription { state.active[subscription.group] = nil }
        }
    }

    /// Makes a caller a subscriber of a group, whose deliveries go to `sink` until ``SubscriberHandle/leave()``.
    ///
    /// - Throws: `ServiceError`: `.notFound`, `.inUse` where clients of Kafka read for the group, `.failedPrecondition` where its
    ///   subscribers read something else, `.forbidden`, `.invalid`, `.unavailable`.
    package func subscribe(
        _ request: SubscriptionRequest,
        _ sink: any DeliverySink
    ) async throws(ServiceError) -> SubscriberHandle {
        while true {
            let subscription = try subscription(for: request)
            try await Self.awaited(subscription.began).get()
            if let number = try subscription.add(request, sink) {
                return SubscriberHandle(subscription: subscription, number: number, sink: sink)
            }
            try await Self.awaited(subscription.ended)
            forget(subscription)
        }
    }

    private static func awaited<Value: Sendable>(_ gate: Gate<Value>) async throws(ServiceError) -> Value {
        do { return try await gate.value() } catch { throw ServiceError(.unavailable, "the call was cancelled") }
    }

    private func subscription(for request: SubscriptionRequest) throws(ServiceError) -> GroupSubscription {
        let found = state.withLock { state -> Result<(GroupSubscription, Bool), ServiceError> in
            if state.isOver { return .failure(Self.stopping) }
            if let known = state.active[request.group] {
                return .success((known, false))
            }
            guard state.active.count < Self.groupsMax else {
                return .failure(
                    ServiceError(
                        .unavailable,
                        "\(Self.groupsMax) groups are read for, which is the most",
                        fix: "end some subscriptions"
                    )
                )
            }
            let new = GroupSubscription(
                request,
                log: log,
                coordinator: coordinator,
                memory: memory,
                explain: explain,
                logger: logger
            )
            state.active[request.group] = new
            return .success((new, true))
        }
        let (subscription, isNew) = try found.get()
        if isNew { begun.continuation.yield(subscription) }
        return subscription
    }
}

/// A subscriber's hold on its subscription.
package struct SubscriberHandle: Sendable {
    let subscription: GroupSubscription
    let number: Int
    let sink: any DeliverySink

    /// Where the group stands in each partition.
    package var positions: [(partition: TopicPartition, offset: Int64)] {
        subscription.contents.withLock { contents in
            contents.partitions.indices.map { (contents.partitions[$0], contents.machine.lowest(of: $0)) }
        }
    }

    /// Takes the next deliveries to send, which from then on count as sent.
    package func takeDeliveries() -> EncodedDeliveries? {
        subscription.change { contents in
            contents.machine.markTaking(number)
            guard let taken = sink.takeDeliveries() else { return nil }
            contents.machine.markSent(number, through: taken.lastID)
            return taken
        }
    }

    /// Notes what the subscriber is done with; see ``SubscriptionState/acknowledge(_:ids:through:)``.
    package func acknowledge(ids: [UInt64], through: UInt64) {
        subscription.change { $0.machine.acknowledge(number, ids: ids, through: through) }
    }

    /// Has deliveries made again after a delay.
    package func reject(ids: [UInt64], delay: Duration) {
        subscription.change { $0.machine.reject(number, ids: ids, delay: delay, now: .now) }
    }

    /// Gives deliveries more time; nil is what the subscriber has asked for.
    package func extend(ids: [UInt64], by time: Duration?) {
        subscription.change { $0.machine.extend(number, ids: ids, by: time, now: .now) }
    }

    /// Waits until what was acknowledged is on disk, or could not be stored; whether it is.
    package func flush() async -> Bool { await subscription.flush() }

    /// Ends the subscriber's part; what it has not acknowledged goes to others at once.
    package func leave() { subscription.remove(number) }
}
