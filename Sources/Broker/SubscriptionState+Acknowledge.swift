// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import HeapModule

extension SubscriptionState {
    /// Notes that the network has taken a subscriber's deliveries up to this id.
    package mutating func markSent(_ subscriber: Int, through id: UInt64) {
        if subscribers[subscriber]?.noteSent(id) == true { wake() }
    }

    /// Notes that a subscriber takes deliveries again.
    package mutating func markTaking(_ subscriber: Int) {
        guard subscribers[subscriber]?.isStalled == true else { return }
        subscribers[subscriber]?.isStalled = false
        wake()
    }

    /// Notes what a subscriber is done with: these ids, and all of its own up to `through`.
    ///
    /// Ids it does not have, such as those that were too late, are passed over.
    package mutating func acknowledge(_ subscriber: Int, ids: [UInt64], through: UInt64) {
        for id in ids where deliveries[id]?.subscriber == subscriber { acknowledge(id) }
        let lowest = subscribers[subscriber]?.lowestID ?? 0
        let last = min(through, subscribers[subscriber]?.sentThrough ?? 0)
        if last > 0, last >= lowest {
            // Few ids in a wide range, or many in a narrow one: what is shorter is walked.
            if last - lowest < UInt64(inFlight(of: subscriber)) {
                for id in lowest...last where deliveries[id]?.subscriber == subscriber { acknowledge(id) }
            } else {
                for id in (subscribers[subscriber]?.ids ?? []).sorted() where id <= last { acknowledge(id) }
            }
            subscribers[subscriber]?.lowestID = last + 1
        }
        wake()
    }

    /// Has deliveries made again after a delay.
    package mutating func reject(_ subscriber: Int, ids: [UInt64], delay: Duration, now: ContinuousClock.Instant) {
        for id in ids where deliveries[id]?.subscriber == subscriber {
            guard let delivery = release(id) else { continue }
            retry(delivery, attempts: delivery.attempt, due: now + delay)
        }
        wake()
    }

    /// Gives deliveries more time, from now on.
    package mutating func extend(_ subscriber: Int, ids: [UInt64], by time: Duration?, now: ContinuousClock.Instant) {
        guard let usual = subscribers[subscriber]?.limits.deadline else { return }
        let deadline = now + (time ?? usual)
        for id in ids where deliveries[id]?.subscriber == subscriber {
            deliveries[id]?.deadline = deadline
            keepDeadline(deadline, id)
        }
    }

    /// Makes due again what was not acknowledged in time.
    ///
    /// A subscriber that has not even taken what it was given gets nothing until it does; the rest of what it did not take goes to others.
    package mutating func expire(now: ContinuousClock.Instant) {
        var stalled: Set<Int> = []
        while let first = deadlines.min, first.instant <= now {
            deadlines.removeMin()
            guard let delivery = deliveries[first.id], delivery.deadline <= now else { continue }
            guard let subscriber = subscribers[delivery.subscriber] else { continue }
            if first.id > subscriber.sentThrough {
                stalled.insert(delivery.subscriber)
            } else if let delivery = release(first.id) {
                retry(delivery, attempts: delivery.attempt, due: now)
            }
        }
        for number in stalled {
            guard let subscriber = subscribers[number] else { continue }
            for id in subscriber.ids.sorted() where id > subscriber.sentThrough {
                guard let delivery = release(id) else { continue }
                retry(delivery, attempts: delivery.attempt - 1, due: now)
            }
            subscribers[number]?.isStalled = true
            subscribers[number]?.unsent = []
            subscribers[number]?.unsentBytes = 0
            effects.discarded.insert(number)
        }
        wake()
    }

    // MARK: Committing

    /// Whether ``takeCommittable()`` may have something.
    package var hasCommittable: Bool { !dirty.isEmpty }

    /// Returns how far the partitions have come that moved since the last call: the lowest offset that is not acknowledged.
    package mutating func takeCommittable() -> [(partition: Int, offset: Int64)] {
        defer { dirty = [] }
        return dirty.sorted().compactMap { place in
            let lowest = partitions[place].lowest
            guard lowest > partitions[place].committed else { return nil }
            return (place, lowest)
        }
    }

    /// Notes what is on disk.
    package mutating func committed(_ partition: Int, _ offset: Int64) {
        partitions[partition].committed = max(partitions[partition].committed, offset)
    }

    /// Has partitions committed again that could not be.
    package mutating func uncommitted(_ partitions: [Int]) { dirty.formUnion(partitions) }

    /// Whether everything acknowledged is on disk.
    package var isCommitted: Bool { partitions.allSatisfy { $0.lowest <= $0.committed } }

    // MARK: Parts

    private mutating func acknowledge(_ id: UInt64) {
        guard let delivery = release(id) else { return }
        finish(delivery.partition, delivery.offset)
    }

    mutating func finish(_ partition: Int, _ offset: Int64) {
        partitions[partition].open[offset] = nil
        let before = partitions[partition].lowest
        partitions[partition].trim()
        if partitions[partition].lowest != before { dirty.insert(partition) }
    }

    /// Takes a delivery from its subscriber.
    mutating func release(_ id: UInt64) -> Delivery? {
        guard let delivery = deliveries.removeValue(forKey: id) else { return nil }
        subscribers[delivery.subscriber]?.release(id, delivery.bytes)
        if let lane = delivery.lane, let held = partitions[delivery.partition].lanes[lane] {
            partitions[delivery.partition].lanes[lane] =
                held.count > 1 ? Lane(subscriber: held.subscriber, count: held.count - 1) : nil
        }
        return delivery
    }

    /// Has everything tried again that waits for room.
    mutating func wake() {
        effects.woken.formUnion(blocked)
        blocked = []
        if !retries.isEmpty || !due.isEmpty { effects.hasRetries = true }
        admit()
    }
}
