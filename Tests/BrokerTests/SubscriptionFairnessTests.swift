// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import EventLog
import Testing

/// Who gets the room there is: records that are due again, partitions that wait to be read, and what waits for the network.
@Suite struct SubscriptionFairnessTests {
    private let now = ContinuousClock.now

    private func limits(_ count: Int, bytes: Int = 1 << 30) -> SubscriptionState.Limits {
        SubscriptionState.Limits(countMax: count, bytesMax: bytes, deadline: .seconds(60))
    }

    /// Offers records until one has to wait; returns their ids.
    private func offer(
        _ state: inout SubscriptionState,
        _ partition: Int,
        _ offsets: Range<Int64>,
        bytes: Int = 1
    ) -> [UInt64] {
        var ids: [UInt64] = []
        for offset in offsets {
            let offer = state.offer(partition, offset: offset, bytes: bytes, keyHash: nil, now: now)
            guard case .deliver(_, let id, _) = offer else { break }
            ids.append(id)
        }
        return ids
    }

    private func asks(_ state: inout SubscriptionState, _ partition: Int) -> Bool { state.ask(partition) }

    @Test func recordsThatNobodyCanTakeAgainDoNotKeepLaterOnesFromTheirs() {
        var state = SubscriptionState(positions: [0, 0])
        let full = state.add(limits(300))
        let free = state.add(limits(300))
        let first = state.assignment(of: full)[0]
        let second = state.assignment(of: free)[0]
        state.reject(full, ids: offer(&state, first, 0..<300), delay: .zero, now: now)
        state.reject(free, ids: offer(&state, second, 0..<5), delay: .seconds(1), now: now)
        #expect(offer(&state, first, 300..<600).count == 300)
        // Three hundred are due before these five, and have no room.
        let retries = state.takeRetries(now: now + .seconds(2), max: 256)
        #expect(retries.map(\.partition) == Array(repeating: second, count: 5))
        for retry in retries { #expect(state.offer(retry, now: now) != .wait) }
    }

    @Test func recordsOfAHeldKeyDoNotKeepOthersOfTheirPartitionFromTheirs() {
        var state = SubscriptionState(positions: [0])
        let holder = state.add(limits(2))
        let other = state.add(limits(10))
        func offer(_ offset: Int64, key: UInt64?, to subscriber: Int) -> UInt64 {
            let offer = state.offer(0, offset: offset, bytes: 1, keyHash: key, now: now)
            guard case .deliver(subscriber, let id, _) = offer else {
                Issue.record("\(offset): \(offer)")
                return 0
            }
            return id
        }
        let keyed = [offer(0, key: 7, to: holder), offer(1, key: 7, to: holder)]
        state.reject(holder, ids: keyed, delay: .zero, now: now)
        _ = [offer(2, key: 7, to: holder), offer(3, key: 7, to: holder)]
        state.reject(other, ids: [offer(4, key: nil, to: other)], delay: .seconds(1), now: now)
        #expect(state.takeRetries(now: now + .seconds(1), max: 1).map(\.offset) == [4])
    }

    @Test func whatIsDueAgainComesBeforeNewRecords() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits(2))
        let given = offer(&state, 0, 0..<2)
        state.reject(one, ids: [given[0]], delay: .zero, now: now)
        // Taken by a new one before the rejected is looked up.
        let third = offer(&state, 0, 2..<3)
        #expect(third.count == 1)
        #expect(state.takeRetries(now: now, max: 10).isEmpty)
        _ = state.takeEffects()
        state.acknowledge(one, ids: third, through: 0)
        #expect(state.takeEffects().hasRetries)
        #expect(offer(&state, 0, 3..<4).isEmpty)
        let retries = state.takeRetries(now: now, max: 10)
        #expect(retries.map(\.offset) == [0])
        #expect(offer(&state, 0, 3..<4).isEmpty)
        for retry in retries { #expect(state.offer(retry, now: now) != .wait) }
        state.acknowledge(one, ids: [given[1]], through: 0)
        #expect(state.takeRetries(now: now, max: 10).isEmpty)
        #expect(state.takeEffects().woken == [0])
        #expect(offer(&state, 0, 3..<4).count == 1)
    }

    @Test func whatIsForgottenLetsRecordsFarAheadOfItGo() {
        var state = SubscriptionState(positions: [0], windowMax: 10)
        let one = state.add(limits(100))
        let given = offer(&state, 0, 0..<10)
        state.acknowledge(one, ids: Array(given.dropFirst()), through: 0)
        state.reject(one, ids: [given[0]], delay: .zero, now: now)
        #expect(offer(&state, 0, 10..<11).isEmpty)
        let retries = state.takeRetries(now: now, max: 10)
        _ = state.takeEffects()
        for retry in retries { state.forget(retry) }
        #expect(state.takeEffects().woken == [0])
        #expect(state.takeRetries(now: now, max: 10).isEmpty)
        #expect(offer(&state, 0, 10..<11).count == 1)
    }

    @Test func onlyWhatIsDeletedOrDamagedIsGivenUp() {
        let outside = EventLogError(.offsetOutOfRange, "outside")
        #expect(outside.isGone(4, start: 5))
        #expect(!outside.isGone(5, start: 5))
        #expect(!outside.isGone(100, start: 5))
        #expect(!outside.isGone(4, start: nil))
        #expect(EventLogError(.damaged, "damaged").isGone(4, start: nil))
        for code in [EventLogError.Code.overloaded, .closed, .inputOutput] {
            #expect(!EventLogError(code, "passes").isGone(4, start: 5))
        }
    }

    @Test func noMorePartitionsAreReadThanThereIsRoomFor() {
        var state = SubscriptionState(positions: Array(repeating: 0, count: 1000))
        let one = state.add(limits(3))
        let first = (0..<1000).filter { state.ask($0) }
        #expect(first == [0, 1, 2])
        for place in 0..<3 {
            #expect(offer(&state, place, 0..<1).count == 1)
            state.endTurn(place)
        }
        // Nobody has room: nobody is read, and nobody is woken for nothing.
        #expect(state.takeEffects().woken.isEmpty)
        state.acknowledge(one, ids: [1], through: 0)
        #expect(state.takeEffects().woken == [3])
        #expect(asks(&state, 3))
        // Whoever has been read goes behind the others.
        #expect(!asks(&state, 0))
        #expect(offer(&state, 3, 0..<1).count == 1)
        state.endTurn(3)
        state.acknowledge(one, ids: [2, 3], through: 0)
        #expect(state.takeEffects().woken == [4, 5])
    }

    @Test func noMorePartitionsAreReadThanThereAreBytesFor() {
        var state = SubscriptionState(positions: Array(repeating: 0, count: 1000))
        let one = state.add(limits(10_000, bytes: 250))
        var given: [UInt64] = []
        var reads = 0
        func read(_ place: Int) {
            guard state.ask(place) else { return }
            reads += 1
            given += offer(&state, place, 0..<1, bytes: 100)
            state.endTurn(place)
        }
        for place in 0..<1000 { read(place) }
        // Two had room, and with the third it was known that there is no more.
        #expect(given.count == 2)
        #expect(reads == 3)
        _ = state.takeEffects()
        state.acknowledge(one, ids: [given[0]], through: 0)
        // The one that has its record in hand, and the next in line.
        #expect(state.takeEffects().woken.count == 2)
    }

    @Test func aFullSubscribersPartitionsDoNotKeepAnotherOnesFromTheirTurn() {
        var state = SubscriptionState(positions: Array(repeating: 0, count: 100))
        let full = state.add(limits(1))
        let free = state.add(limits(100))
        let fulls = state.assignment(of: full)
        #expect(offer(&state, fulls[0], 0..<1).count == 1)
        for place in fulls { #expect(!asks(&state, place)) }
        let admitted = state.assignment(of: free).filter { state.ask($0) }
        #expect(admitted.count == 8)
        for place in admitted { state.endTurn(place) }
        var woken = state.takeEffects().woken
        #expect(woken.isSubset(of: Set(state.assignment(of: free))))
        // A subscriber that goes leaves its partitions to the other, and they have their turns behind the others.
        state.remove(full, now: now)
        var read = Set(admitted)
        woken.formUnion(state.takeEffects().woken)
        while let place = woken.popFirst() {
            if state.ask(place) { read.insert(place) }
            state.endTurn(place)
            woken.formUnion(state.takeEffects().woken)
        }
        #expect(read.count == 100)
    }

    @Test func littleWaitsForASubscriberThatDoesNotTakeIt() {
        var state = SubscriptionState(positions: [0])
        let one = state.add(limits(10_000))
        let given = offer(&state, 0, 0..<100, bytes: 400 << 10)
        #expect(given.count == 3)
        #expect(!asks(&state, 0))
        _ = state.takeEffects()
        state.markSent(one, through: given[0])
        #expect(state.takeEffects().woken == [0])
        #expect(offer(&state, 0, 3..<100, bytes: 400 << 10).count == 1)
    }
}
