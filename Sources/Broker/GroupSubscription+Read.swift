// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec
import Logging
import MartletCore
import Synchronization

extension GroupSubscription {
    private static let readWait = Duration.seconds(30)
    private static let retryPause = Duration.seconds(1)
    private static let decompressedBytesMax = 4 << 20
    private static let retriesAtOnce = 256
    /// Records offered under one lock.
    private static let offersAtOnce = 64

    // MARK: New records

    /// Reads a partition and offers its records, one read ahead of what the subscribers can take.
    func read(_ place: Int) async {
        let (partition, bell, start) = contents.withLock { contents in
            (contents.partitions[place], contents.bells[place], contents.machine.position(of: place))
        }
        var position = start
        while !Task.isCancelled {
            do {
                let found = try await log.read(partition, from: position, bytesMax: readBytes, wait: Self.readWait)
                let (records, next) = decode(found, from: position, of: partition)
                guard await offer(records, of: place, partition, bell) else { return }
                position = max(position, next)
                let reached = position
                change { $0.machine.advance(place, to: reached) }
            } catch is CancellationError {
                return
            } catch let error as EventLogError {
                guard let next = await recover(from: error, at: position, of: partition) else { return }
                position = next
                change { $0.machine.advance(place, to: next) }
            } catch {
                return fail(explain(error))
            }
        }
    }

    /// The records from an offset on, and where to read next.
    private func decode(_ found: ReadResult, from position: Int64, of partition: TopicPartition) -> (
        [RecordView], Int64
    ) {
        var walk = RecordBatches(
            found.bytes,
            verifiesChecksums: false,
            decompressedBytesMax: Self.decompressedBytesMax
        )
        var records: [RecordView] = []
        while true {
            do throws(RecordBatchError) {
                guard let record = try walk.nextRecord() else { break }
                if record.offset >= position { records.append(record) }
            } catch {
                logger.error(
                    "subscribers were not given a batch that cannot be read",
                    metadata: ["partition": "\(partition)", "group": "\(group)", "error": "\(error)"]
                )
            }
        }
        return (records, walk.pausedAt ?? found.nextOffset)
    }

    /// Whether all records were offered; not where reading was cancelled.
    private func offer(_ records: [RecordView], of place: Int, _ partition: TopicPartition, _ bell: Bell) async -> Bool
    {
        var index = 0
        while index < records.count {
            let (reached, rung) = change { contents -> (Int, [any DeliverySink]) in
                let now = ContinuousClock.now
                var rung: Set<Int> = []
                var next = index
                while next < records.count, next - index < Self.offersAtOnce {
                    let record = records[next]
                    if let filter, !filter.lets(record.key) {
                        contents.machine.advance(place, to: record.offset + 1)
                        next += 1
                        continue
                    }
                    let bytes = Self.size(of: record)
                    let hash = record.key.map(Self.hash)
                    switch contents.machine.offer(place, offset: record.offset, bytes: bytes, keyHash: hash, now: now) {
                    case .wait: return (next, rung.compactMap { contents.subscribers[$0]?.sink })
                    case .deliver(let subscriber, let id, let attempt):
                        contents.subscribers[subscriber]?.sink.add(record, of: partition, id: id, attempt: attempt)
                        rung.insert(subscriber)
                        next += 1
                    }
                }
                return (next, rung.compactMap { contents.subscribers[$0]?.sink })
            }
            for sink in rung { sink.ring() }
            if reached == records.count { return true }
            if reached - index < Self.offersAtOnce { await bell.sleep(until: nil) }
            index = reached
            if Task.isCancelled { return false }
        }
        return true
    }

    /// Where to read on after an error; nil where the subscription ends.
    private func recover(from error: EventLogError, at position: Int64, of partition: TopicPartition) async -> Int64? {
        switch error.code {
        case .offsetOutOfRange:
            guard let bounds = try? log.bounds(partition) else { return nil }
            return min(max(position, bounds.start), bounds.end)
        case .damaged:
            guard let next = error.nextReadableOffset, next > position else { break }
            logger.error(
                "subscribers were not given records that are damaged",
                metadata: [
                    "partition": "\(partition)", "group": "\(group)", "from": "\(position)", "to": "\(next)",
                ]
            )
            return next
        case .overloaded:
            // Passes by itself, and ending would forget what is unacknowledged.
            do { try await Task.sleep(for: Self.retryPause) } catch { return nil }
            return position
        case .closed: return nil
        default: break
        }
        fail(explain(error))
        return nil
    }

    private static func size(of record: RecordView) -> Int {
        // What attributes and headers take beside is counted with a share of their number.
        (record.key?.count ?? 0) + (record.value?.count ?? 0) + 64 * record.headerCount + 64
    }

    /// FNV-1a, never 0, which stands for records without a key.
    private static func hash(_ key: ArraySlice<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return hash | 1
    }

    // MARK: Records to deliver again

    /// Lets deadlines pass and delivers again what is due.
    func keepTime() async {
        while !Task.isCancelled {
            let retries = change { contents in
                let now = ContinuousClock.now
                contents.machine.expire(now: now)
                return contents.machine.takeRetries(now: now, max: Self.retriesAtOnce)
            }
            if !retries.isEmpty, await redeliver(retries) { continue }
            let now = ContinuousClock.now
            let deadline = contents.withLock { $0.machine.nextDeadline(now: now) }
            // What is due but has no subscriber with room is tried again when somebody acknowledges, and now and then.
            let latest = retries.isEmpty ? deadline : min(deadline ?? now + Self.retryPause, now + Self.retryPause)
            await keeperBell.sleep(until: latest)
        }
    }

    /// Whether at least one could be delivered or is done with.
    private func redeliver(_ retries: [SubscriptionState.Retry]) async -> Bool {
        var rest = retries[...]
        var hasMoved = false
        while let first = rest.first {
            let partition = contents.withLock { $0.partitions[first.partition] }
            do {
                let found = try await log.read(partition, from: first.offset, bytesMax: 1 << 20, wait: .zero)
                let (records, next) = decode(found, from: first.offset, of: partition)
                let end = max(next, first.offset + 1)
                let part = rest.prefix { $0.partition == first.partition && $0.offset < end }
                rest = rest.dropFirst(part.count)
                if redeliver(part, among: records, of: partition) { hasMoved = true }
            } catch let error as EventLogError where [.offsetOutOfRange, .damaged].contains(error.code) {
                // Deleted meanwhile, or damaged, which reading has reported.
                rest = rest.dropFirst()
                change { $0.machine.forget(first) }
                hasMoved = true
            } catch {
                let left = Array(rest)
                change { contents in
                    for retry in left { contents.machine.putBack(retry, due: .now + Self.retryPause) }
                }
                return hasMoved
            }
        }
        return hasMoved
    }

    private func redeliver(
        _ retries: ArraySlice<SubscriptionState.Retry>,
        among records: [RecordView],
        of partition: TopicPartition
    ) -> Bool {
        var byOffset: [Int64: RecordView] = [:]
        let wanted = Set(retries.map(\.offset))
        for record in records where wanted.contains(record.offset) { byOffset[record.offset] = record }
        let (hasMoved, rung) = change { contents -> (Bool, [any DeliverySink]) in
            let now = ContinuousClock.now
            var rung: Set<Int> = []
            var hasMoved = false
            for retry in retries {
                guard let record = byOffset[retry.offset] else {
                    contents.machine.forget(retry)
                    hasMoved = true
                    continue
                }
                let hash = record.key.map(Self.hash)
                switch contents.machine.offer(retry, bytes: Self.size(of: record), keyHash: hash, now: now) {
                case .wait: continue
                case .deliver(let subscriber, let id, let attempt):
                    contents.subscribers[subscriber]?.sink.add(record, of: partition, id: id, attempt: attempt)
                    rung.insert(subscriber)
                    hasMoved = true
                }
            }
            return (hasMoved, rung.compactMap { contents.subscribers[$0]?.sink })
        }
        for sink in rung { sink.ring() }
        return hasMoved
    }

    // MARK: Commits

    /// Commits what was acknowledged, a while after the commit before.
    func commitRegularly() async {
        while !Task.isCancelled {
            await commitBell.sleep(until: nil)
            if Task.isCancelled { return }
            let pause = await commit() ? Self.commitInterval : Self.retryPause
            do { try await Task.sleep(for: pause) } catch { return }
        }
    }

    /// Commits what has moved; whether that is on disk.
    @discardableResult
    func commit() async -> Bool {
        let (moved, partitions, waiters) = contents.withLock { contents in
            let waiters = contents.commitWaiters
            contents.commitWaiters = []
            return (contents.machine.takeCommittable(), contents.partitions, waiters)
        }
        defer { for waiter in waiters { waiter.resume() } }
        guard !moved.isEmpty else { return true }
        var offsets: [TopicPartition: Int64] = [:]
        for (place, offset) in moved { offsets[partitions[place]] = offset }
        if let error = await membership.commit(offsets, partitions: partitions) {
            logger.error(
                "what subscribers acknowledged cannot be stored",
                metadata: ["group": "\(group)", "error": "\(error)"]
            )
            change { $0.machine.uncommitted(moved.map(\.partition)) }
            return false
        }
        let committed = offsets
        let sinks = contents.withLock { contents in
            for (place, offset) in moved { contents.machine.committed(place, offset) }
            let sinks = contents.subscribers.values.filter(\.reportsCommits).map(\.sink)
            for sink in sinks { sink.add(committed: committed) }
            return sinks
        }
        for sink in sinks { sink.ring() }
        return true
    }

    /// Waits until what was acknowledged has been committed, or could not be.
    func flush() async {
        await withCheckedContinuation { continuation in
            let isAtWork = contents.withLock { contents in
                guard !contents.isClosing, contents.machine.hasCommittable || !contents.machine.isCommitted else {
                    return false
                }
                contents.commitWaiters.append(continuation)
                return true
            }
            if isAtWork { commitBell.ring() } else { continuation.resume() }
        }
    }
}
