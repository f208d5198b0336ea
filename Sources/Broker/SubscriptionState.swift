// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import HeapModule

/// Who of a group's subscribers gets which record, what is unacknowledged, and how far the group has come: a value without clock, disk
/// or callers of its own.
///
/// Records of a partition are offered in their order. Each is delivered to a subscriber the partition is assigned to; where its key has
/// unacknowledged records, to the subscriber that has them. What is rejected, or not acknowledged in time, is delivered again.
package struct SubscriptionState: Sendable {
    /// What a subscriber can take.
    package struct Limits: Sendable, Equatable {
        /// Most unacknowledged deliveries.
        package var countMax: Int
        /// Most bytes of unacknowledged deliveries; one delivery is always possible.
        package var bytesMax: Int
        /// How long a delivery may be unacknowledged.
        package var deadline: Duration

        /// Describes limits.
        package init(countMax: Int, bytesMax: Int, deadline: Duration) {
            self.countMax = countMax
            self.bytesMax = bytesMax
            self.deadline = deadline
        }
    }

    /// What comes of offering a record.
    package enum Offer: Sendable, Equatable {
        /// It goes to this subscriber under this id; so often has it been delivered, this time included.
        case deliver(subscriber: Int, id: UInt64, attempt: UInt32)
        /// Nobody can take it now; offer it again when woken.
        case wait
    }

    /// A record that is to be delivered again.
    package struct Retry: Sendable, Equatable {
        /// The partition's place.
        package var partition: Int
        /// The record's offset.
        package var offset: Int64
        /// How often it has been delivered.
        package var attempts: UInt32
        /// When it may be delivered again.
        package var due: ContinuousClock.Instant
        /// What it counts for among the bytes in flight.
        package var bytes: Int
        /// Tells records of its key from others; nil without a key.
        package var keyHash: UInt64?
    }

    /// What is to be done after a call.
    package struct Effects: Sendable, Equatable {
        /// Partitions that waited and should offer again.
        package var woken: Set<Int> = []
        /// Subscribers whose deliveries that were not sent yet are void.
        package var discarded: Set<Int> = []
        /// Whether there may be something to deliver again, or an earlier deadline.
        package var hasRetries = false
    }

    struct Delivery: Sendable {
        let partition: Int
        let offset: Int64
        let bytes: Int
        let keyHash: UInt64?
        let lane: UInt64?
        let subscriber: Int
        let attempt: UInt32
        var deadline: ContinuousClock.Instant
    }

    struct Subscriber: Sendable {
        /// Bytes that were not handed to the network, above which it gets nothing more: they are in the engine's memory.
        static let unsentBytesMax = 1 << 20

        let limits: Limits
        var ids: Set<UInt64> = []
        var bytes = 0
        /// Deliveries up to this id have been handed to the network.
        var sentThrough: UInt64 = 0
        /// The first id that is unacknowledged, at most.
        var lowestID: UInt64 = 0
        /// Whether it let a delivery expire before taking it; it gets nothing until it takes something.
        var isStalled = false
        /// What was not handed to the network, in its order.
        var unsent: Deque<(id: UInt64, bytes: Int)> = []
        var unsentBytes = 0
        /// Whether a record was too large, though a smaller one might fit, and nothing was acknowledged since.
        var isFull = false

        /// For about how many more records there is room, going by those it has.
        var slots: Int {
            guard hasRoom(for: 1), !isFull else { return 0 }
            let size = max(1, bytes / max(1, ids.count))
            let inFlight = max(1, (limits.bytesMax - bytes) / size)
            return min(limits.countMax - ids.count, inFlight, max(1, (Self.unsentBytesMax - unsentBytes) / size))
        }

        mutating func give(_ id: UInt64, _ bytes: Int) {
            ids.insert(id)
            self.bytes += bytes
            unsent.append((id, bytes))
            unsentBytes += bytes
        }

        mutating func release(_ id: UInt64, _ bytes: Int) {
            ids.remove(id)
            self.bytes -= bytes
            isFull = false
        }

        /// Notes what the network has taken; whether something may be given again that could not be because of it.
        mutating func noteSent(_ id: UInt64) -> Bool {
            // A reader may be given again what it had.
            sentThrough = max(sentThrough, id)
            let hadNoRoom = isStalled || unsentBytes >= Self.unsentBytesMax
            while let first = unsent.first, first.id <= id {
                unsent.removeFirst()
                unsentBytes -= first.bytes
            }
            isStalled = false
            return hadNoRoom
        }

        func hasRoom(for bytes: Int) -> Bool {
            !isStalled && ids.count < limits.countMax && (ids.isEmpty || self.bytes + bytes <= limits.bytesMax)
                && unsentBytes < Self.unsentBytesMax
        }
    }

    struct Lane: Sendable {
        var subscriber: Int
        var count: Int
    }

    struct Partition: Sendable {
        /// The offset after the last record that was offered or skipped.
        var position: Int64
        /// Offsets delivered and not acknowledged, with how often they were delivered.
        var open: [Int64: UInt32] = [:]
        /// Offsets in the order of delivery; those not in `open` are done with.
        var order: Deque<Int64> = []
        var lanes: [UInt64: Lane] = [:]
        var assigned: [Int] = []
        var committed: Int64

        /// The lowest offset that is not done with.
        var lowest: Int64 { order.first ?? position }

        mutating func trim() {
            while let first = order.first, open[first] == nil { order.removeFirst() }
        }
    }

    struct Due: Comparable, Sendable {
        let instant: ContinuousClock.Instant
        let id: UInt64

        static func < (left: Due, right: Due) -> Bool { (left.instant, left.id) < (right.instant, right.id) }
    }

    struct DueRetry: Comparable, Sendable {
        let retry: Retry

        static func < (left: DueRetry, right: DueRetry) -> Bool {
            (left.retry.due, left.retry.partition, left.retry.offset)
                < (right.retry.due, right.retry.partition, right.retry.offset)
        }
        static func == (left: DueRetry, right: DueRetry) -> Bool { left.retry == right.retry }
    }

    /// The lane of records without a key where a partition has one subscriber.
    private static let keylessLane: UInt64 = 0

    /// Most records between the lowest that is unacknowledged and the newest delivered.
    let windowMax: Int64
    var partitions: [Partition]
    var subscribers: [Int: Subscriber] = [:]
    var deliveries: [UInt64: Delivery] = [:]
    var deadlines = Heap<Due>()
    /// Records to deliver again when their time has come.
    var retries = Heap<DueRetry>()
    /// Records whose time has come, by partition; the first to be tried first.
    var due: [Int: Deque<Retry>] = [:]
    /// Subscribers that get no new record before they have had those of ``due`` that are for them.
    var owed: Set<Int> = []
    /// Partitions with a record in hand that nobody could take.
    var blocked: Set<Int> = []
    /// Partitions with records to be read, the first to ask in front; see ``ask(_:)``.
    var line: Deque<Int> = []
    var isInLine: Set<Int> = []
    /// Partitions that are being read.
    var turns: Set<Int> = []
    var dirty: Set<Int> = []
    var effects = Effects()
    private var nextID: UInt64 = 1
    private var nextSubscriber = 1

    /// Begins at these offsets, one for each partition.
    package init(positions: [Int64], windowMax: Int = 100_000) {
        partitions = positions.map { Partition(position: $0, committed: $0) }
        self.windowMax = Int64(windowMax)
    }

    // MARK: Reading out

    /// Returns what is to be done since the last call.
    package mutating func takeEffects() -> Effects {
        defer { effects = Effects() }
        return effects
    }

    /// The number of subscribers.
    package var subscriberCount: Int { subscribers.count }

    /// The number of partitions.
    package var partitionCount: Int { partitions.count }

    /// Whether a record was delivered that is not acknowledged.
    package var hasOpen: Bool { partitions.contains { !$0.open.isEmpty } }

    /// The number of unacknowledged deliveries of a subscriber.
    package func inFlight(of subscriber: Int) -> Int { subscribers[subscriber]?.ids.count ?? 0 }

    /// The places of the partitions assigned to a subscriber.
    package func assignment(of subscriber: Int) -> [Int] {
        partitions.indices.filter { partitions[$0].assigned.contains(subscriber) }
    }

    /// The offset of the next record to offer.
    package func position(of partition: Int) -> Int64 { partitions[partition].position }

    /// The lowest offset that is not acknowledged; the next to offer where all are.
    package func lowest(of partition: Int) -> Int64 { partitions[partition].lowest }

    /// When ``expire(now:)`` or ``takeRetries(now:max:)`` will have something to do; nil where only acknowledgements can change that.
    package var nextDeadline: ContinuousClock.Instant? {
        // What is due already waits for room, which rings in another way.
        [deadlines.min?.instant, retries.min?.retry.due].compactMap { $0 }.min()
    }

    // MARK: Subscribers and partitions

    /// Adds a subscriber and gives it its share of the partitions; returns its number.
    package mutating func add(_ limits: Limits) -> Int {
        let number = nextSubscriber
        nextSubscriber += 1
        subscribers[number] = Subscriber(limits: limits)
        assign()
        return number
    }

    /// Takes a subscriber away; what it had not acknowledged is due at once for others.
    package mutating func remove(_ subscriber: Int, now: ContinuousClock.Instant) {
        guard let gone = subscribers.removeValue(forKey: subscriber) else { return }
        for id in gone.ids.sorted() {
            guard let delivery = release(id) else { continue }
            let wasSent = id <= gone.sentThrough
            retry(delivery, attempts: delivery.attempt - (wasSent ? 0 : 1), due: now)
        }
        assign()
    }

    /// Adds partitions behind those there are.
    package mutating func addPartitions(_ positions: [Int64]) {
        partitions += positions.map { Partition(position: $0, committed: $0) }
        assign()
    }

    /// Shares the partitions out evenly; whoever has one keeps it where that is even.
    private mutating func assign() {
        shareOut()
        owed = []
        wake()
    }

    private mutating func shareOut() {
        let all = subscribers.keys.sorted()
        guard !all.isEmpty else {
            for place in partitions.indices { partitions[place].assigned = [] }
            return
        }
        if all.count > partitions.count {
            // More than there are partitions: they share them, each record going to one of them.
            for place in partitions.indices { partitions[place].assigned = [] }
            guard !partitions.isEmpty else { return }
            for (number, subscriber) in all.enumerated() {
                partitions[number % partitions.count].assigned.append(subscriber)
            }
            return
        }
        let base = partitions.count / all.count
        var extra = partitions.count % all.count
        var loads = Dictionary(uniqueKeysWithValues: all.map { ($0, 0) })
        var homeless: [Int] = []
        for place in partitions.indices {
            let owner = partitions[place].assigned.first
            if let owner, let load = loads[owner], load < base || (load == base && extra > 0) {
                if load == base { extra -= 1 }
                loads[owner] = load + 1
                partitions[place].assigned = [owner]
            } else {
                homeless.append(place)
            }
        }
        for subscriber in all {
            while let load = loads[subscriber], load < base, let place = homeless.popLast() {
                loads[subscriber] = load + 1
                partitions[place].assigned = [subscriber]
            }
        }
        for subscriber in all where extra > 0 && loads[subscriber] == base {
            guard let place = homeless.popLast() else { break }
            extra -= 1
            partitions[place].assigned = [subscriber]
        }
    }

    // MARK: Delivering

    /// Offers the next record of a partition; `keyHash` tells records of one key from others.
    package mutating func offer(
        _ partition: Int,
        offset: Int64,
        bytes: Int,
        keyHash: UInt64?,
        now: ContinuousClock.Instant
    ) -> Offer {
        let lane = lane(partition, keyHash)
        // Where nothing is unacknowledged the distance is a gap, left by compaction or by what was aborted.
        let isInWindow = partitions[partition].order.isEmpty || offset - partitions[partition].lowest < windowMax
        guard isInWindow,
            let subscriber = choose(partition, bytes, lane, isRetry: false)
        else {
            blocked.insert(partition)
            for number in partitions[partition].assigned {
                guard let subscriber = subscribers[number], subscriber.hasRoom(for: 1) else { continue }
                if !subscriber.hasRoom(for: bytes) { subscribers[number]?.isFull = true }
            }
            endTurn(partition)
            return .wait
        }
        partitions[partition].order.append(offset)
        partitions[partition].position = offset + 1
        return deliver(partition, offset, bytes, keyHash, attempt: 1, to: subscriber, now)
    }

    /// Passes records over that are not to be delivered: everything before `offset` has been offered or is of no interest.
    package mutating func advance(_ partition: Int, to offset: Int64) {
        guard offset > partitions[partition].position else { return }
        partitions[partition].position = offset
        if partitions[partition].order.isEmpty { dirty.insert(partition) }
    }

    mutating func deliver(
        _ partition: Int,
        _ offset: Int64,
        _ bytes: Int,
        _ keyHash: UInt64?,
        attempt: UInt32,
        to subscriber: Int,
        _ now: ContinuousClock.Instant
    ) -> Offer {
        let id = nextID
        nextID += 1
        let lane = lane(partition, keyHash)
        let deadline = now + (subscribers[subscriber]?.limits.deadline ?? .zero)
        deliveries[id] = Delivery(
            partition: partition,
            offset: offset,
            bytes: bytes,
            keyHash: keyHash,
            lane: lane,
            subscriber: subscriber,
            attempt: attempt,
            deadline: deadline
        )
        keepDeadline(deadline, id)
        subscribers[subscriber]?.give(id, bytes)
        partitions[partition].open[offset] = attempt
        if let lane { partitions[partition].lanes[lane, default: Lane(subscriber: subscriber, count: 0)].count += 1 }
        return .deliver(subscriber: subscriber, id: id, attempt: attempt)
    }

    func lane(_ partition: Int, _ keyHash: UInt64?) -> UInt64? {
        keyHash ?? (partitions[partition].assigned.count > 1 ? nil : Self.keylessLane)
    }

    func choose(_ partition: Int, _ bytes: Int, _ lane: UInt64?, isRetry: Bool) -> Int? {
        let assigned = partitions[partition].assigned
        if let lane, let holder = partitions[partition].lanes[lane]?.subscriber {
            if assigned.contains(holder) { return canTake(holder, bytes, isRetry) ? holder : nil }
            // The records before this one are still with somebody who has given the partition away.
            if !isRetry { return nil }
        }
        var best: Int?
        var least = Int.max
        for subscriber in assigned {
            let count = inFlight(of: subscriber)
            guard count < least, canTake(subscriber, bytes, isRetry) else { continue }
            best = subscriber
            least = count
        }
        return best
    }

    func canTake(_ subscriber: Int, _ bytes: Int, _ isRetry: Bool) -> Bool {
        subscribers[subscriber]?.hasRoom(for: bytes) == true && (isRetry || !owed.contains(subscriber))
    }

    mutating func keepDeadline(_ instant: ContinuousClock.Instant, _ id: UInt64) {
        if deadlines.min.map({ instant < $0.instant }) ?? true { effects.hasRetries = true }
        deadlines.insert(Due(instant: instant, id: id))
        // Those of finished deliveries are dropped all at once, now and then.
        if deadlines.count > 2 * deliveries.count + 1024 {
            deadlines = Heap(deliveries.map { Due(instant: $1.deadline, id: $0) })
        }
    }
}
