// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import Testing

@Suite struct SubscriptionStateTests {
    private let now = ContinuousClock.now

    private func limits(_ count: Int = 10, bytes: Int = 1 << 20, seconds: Int = 60) -> SubscriptionState.Limits {
        SubscriptionState.Limits(countMax: count, bytesMax: bytes, deadline: .seconds(seconds))
    }

    /// Offers records to a partition until one has to wait; returns who got which.
    private func offer(
        _ state: inout SubscriptionState,
        _ partition: Int = 0,
        _ offsets: ClosedRange<Int64>,
        key: UInt64? = nil,
        bytes: Int = 10
    ) -> [(subscriber: Int, id: UInt64)] {
        var given: [(Int, UInt64)] = []
        for offset in offsets {
            let offer = state.offer(partition, offset: offset, bytes: bytes, keyHash: key, now: now)
            guard case .deliver(let subscriber, let id, _) = offer else { break }
            given.append((subscriber, id))
        }
        return given
    }

    @Test func aSubscriberGetsNoMoreThanItsCountUntilItAcknowledges() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits(3))
        let given = offer(&state, 0, 0...9)
        #expect(given.count == 3)
        #expect(state.takeEffects().woken.isEmpty)
        state.acknowledge(one, ids: [given[0].id], through: 0)
        #expect(state.takeEffects().woken == [0])
        #expect(offer(&state, 0, 3...9).count == 1)
        #expect(state.inFlight(of: one) == 3)
    }

    @Test func aSubscriberGetsNoMoreThanItsBytesButAlwaysOneRecord() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits(100, bytes: 250))
        #expect(offer(&state, 0, 0...9, bytes: 100).count == 2)
        var large = SubscriptionState(positions: [0])
        _ = large.add(limits(100, bytes: 250))
        #expect(offer(&large, 0, 0...9, bytes: 1000).count == 1)
        #expect(state.inFlight(of: one) == 2)
    }

    /// Compaction and aborted transactions leave gaps of any size.
    @Test func aGapLargerThanTheWindowHoldsNothingUp() {
        var state = SubscriptionState(positions: [0], windowMax: 100)
        let one = state.add(limits())
        let first = offer(&state, 0, 5000...5001)
        #expect(first.count == 2)
        // Beyond the window while something is unacknowledged, and not any more once nothing is.
        #expect(offer(&state, 0, 9000...9000).isEmpty)
        state.acknowledge(one, ids: first.map(\.id), through: 0)
        #expect(offer(&state, 0, 9000...9000).count == 1)
    }

    @Test func withoutASubscriberARecordWaits() {
        var state = SubscriptionState(positions: [5])
        #expect(state.offer(0, offset: 5, bytes: 1, keyHash: nil, now: now) == .wait)
        _ = state.add(limits())
        #expect(state.takeEffects().woken == [0])
        #expect(offer(&state, 0, 5...5).count == 1)
    }

    @Test func theLowestUnacknowledgedOffsetIsCommitted() {
        var state = SubscriptionState(positions: [100])
        let one = state.add(limits())
        let given = offer(&state, 0, 100...104)
        state.acknowledge(one, ids: [given[1].id, given[2].id], through: 0)
        #expect(state.takeCommittable().isEmpty)
        state.acknowledge(one, ids: [given[0].id], through: 0)
        #expect(state.takeCommittable().map(\.offset) == [103])
        state.committed(0, 103)
        #expect(state.isCommitted)
        state.acknowledge(one, ids: [given[4].id, given[3].id], through: 0)
        #expect(state.takeCommittable().map(\.offset) == [105])
        #expect(!state.hasOpen)
    }

    @Test func whatCouldNotBeCommittedIsCommittedLater() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        let given = offer(&state, 0, 0...0)
        state.acknowledge(one, ids: [given[0].id], through: 0)
        #expect(state.takeCommittable().map(\.offset) == [1])
        #expect(!state.isCommitted)
        state.uncommitted([0])
        #expect(state.takeCommittable().map(\.offset) == [1])
    }

    @Test func acknowledgingThroughAnIdTakesAllBeforeItThatWereSent() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        let given = offer(&state, 0, 0...5)
        state.markSent(one, through: given[3].id)
        // What was not sent cannot be meant.
        state.acknowledge(one, ids: [], through: given[5].id)
        #expect(state.takeCommittable().map(\.offset) == [4])
        state.markSent(one, through: given[5].id)
        state.acknowledge(one, ids: [], through: given[5].id)
        #expect(state.takeCommittable().map(\.offset) == [6])
    }

    @Test func recordsPassedOverCountAsAcknowledged() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        state.advance(0, to: 7)
        #expect(state.takeCommittable().map(\.offset) == [7])
        state.committed(0, 7)
        let given = offer(&state, 0, 7...7)
        state.advance(0, to: 20)
        #expect(state.takeCommittable().isEmpty)
        state.acknowledge(one, ids: [given[0].id], through: 0)
        #expect(state.takeCommittable().map(\.offset) == [20])
    }

    @Test func whatIsNotAcknowledgedInTimeIsDeliveredAgain() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits(seconds: 10))
        let given = offer(&state, 0, 0...1)
        state.markSent(one, through: given[1].id)
        #expect(state.nextDeadline == now + .seconds(10))
        state.expire(now: now + .seconds(9))
        #expect(state.takeRetries(now: now + .seconds(9), max: 10).isEmpty)
        state.expire(now: now + .seconds(10))
        #expect(state.inFlight(of: one) == 0)
        let retries = state.takeRetries(now: now + .seconds(10), max: 10)
        #expect(retries.map(\.offset) == [0, 1])
        let again = state.offer(retries[0], now: now + .seconds(10))
        guard case .deliver(one, let id, 2) = again else {
            Issue.record("\(again)")
            return
        }
        // The acknowledgement of the first delivery came too late and means nothing.
        state.acknowledge(one, ids: [given[0].id], through: 0)
        #expect(state.takeCommittable().isEmpty)
        state.acknowledge(one, ids: [id], through: 0)
        #expect(state.takeCommittable().map(\.offset) == [1])
    }

    @Test func moreTimeMovesTheDeadline() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits(seconds: 10))
        let given = offer(&state, 0, 0...0)
        state.markSent(one, through: given[0].id)
        state.extend(one, ids: [given[0].id], by: .seconds(100), now: now)
        state.expire(now: now + .seconds(50))
        #expect(state.inFlight(of: one) == 1)
        state.expire(now: now + .seconds(100))
        #expect(state.inFlight(of: one) == 0)
    }

    @Test func whatIsRejectedComesBackAfterItsDelay() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        let given = offer(&state, 0, 0...2)
        state.reject(one, ids: [given[1].id], delay: .seconds(5), now: now)
        state.reject(one, ids: [given[2].id], delay: .zero, now: now)
        #expect(state.takeRetries(now: now, max: 10).map(\.offset) == [2])
        #expect(state.takeRetries(now: now + .seconds(5), max: 10).map(\.offset) == [1])
        #expect(state.inFlight(of: one) == 1)
    }

    @Test func whatADeadSubscriberHadGoesToTheOthers() {
        var state = SubscriptionState(positions: [0, 0])
        let dead = state.add(limits())
        let other = state.add(limits())
        let places = state.assignment(of: dead)
        #expect(places.count == 1)
        let given = offer(&state, places[0], 0...2)
        state.markSent(dead, through: given[1].id)
        state.remove(dead, now: now)
        #expect(state.takeEffects().hasRetries)
        #expect(state.assignment(of: other) == [0, 1])
        let retries = state.takeRetries(now: now, max: 10)
        #expect(retries.map(\.offset) == [0, 1, 2])
        // The third was never sent, so it has not been delivered yet.
        #expect(retries.map(\.attempts) == [1, 1, 0])
        for retry in retries {
            let attempt = retry.attempts + 1
            guard case .deliver(other, _, attempt) = state.offer(retry, now: now) else {
                Issue.record("not delivered")
                return
            }
        }
    }

    @Test func acknowledgementsOfOthersMeanNothing() {
        var state = SubscriptionState(positions: [0, 0])
        let one = state.add(limits())
        let other = state.add(limits())
        let given = offer(&state, state.assignment(of: one)[0], 0...0)
        state.acknowledge(other, ids: [given[0].id], through: given[0].id)
        state.reject(other, ids: [given[0].id], delay: .zero, now: now)
        #expect(state.inFlight(of: one) == 1)
    }

    @Test(arguments: [(1, 1), (7, 1), (7, 3), (8, 4), (5, 5), (3, 7), (1, 4)])
    func partitionsAreSharedEvenly(partitions: Int, subscribers: Int) {
        var state = SubscriptionState(positions: Array(repeating: 0, count: partitions))
        let all = (0..<subscribers).map { _ in state.add(limits()) }
        let loads = all.map { state.assignment(of: $0).count }
        if partitions >= subscribers {
            #expect(loads.reduce(0, +) == partitions)
            #expect((loads.max() ?? 0) - (loads.min() ?? 0) <= 1)
        } else {
            #expect(loads.allSatisfy { $0 == 1 })
        }
    }

    @Test func whoHasAPartitionKeepsItWhenOthersCome() {
        var state = SubscriptionState(positions: Array(repeating: 0, count: 6))
        let first = state.add(limits())
        let before = Set(state.assignment(of: first))
        let second = state.add(limits())
        let third = state.add(limits())
        #expect(Set(state.assignment(of: first)).isSubset(of: before))
        let held = Set(state.assignment(of: second))
        state.remove(third, now: now)
        #expect(Set(state.assignment(of: second)).isSuperset(of: held))
    }

    @Test func recordsOfAKeyGoToWhoHasTheOthersOfThatKey() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        let two = state.add(limits())
        var owner: [UInt64: Int] = [:]
        for offset in Int64(0)..<12 {
            let key = UInt64(offset % 4 + 1)
            guard case .deliver(let subscriber, _, _) = state.offer(0, offset: offset, bytes: 1, keyHash: key, now: now)
            else {
                Issue.record("offset \(offset) had to wait")
                return
            }
            #expect(owner[key, default: subscriber] == subscriber)
            owner[key] = subscriber
        }
        #expect(Set(owner.values) == [one, two])
    }

    @Test func aHandedOverPartitionWaitsForTheRecordsOfItsFormerOwner() {
        var state = SubscriptionState(positions: [0, 0])
        let one = state.add(limits())
        let given = [offer(&state, 0, 0...1), offer(&state, 1, 0...1)]
        let two = state.add(limits())
        let moved = state.assignment(of: two)[0]
        #expect(state.offer(moved, offset: 2, bytes: 1, keyHash: nil, now: now) == .wait)
        state.acknowledge(one, ids: given[moved].map(\.id), through: 0)
        #expect(state.takeEffects().woken.contains(moved))
        guard case .deliver(two, _, 1) = state.offer(moved, offset: 2, bytes: 1, keyHash: nil, now: now) else {
            Issue.record("not delivered to the new owner")
            return
        }
    }

    @Test func aSubscriberThatTakesNothingLosesWhatItWasGiven() {
        var state = SubscriptionState(positions: [0])
        let slow = state.add(limits(5, seconds: 10))
        let given = offer(&state, 0, 0...4)
        state.markSent(slow, through: given[0].id)
        state.expire(now: now + .seconds(10))
        #expect(state.takeEffects().discarded == [slow])
        #expect(state.inFlight(of: slow) == 0)
        // It gets nothing before it takes something.
        #expect(state.offer(0, offset: 5, bytes: 1, keyHash: nil, now: now) == .wait)
        let other = state.add(limits())
        let retries = state.takeRetries(now: now + .seconds(10), max: 10)
        #expect(retries.map(\.attempts) == [1, 0, 0, 0, 0])
        guard case .deliver(other, _, _) = state.offer(retries[0], now: now) else {
            Issue.record("not delivered to the other")
            return
        }
        state.markTaking(slow)
        #expect(state.takeEffects().woken == [0])
    }

    @Test func recordsFarAheadOfAStuckOneWait() {
        var state = SubscriptionState(positions: [0], windowMax: 100)
        let one = state.add(limits(1000))
        let given = offer(&state, 0, 0...500)
        #expect(given.count == 100)
        state.acknowledge(one, ids: given.dropFirst().map(\.id), through: 0)
        #expect(state.offer(0, offset: 100, bytes: 1, keyHash: nil, now: now) == .wait)
        state.acknowledge(one, ids: [given[0].id], through: 0)
        #expect(offer(&state, 0, 100...150).count == 51)
    }

    @Test func addedPartitionsAreAssigned() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        state.addPartitions([3, 4])
        #expect(state.assignment(of: one) == [0, 1, 2])
        #expect(state.position(of: 2) == 4)
    }

    @Test func whatIsGoneFromTheLogHoldsNothingUp() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits())
        let given = offer(&state, 0, 0...1)
        state.acknowledge(one, ids: [given[1].id], through: 0)
        state.reject(one, ids: [given[0].id], delay: .zero, now: now)
        for retry in state.takeRetries(now: now, max: 10) { state.forget(retry) }
        #expect(state.takeCommittable().map(\.offset) == [2])
    }

    /// Random subscribers that acknowledge, reject, forget, come and go: every record is acknowledged in the end, none before it was
    /// delivered, and the committed offset never passes an unacknowledged record.
    @Test(.timeLimit(.minutes(5)), arguments: 0..<40)
    func nothingIsLostUnderChurn(seed: Int) {
        var churn = Churn(seed: UInt64(seed), start: now)
        for _ in 0..<200_000 where !churn.isDone { churn.step() }
        #expect(churn.isDone, "seed \(seed)")
        #expect(!churn.state.hasOpen, "seed \(seed)")
        #expect(churn.state.partitionCount == churn.done.count)
        #expect(churn.done.indices.allSatisfy { churn.state.lowest(of: $0) == Churn.records }, "seed \(seed)")
    }
}
