// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Logging
import MartletCore

/// Turns the records of a topic into rows of a keyed table, in rounds of one DuckDB transaction each.
///
/// The transaction holds rows, deletions, rejects and offsets, so a crash between two rounds loses and doubles nothing: the next start
/// reads from DuckDB where to go on.
final class KeyedSink: Sendable {
    /// Between two rounds while little comes, so that a slow trickle of records does not cost a transaction each.
    private static let roundInterval = Duration.milliseconds(50)
    /// With this much waiting a round begins at once.
    private static let roundBytes = 256 << 10

    let table: KeyedTable
    private let services: SinkServices
    private let store: KeyedStore
    private let mailbox = SinkMailbox()
    private let finished = OneTimeGate()
    private let account: SinkMemory.Account
    private let logger: Logger

    /// What the loop knows.
    private struct Progress: ~Copyable {
        var stage: KeyedStage?
        var fed: Set<Int32> = []
        var backlog: [(Fetched, OneTimeGate)] = []
        /// Of the round that failed last; comes before the backlog.
        var work: [Fetched] = []
        /// Who waits until the table has everything up to some offsets.
        var asked: [(ends: [Int32: Int64], answer: CheckedContinuation<TableCommit?, any Error>)] = []
        var failures = 0
        var mayRunAt = ContinuousClock.now
        var lastRound: ContinuousClock.Instant?
        var lastNote: ContinuousClock.Instant?
        var hasTimer = false

        var backlogBytes: Int { backlog.reduce(0) { $0 + $1.0.bytes.count } }
    }

    init(table: KeyedTable, services: SinkServices) {
        self.table = table
        self.services = services
        account = SinkMemory.Account(services.memory) { _ in }
        store = KeyedStore(table: table, lake: services.space.lake)
        var logger = services.logger
        logger[metadataKey: "table"] = "\(table.name)"
        self.logger = logger
    }

    /// Runs until cancelled or stopped; what was not put into the table then is read again at the next start.
    func run() async {
        services.memory.open(account)
        account.note(.apart)
        defer {
            services.memory.close(account)
            finished.open()
        }
        var progress = Progress()
        await withDiscardingTaskGroup { group in
            group.addTask { await self.lookRegularly() }
            mailbox.post(.look)
            while let messages = await mailbox.take() {
                await handle(messages, &progress, &group)
            }
            for (_, taken) in progress.backlog { taken.open() }
            for (_, answer) in progress.asked {
                answer.resume(throwing: ServiceError(.unavailable, "the table's sink is stopping"))
            }
            group.cancelAll()
        }
    }

    /// Stops taking records.
    func stop() { mailbox.close() }

    /// Stops taking records, and returns when nothing runs any more.
    func stopped() async {
        mailbox.close()
        await finished.pass()
    }

    /// Returns when everything the topic has now is in the table.
    func commit() async throws {
        _ = try await withCheckedThrowingContinuation { (answer: CheckedContinuation<TableCommit?, any Error>) in
            if !mailbox.post(.commit(answer)) {
                answer.resume(throwing: ServiceError(.unavailable, "the table's sink is not running"))
            }
        }
    }

    // MARK: Messages

    private func handle(
        _ messages: [SinkMessage],
        _ progress: inout Progress,
        _ group: inout DiscardingTaskGroup
    ) async {
        for message in messages {
            switch message {
            case .fetched(let fetched, let taken): progress.backlog.append((fetched, taken))
            case .due: progress.hasTimer = false
            case .commit(let answer): await ask(answer, &progress)
            case .look, .committed, .room: break
            }
        }
        guard ContinuousClock.now >= progress.mayRunAt else { return }
        do {
            if progress.stage == nil { try await open(&progress) }
            await feedNewPartitions(&progress, &group)
            try await round(&progress, &group)
            progress.failures = 0
            table.with { state in
                state.status.phase = .running
                state.status.reason = nil
            }
        } catch {
            fail(error, &progress, &group)
        }
        answer(&progress)
    }

    private func fail(_ error: any Error, _ progress: inout Progress, _ group: inout DiscardingTaskGroup) {
        // What DuckDB has counts: a failing disk can report an error for what it has stored all the same.
        progress.stage = nil
        progress.failures += 1
        let delay = Duration.seconds(min(30, 1 << min(progress.failures, 5)))
        progress.mayRunAt = .now + delay
        table.with { state in
            state.status.phase = .failing
            state.status.reason = "\(error)"
        }
        logger.error("records cannot be put into a table", metadata: ["error": "\(error)", "again in": "\(delay)"])
        for (_, answer) in progress.asked { answer.resume(throwing: error) }
        progress.asked = []
        wake(after: delay, &group)
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

    // MARK: Questions

    private func ask(_ answer: CheckedContinuation<TableCommit?, any Error>, _ progress: inout Progress) async {
        do {
            progress.asked.append((try await ends(), answer))
        } catch {
            answer.resume(throwing: error)
        }
    }

    private func ends() async throws -> [Int32: Int64] {
        let topic = table.spec.topic
        guard let description = try await services.log.topic(topic) else { throw ServiceError.notFound(.topics, topic) }
        var ends: [Int32: Int64] = [:]
        for partition in 0..<description.partitions {
            ends[partition] = try services.log.bounds(TopicPartition(topic: topic, partition: partition)).stable
        }
        return ends
    }

    private func answer(_ progress: inout Progress) {
        guard !progress.asked.isEmpty else { return }
        let (isLoaded, offsets) = table.with { ($0.isLoaded, $0.offsets) }
        guard isLoaded else { return }
        progress.asked.removeAll { ends, answer in
            guard ends.allSatisfy({ $0.value <= offsets[$0.key] ?? 0 }) else { return false }
            answer.resume(returning: nil)
            return true
        }
    }

    // MARK: Reading

    private func open(_ progress: inout Progress) async throws {
        try await store.open(starts: try await KeyedTables.starts(table.spec, services.log))
        progress.stage = try KeyedStage(table, space: services.space, charge: services.memory.charge(account))
    }

    private func feedNewPartitions(_ progress: inout Progress, _ group: inout DiscardingTaskGroup) async {
        let topic = table.spec.topic
        guard let description = try? await services.log.topic(topic) else { return }
        for number in 0..<description.partitions where !progress.fed.contains(number) {
            let partition = TopicPartition(topic: topic, partition: number)
            guard let bounds = try? services.log.bounds(partition) else { continue }
            // A partition that came later is taken from its start.
            let start = table.with { state in
                let start = state.offsets[number] ?? bounds.start
                state.offsets[number] = start
                return start
            }
            progress.fed.insert(number)
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

    private func round(_ progress: inout Progress, _ group: inout DiscardingTaskGroup) async throws {
        guard let stage = progress.stage, !progress.backlog.isEmpty || !progress.work.isEmpty else {
            return await note(&progress)
        }
        if progress.work.isEmpty, progress.asked.isEmpty, progress.backlogBytes < Self.roundBytes,
            let last = progress.lastRound, ContinuousClock.now - last < Self.roundInterval
        {
            if !progress.hasTimer { wake(after: Self.roundInterval - (.now - last), &group) }
            progress.hasTimer = true
            return
        }
        let backlog = progress.backlog
        progress.backlog = []
        progress.work += backlog.map(\.0)
        // The next records are fetched while these are put into the table.
        for (_, taken) in backlog { taken.open() }
        progress.lastRound = .now
        let round = try await stage.fill(progress.work, from: table.with { $0.offsets })
        if !round.offsets.isEmpty { try await store.apply(round) }
        progress.work = []
        if progress.lastNote.map({ ContinuousClock.now - $0 > .seconds(1) }) ?? true { await note(&progress) }
        // Whoever waits is answered by the message after the last one's; what was fetched meanwhile is there already.
        mailbox.post(.look)
    }

    /// Shows in the table's consumer group how far it is; DuckDB stays the one that counts.
    private func note(_ progress: inout Progress) async {
        progress.lastNote = .now
        let topic = table.spec.topic
        let time = Timestamp.nowMicroseconds() / 1000
        let (now, noted) = table.with { ($0.offsets, $0.notedOffsets) }
        guard now != noted, table.with({ $0.isLoaded }) else { return }
        let offsets = now.map {
            (TopicPartition(topic: topic, partition: $0.key), CommittedOffset(offset: $0.value, committedAt: time))
        }
        do {
            try await services.log.commit(
                group: TableCommitter.group(of: table.name),
                offsets: Dictionary(uniqueKeysWithValues: offsets)
            )
            table.with { $0.notedOffsets = now }
        } catch {
            logger.warning("a table's consumer group cannot be updated", metadata: ["error": "\(error)"])
        }
    }
}
