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
    /// Time until a record is looked up again that the log should have and has not.
    private static let missingPause = Duration.seconds(30)
    /// Bytes read at once; a larger batch comes whole.
    private static let readBytes = 1 << 20
    /// What a read is thought to take with the batch that is decoded, until that is known.
    private static let readClaim = 2 << 20
    /// The same where all that is wanted is decoded at once.
    private static let redeliveryClaim = readBytes + decompressedBytesMax
    private static let decompressedBytesMax = 4 << 20
    private static let retriesAtOnce = 256

    // MARK: New records

    /// Reads a partition and offers its records, when there are some, somebody has room, and it is the partition's turn.
    func read(_ place: Int) async {
        let (partition, bell, start) = contents.withLock { contents in
            (contents.partitions[place], contents.bells[place], contents.machine.position(of: place))
        }
        var position = start
        while !Task.isCancelled {
            do {
                let hasRecords = try await log.waitForRecords(
                    behind: [(partition, position)],
                    atMost: Self.readWait,
                    isolation: .committed
                )
                guard hasRecords else {
                    position = min(position, try log.bounds(partition).end)
                    continue
                }
                guard await waitForTurn(of: place, bell) else { return }
                defer { change { $0.machine.endTurn(place) } }
                guard let claim = await memory.claim(Self.readClaim, for: reader) else { return }
                // The room may have been taken meanwhile by what others had read before.
                guard change({ $0.machine.ask(place) }) else { continue }
                let found = try await backlog(of: partition, from: position)
                guard let reached = await offer(consume found, claim, of: place, partition, bell) else { return }
                position = reached
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

    private func waitForTurn(of place: Int, _ bell: Bell) async -> Bool {
        while !Task.isCancelled {
            if change({ $0.machine.ask(place) }) { return true }
            await bell.sleep(until: nil)
        }
        return false
    }

    private func backlog(of partition: TopicPartition, from position: Int64) async throws -> RecordBacklog {
        RecordBacklog(
            try await log.read(partition, from: position, bytesMax: Self.readBytes, wait: .zero),
            from: position
        )
    }

    /// Offers what was read; what nobody has room for is kept until somebody has, unless the memory is wanted elsewhere.
    ///
    /// - Returns: Where to read on; nil where reading was cancelled.
    private func offer(
        _ found: consuming RecordBacklog,
        _ claim: ReadMemory<RecordBacklog>.Claim,
        of place: Int,
        _ partition: TopicPartition,
        _ bell: Bell
    ) async -> Int64? {
        var backlog = found
        while true {
            do throws(RecordBatchError) {
                let count = try backlog.next().count
                claim.resize(to: backlog.byteCount)
                if count == 0 { return backlog.nextOffset }
                let taken = offer(try backlog.next(), of: place, partition)
                backlog.drop(taken)
                if taken == count { continue }
            } catch {
                guard error.code != .noMemory else {
                    logger.warning(
                        "subscribers wait for a batch until there is memory to decompress it",
                        metadata: ["partition": "\(partition)", "group": "\(group)", "error": "\(error)"]
                    )
                    do { try await Task.sleep(for: Self.retryPause) } catch { return nil }
                    return max(backlog.nextOffset, error.baseOffset ?? 0)
                }
                noteUnreadable(error, partition)
                continue
            }
            let next = backlog.nextOffset
            claim.rest(with: backlog)
            // What rests must be the only copy, so that taking it away frees it.
            backlog = RecordBacklog(nothingFrom: next)
            await bell.sleep(until: nil)
            if Task.isCancelled { return nil }
            guard let kept = claim.resume() else { return next }
            backlog = kept
        }
    }

    /// How many of the records were taken, or are of no interest.
    private func offer(_ records: ArraySlice<RecordView>, of place: Int, _ partition: TopicPartition) -> Int {
        let (taken, rung) = change { contents -> (Int, [any DeliverySink]) in
            let now = ContinuousClock.now
            var rung: Set<Int> = []
            var taken = 0
            for record in records {
                if let filter, !filter.lets(record.key) {
                    contents.machine.advance(place, to: record.offset + 1)
                    taken += 1
                    continue
                }
                let bytes = record.deliveryByteCount
                let hash = record.key.map(Self.hash)
                let offer = contents.machine.offer(place, offset: record.offset, bytes: bytes, keyHash: hash, now: now)
                guard case .deliver(let subscriber, let id, let attempt) = offer else { break }
                contents.subscribers[subscriber]?.sink.add(record, of: partition, id: id, attempt: attempt)
                rung.insert(subscriber)
                taken += 1
            }
            return (taken, rung.compactMap { contents.subscribers[$0]?.sink })
        }
        for sink in rung { sink.ring() }
        return taken
    }

    private func noteUnreadable(_ error: RecordBatchError, _ partition: TopicPartition) {
        logger.error(
            "subscribers were not given a batch that cannot be read",
            metadata: ["partition": "\(partition)", "group": "\(group)", "error": "\(error)"]
        )
    }

    /// Where to read on after an error; nil where the subscription ends.
    private func recover(from error: EventLogError, at position: Int64, of partition: TopicPartition) async -> Int64? {
        switch error.code {
        case .offsetOutOfRange:
            do {
                let bounds = try log.bounds(partition)
                return min(max(position, bounds.start), bounds.end)
            } catch {
                fail(explain(error))
                return nil
            }
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
            let (retries, deadline) = change { contents in
                let now = ContinuousClock.now
                contents.machine.expire(now: now)
                let retries = contents.machine.takeRetries(now: now, max: Self.retriesAtOnce)
                return (retries, contents.machine.nextDeadline)
            }
            if retries.isEmpty {
                await keeperBell.sleep(until: deadline)
            } else {
                await redeliver(retries)
            }
        }
    }

    private func redeliver(_ retries: [SubscriptionState.Retry]) async {
        var rest = retries[...]
        while let first = rest.first {
            let partition = contents.withLock { $0.partitions[first.partition] }
            guard let claim = await memory.claim(Self.redeliveryClaim, for: reader) else { return }
            defer { claim.end() }
            do {
                let found = try await log.read(
                    partition,
                    from: first.offset,
                    bytesMax: Self.readBytes,
                    wait: .zero
                )
                guard found.nextOffset > first.offset else {
                    missing(first, of: partition)
                    rest = rest.dropFirst()
                    continue
                }
                let (records, next) = try decode(found, from: first.offset, of: partition)
                let held = records.reduce(found.bytes.count) { $0 + $1.deliveryByteCount }
                claim.resize(to: max(Self.redeliveryClaim, held))
                let end = max(next, first.offset + 1)
                let part = rest.prefix { $0.partition == first.partition && $0.offset < end }
                rest = rest.dropFirst(part.count)
                redeliver(part, among: records, of: partition)
            } catch let error as EventLogError where [.offsetOutOfRange, .damaged].contains(error.code) {
                rest = rest.dropFirst()
                let start = try? log.bounds(partition).start
                if error.isGone(first.offset, start: start) {
                    change { $0.machine.forget(first) }
                } else {
                    missing(first, of: partition)
                }
            } catch {
                // Passes by itself, or reading finds it too and ends the subscription.
                let left = Array(rest)
                return change { contents in
                    for retry in left { contents.machine.putBack(retry, due: .now + Self.retryPause) }
                }
            }
        }
    }

    /// Looks a record up later that the log should have: what is not acknowledged is not given up.
    private func missing(_ retry: SubscriptionState.Retry, of partition: TopicPartition) {
        logger.error(
            "a record that is to be delivered again is not in the log",
            metadata: ["partition": "\(partition)", "group": "\(group)", "offset": "\(retry.offset)"]
        )
        change { $0.machine.putBack(retry, due: .now + Self.missingPause) }
    }

    /// The records from an offset on, and where to read next.
    ///
    /// - Throws: where there is no memory, which passes.
    private func decode(
        _ found: ReadResult,
        from position: Int64,
        of partition: TopicPartition
    ) throws(RecordBatchError) -> ([RecordView], Int64) {
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
                if error.code == .noMemory { throw error }
                noteUnreadable(error, partition)
            }
        }
        return (records, walk.pausedAt ?? found.nextOffset)
    }

    private func redeliver(
        _ retries: ArraySlice<SubscriptionState.Retry>,
        among records: [RecordView],
        of partition: TopicPartition
    ) {
        var byOffset: [Int64: RecordView] = [:]
        let wanted = Set(retries.map(\.offset))
        for record in records where wanted.contains(record.offset) { byOffset[record.offset] = record }
        let rung = change { contents -> [any DeliverySink] in
            let now = ContinuousClock.now
            var rung: Set<Int> = []
            for retry in retries {
                guard let record = byOffset[retry.offset] else {
                    // Compaction has removed it, or it cannot be read.
                    contents.machine.forget(retry)
                    continue
                }
                let offer = contents.machine.offer(retry, now: now)
                guard case .deliver(let subscriber, let id, let attempt) = offer else { continue }
                contents.subscribers[subscriber]?.sink.add(record, of: partition, id: id, attempt: attempt)
                rung.insert(subscriber)
            }
            return rung.compactMap { contents.subscribers[$0]?.sink }
        }
        for sink in rung { sink.ring() }
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
        let isStored = await commit(moved, partitions)
        for waiter in waiters { waiter.resume(returning: isStored) }
        return isStored
    }

    private func commit(_ moved: [(partition: Int, offset: Int64)], _ partitions: [TopicPartition]) async -> Bool {
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

    /// Waits until what was acknowledged has been committed, or could not be; whether it is on disk.
    func flush() async -> Bool {
        let isStored = await withCheckedContinuation { continuation in
            let answer = contents.withLock { contents -> Bool? in
                if contents.machine.isCommitted { return true }
                if contents.isClosing { return false }
                contents.commitWaiters.append(continuation)
                return nil
            }
            if let answer { continuation.resume(returning: answer) } else { commitBell.ring() }
        }
        if isStored || !contents.withLock({ $0.isClosing }) { return isStored }
        // The last thing a subscription does is to commit; who is cancelled does not wait for it.
        _ = try? await ended.value()
        return contents.withLock { $0.machine.isCommitted }
    }
}
