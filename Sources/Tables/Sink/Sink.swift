// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Logging
import MartletCore
import Synchronization

/// What all sinks work with.
struct SinkServices: Sendable {
    let log: any EventLog
    let catalog: Catalog
    let space: FreshSpace
    let telemetry: any TelemetrySink
    let memory: SinkMemory
    let logger: Logger
}

/// Turns the records of a topic into rows of an append table.
///
/// Rows can be seen as soon as they were read, and are committed to files by size or age. What a crash takes from memory is read
/// from the topic again: the catalog says from where, in the same transaction that names the files.
final class Sink: Sendable {
    /// Rounds of less than this are put off, so that a slow trickle of records is taken in batches.
    private static let smallRoundBytes = 256 << 10
    /// A round is put off by so many times what the last one cost, up to a limit: a trickle takes a fifth of a processor at most.
    private static let pauseFactor = 5
    private static let pauseMax = Duration.milliseconds(15)

    let table: AppendTable
    private let services: SinkServices
    private let mailbox = SinkMailbox()
    private let finished = OneTimeGate()
    private let pool = BatchPool()
    private let account: SinkMemory.Account
    private let board = Mutex<[Int32: Int64]>([:])
    private let logger: Logger

    init(table: AppendTable, services: SinkServices) {
        self.table = table
        self.services = services
        account = SinkMemory.Account(services.memory) { [mailbox, pool] notice in
            switch notice {
            case .room: mailbox.post(.room)
            case .due: mailbox.post(.due)
            case .letGo: pool.empty()
            }
        }
        var logger = services.logger
        logger[metadataKey: "table"] = "\(table.name)"
        self.logger = logger
    }

    /// Runs until cancelled; rows that are in no file then are read again at the next start.
    func run() async {
        services.memory.open(account)
        defer {
            services.memory.close(account)
            pool.rest()
            finished.open()
        }
        var progress = SinkProgress(offsets: table.read { $0.offsets })
        await withDiscardingTaskGroup { group in
            await feedNewPartitions(&progress, &group)
            group.addTask { await self.lookRegularly() }
            table.with { $0.status.phase = .running }
            while let messages = await mailbox.take() {
                await handle(messages, &progress, &group)
            }
            progress.refuseAll()
            group.cancelAll()
        }
    }

    /// The offset to take next, by partition.
    var taken: [Int32: Int64] { board.withLock { $0 } }

    /// Stops taking records.
    func stop() { mailbox.close() }

    /// Stops taking records, and returns when nothing runs any more.
    func stopped() async {
        mailbox.close()
        await finished.pass()
    }

    /// Commits everything taken so far; nil where there is nothing.
    func commit() async throws -> TableCommit? {
        try await withCheckedThrowingContinuation { answer in
            if !mailbox.post(.commit(answer)) {
                answer.resume(throwing: ServiceError(.unavailable, "the table's sink is not running"))
            }
        }
    }

    // MARK: Messages

    private func handle(
        _ messages: [SinkMessage],
        _ progress: inout SinkProgress,
        _ group: inout DiscardingTaskGroup
    ) async {
        var isDue = false
        var isWoken = false
        for message in messages {
            switch message {
            case .fetched(let fetched, let taken): progress.backlog.append((fetched, taken))
            case .due: isDue = true
            case .commit(let answer): progress.asked.append(answer)
            case .committed(let result): settle(result, &progress, &group)
            case .look: await feedNewPartitions(&progress, &group)
            case .room: isWoken = true
            }
        }
        if isDue { progress.isDue = true }
        await ingest(&progress, &group)
        if isWoken { account.noteWoken() }
        startCommit(&progress, &group)
    }

    private func settle(
        _ result: Result<TableCommit?, any Error>,
        _ progress: inout SinkProgress,
        _ group: inout DiscardingTaskGroup
    ) {
        progress.isCommitting = false
        let answers = progress.answering
        progress.answering = []
        switch result {
        case .success:
            progress.noteCommitted()
            for rows in progress.committing { rows.settle() }
            progress.committing = []
            account.note(.idle)
            // A sink that has nothing to do keeps nothing.
            if progress.current.isEmpty, progress.backlog.isEmpty { pool.rest() }
            progress.failures = 0
            table.with { $0.status.phase = .running }
            table.with { $0.status.reason = nil }
        case .failure(let error):
            // The rows stay where they are and go into the next attempt.
            progress.failedRanges()
            progress.current = progress.committing + progress.current
            progress.committing = []
            progress.failures += 1
            account.note(.failing)
            let delay = Duration.seconds(min(30, 1 << min(progress.failures, 5)))
            table.with { state in
                state.status.phase = .failing
                state.status.reason = "\(error)"
            }
            logger.error("a table cannot be committed", metadata: ["error": "\(error)", "again in": "\(delay)"])
            progress.mayCommitAt = .now + delay
            wake(after: delay, &group)
        }
        for answer in answers { answer.resume(with: result) }
    }

    private func wake(after delay: Duration, _ group: inout DiscardingTaskGroup) {
        let mailbox = mailbox
        group.addTask {
            guard (try? await Task.sleep(for: delay)) != nil else { return }
            mailbox.post(.due)
        }
    }

    private func lookRegularly() async {
        while (try? await Task.sleep(for: .seconds(5))) != nil { mailbox.post(.look) }
    }

    // MARK: Reading

    private func feedNewPartitions(_ progress: inout SinkProgress, _ group: inout DiscardingTaskGroup) async {
        let topic = table.spec.topic
        guard let description = try? await services.log.topic(topic) else { return }
        for number in 0..<description.partitions where !progress.fed.contains(number) {
            let partition = TopicPartition(topic: topic, partition: number)
            guard let bounds = try? services.log.bounds(partition) else { continue }
            // A partition the catalog does not know is taken from its start: where a table begins later, its first commit says so.
            let start = progress.taken[number] ?? bounds.start
            progress.taken[number] = start
            progress.committed[number] = progress.committed[number] ?? start
            progress.fed.insert(number)
            board.withLock { $0[number] = start }
            let feed = PartitionFeed(
                services,
                table: table.name,
                partition: partition,
                of: description.partitions,
                account: account,
                mailbox: mailbox
            )
            group.addTask { await feed.run(from: start) }
        }
    }

    private func ingest(_ progress: inout SinkProgress, _ group: inout DiscardingTaskGroup) async {
        guard !progress.backlog.isEmpty, hasRoom(progress) else { return }
        let pause = min(Self.pauseMax, progress.roundCost * Self.pauseFactor)
        if let last = progress.lastRound, ContinuousClock.now - last < pause, progress.asked.isEmpty,
            progress.backlogBytes < Self.smallRoundBytes
        {
            try? await Task.sleep(until: last + pause, clock: .continuous)  // Cancelled: the loop ends.
        }
        let started = ContinuousClock.now
        defer {
            progress.lastRound = .now
            progress.roundCost = .now - started
        }
        let work = progress.takeBacklog()
        let intake = RecordIntake(table: table, space: services.space, pool: pool, account: account)
        do {
            // A round takes part of what was fetched where that needs much memory.
            var before: [Int32: Int64]
            repeat {
                before = progress.taken
                try await intake.take(work.map(\.0), &progress)
            } while progress.taken != before && hasRoom(progress) && work.contains { !isTaken($0.0, progress) }
            board.withLock { $0 = progress.taken }
            if progress.hasFresh, !progress.hasTimer {
                progress.hasTimer = true
                wake(after: .seconds(table.spec.commitSeconds), &group)
            }
            release(work, &progress)
        } catch {
            logger.error("records cannot be turned into rows", metadata: ["error": "\(error)"])
            table.with { state in
                state.status.phase = .failing
                state.status.reason = "\(error)"
            }
            release(work, &progress)
            // What is in memory may have to be written first.
            progress.isDue = true
            wake(after: .seconds(1), &group)
        }
    }

    /// Lets go of what was taken, and keeps the rest for the next round.
    private func release(_ work: [(Fetched, OneTimeGate)], _ progress: inout SinkProgress) {
        for (fetched, taken) in work {
            if isTaken(fetched, progress) { taken.open() } else { progress.backlog.append((fetched, taken)) }
        }
    }

    private func isTaken(_ fetched: Fetched, _ progress: borrowing SinkProgress) -> Bool {
        fetched.next <= progress.taken[fetched.partition] ?? 0
    }

    /// Whether more rows may wait for a commit.
    ///
    /// While one commit is under way the next is filled by half: what comes then waits in the topic, also when no commit succeeds.
    private func hasRoom(_ progress: borrowing SinkProgress) -> Bool {
        let share = progress.isCommitting ? 2 : 1
        return progress.currentBytes < Int(table.spec.commitBytes) / share
            && progress.currentMemory < services.memory.commitMax / share
    }

    // MARK: Committing

    private func startCommit(_ progress: inout SinkProgress, _ group: inout DiscardingTaskGroup) {
        guard !progress.isCommitting, ContinuousClock.now >= progress.mayCommitAt else { return }
        let isFull =
            progress.currentBytes >= Int(table.spec.commitBytes)
            || progress.currentMemory >= services.memory.commitMax
        guard isFull || progress.isDue || !progress.asked.isEmpty else { return }
        progress.isDue = false
        progress.hasTimer = false
        guard progress.hasFresh else {
            account.noteNothingToCommit()
            for answer in progress.asked { answer.resume(returning: nil) }
            progress.asked = []
            return
        }
        progress.answering = progress.asked
        progress.asked = []
        progress.committing = progress.current
        progress.current = []
        progress.isCommitting = true
        account.note(.committing)
        let ranges = progress.takeRanges()
        let rows = progress.committing
        let committer = TableCommitter(table: table, services: services)
        let mailbox = mailbox
        group.addTask {
            let result: Result<TableCommit?, any Error>
            do {
                result = .success(try await committer.commit(rows, ranges: ranges))
            } catch {
                result = .failure(error)
            }
            mailbox.post(.committed(result))
        }
    }
}
