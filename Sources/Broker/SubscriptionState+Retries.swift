// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import HeapModule

/// Records that are delivered again.
///
/// Those that are due and whose subscriber has no room step aside, so that they do not keep others from theirs; in return that subscriber
/// gets nothing new before them.
extension SubscriptionState {
    /// Returns records that are due to be delivered again and whose subscribers have room, by partition and offset.
    package mutating func takeRetries(now: ContinuousClock.Instant, max: Int) -> [Retry] {
        while let first = retries.min?.retry, first.due <= now {
            retries.removeMin()
            due[first.partition, default: []].append(first)
        }
        let owedBefore = owed
        owed = []
        var taken: [Retry] = []
        var taking: [Int: Int] = [:]
        for place in due.keys.sorted() {
            guard partitions[place].assigned.contains(where: { canTake($0, 1, true) }) else {
                owed.formUnion(partitions[place].assigned)
                continue
            }
            var left: Deque<Retry> = []
            for retry in due[place] ?? [] where partitions[place].open[retry.offset] != nil {
                if taken.count < max, let subscriber = chooseAgain(retry, taking) {
                    taken.append(retry)
                    taking[subscriber, default: 0] += 1
                    // New records must not take its room while this one is fetched.
                    owed.insert(subscriber)
                } else {
                    left.append(retry)
                    owed.formUnion(awaited(by: retry))
                }
            }
            due[place] = left.isEmpty ? nil : left
        }
        if !owedBefore.isSubset(of: owed) { wake() }
        return taken.sorted { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
    }

    private func chooseAgain(_ retry: Retry, _ taking: [Int: Int]) -> Int? {
        let lane = lane(retry.partition, retry.keyHash)
        guard let found = choose(retry.partition, retry.bytes, lane, isRetry: true),
            let subscriber = subscribers[found],
            subscriber.ids.count + taking[found, default: 0] < subscriber.limits.countMax
        else { return nil }
        return found
    }

    /// The subscribers one of which must have room.
    private func awaited(by retry: Retry) -> [Int] {
        let assigned = partitions[retry.partition].assigned
        guard let lane = lane(retry.partition, retry.keyHash),
            let holder = partitions[retry.partition].lanes[lane]?.subscriber, assigned.contains(holder)
        else { return assigned }
        return [holder]
    }

    /// Offers a record again; where nobody can take it, it stays due.
    package mutating func offer(_ retry: Retry, now: ContinuousClock.Instant) -> Offer {
        guard partitions[retry.partition].open[retry.offset] != nil else { return .wait }
        let lane = lane(retry.partition, retry.keyHash)
        guard let subscriber = choose(retry.partition, retry.bytes, lane, isRetry: true) else {
            due[retry.partition, default: []].prepend(retry)
            return .wait
        }
        return deliver(
            retry.partition,
            retry.offset,
            retry.bytes,
            retry.keyHash,
            attempt: retry.attempts + 1,
            to: subscriber,
            now
        )
    }

    /// Notes that a record which was to be delivered again is gone from the log.
    package mutating func forget(_ retry: Retry) {
        finish(retry.partition, retry.offset)
        // It may have been what held up the records far ahead of it.
        wake()
    }

    /// Puts back what could not be looked up now.
    package mutating func putBack(_ retry: Retry, due: ContinuousClock.Instant) {
        var retry = retry
        retry.due = due
        retries.insert(DueRetry(retry: retry))
    }

    mutating func retry(_ delivery: Delivery, attempts: UInt32, due: ContinuousClock.Instant) {
        let retry = Retry(
            partition: delivery.partition,
            offset: delivery.offset,
            attempts: attempts,
            due: due,
            bytes: delivery.bytes,
            keyHash: delivery.keyHash
        )
        retries.insert(DueRetry(retry: retry))
        effects.hasRetries = true
    }
}
