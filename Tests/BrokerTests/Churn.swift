// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import Testing

/// A group whose subscribers do anything at any time, and whose partitions and clock are served only when the state asks for it.
struct Churn {
    static let records: Int64 = 300

    /// What reads a partition: sleeps until it is woken, and may lose what it has read while it sleeps.
    struct Pump {
        var isAsleep = false
        var hasRecords = false
    }

    let seed: UInt64
    var random: SplitMix
    var state: SubscriptionState
    var clock: ContinuousClock.Instant
    /// The next record to offer, and the acknowledged ones, of each partition.
    var next: [Int64]
    var done: [Set<Int64>]
    var pumps: [Pump]
    /// Whether there may be something to deliver again.
    var isKeeperAwake = true
    /// What each subscriber has been given, as it sees it.
    var held: [Int: [UInt64: (partition: Int, offset: Int64)]] = [:]
    var subscribers: [Int] = []

    init(seed: UInt64, start: ContinuousClock.Instant) {
        self.seed = seed
        random = SplitMix(state: seed &* 7919 &+ 1)
        let count = 1 + Int(random.next() % 24)
        state = SubscriptionState(positions: Array(repeating: 0, count: count), windowMax: 50)
        clock = start
        next = Array(repeating: 0, count: count)
        done = Array(repeating: [], count: count)
        pumps = Array(repeating: Pump(), count: count)
    }

    var isDone: Bool { done.allSatisfy { $0.count == Int(Self.records) } }

    mutating func step() {
        clock += .milliseconds(Int64(random.next() % 400))
        switch random.next() % 10 {
        case 0 where subscribers.count < 5: come()
        case 1 where subscribers.count > 1 && random.next() % 4 == 0: go()
        case 2, 3, 4: pump(Int(random.next() % UInt64(next.count)))
        case 5: deliverAgain()
        default: work()
        }
        react()
        for (place, offset) in state.takeCommittable() {
            #expect((0..<offset).allSatisfy { done[place].contains($0) }, "seed \(seed)")
            state.committed(place, offset)
        }
    }

    private mutating func react() {
        let effects = state.takeEffects()
        for number in effects.discarded { held[number] = [:] }
        for place in effects.woken { pumps[place].isAsleep = false }
        if effects.hasRetries { isKeeperAwake = true }
    }

    private mutating func come() {
        let count = 1 + Int(random.next() % 20)
        let new = state.add(.init(countMax: count, bytesMax: 1 << 20, deadline: .seconds(5)))
        subscribers.append(new)
        held[new] = [:]
    }

    private mutating func go() {
        let gone = subscribers.remove(at: Int(random.next() % UInt64(subscribers.count)))
        state.remove(gone, now: clock)
        held[gone] = nil
    }

    private mutating func pump(_ place: Int) {
        guard !pumps[place].isAsleep, next[place] < Self.records else { return }
        if !pumps[place].hasRecords {
            guard state.ask(place) else {
                pumps[place].isAsleep = true
                return
            }
            pumps[place].hasRecords = true
        }
        let end = min(next[place] + Int64(random.next() % 40), Self.records)
        while next[place] < end {
            let offset = next[place]
            let key: UInt64? = offset % 5 == 0 ? nil : UInt64(offset % 5)
            let offer = state.offer(place, offset: offset, bytes: 1, keyHash: key, now: clock)
            guard case .deliver(let subscriber, let id, _) = offer else {
                // What it has read may be taken away while it sleeps.
                pumps[place] = Pump(isAsleep: true, hasRecords: random.next() % 2 == 0)
                return
            }
            held[subscriber]?[id] = (place, offset)
            next[place] += 1
        }
        state.endTurn(place)
        pumps[place].hasRecords = false
    }

    private mutating func deliverAgain() {
        guard isKeeperAwake || state.nextDeadline.map({ $0 <= clock }) ?? false else { return }
        state.expire(now: clock)
        react()
        let retries = state.takeRetries(now: clock, max: 20)
        isKeeperAwake = !retries.isEmpty
        for retry in retries {
            switch random.next() % 10 {
            case 0: state.putBack(retry, due: clock + .seconds(1))
            default:
                let offer = state.offer(retry, now: clock)
                if case .deliver(let subscriber, let id, _) = offer {
                    held[subscriber]?[id] = (retry.partition, retry.offset)
                }
            }
        }
    }

    private mutating func work() {
        guard let subscriber = subscribers.randomElement(using: &random), let own = held[subscriber] else { return }
        state.markSent(subscriber, through: own.keys.max() ?? 0)
        for (id, record) in own.sorted(by: { $0.key < $1.key }) where random.next() % 3 != 0 {
            let before = state.inFlight(of: subscriber)
            if random.next() % 8 == 0 {
                state.reject(subscriber, ids: [id], delay: .milliseconds(100), now: clock)
            } else {
                state.acknowledge(subscriber, ids: [id], through: 0)
                if state.inFlight(of: subscriber) < before { done[record.partition].insert(record.offset) }
            }
            held[subscriber]?[id] = nil
        }
    }
}

struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
