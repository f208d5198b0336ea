// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Logging

extension TransactionCoordinator {
    /// Stores a state; on disk on return.
    ///
    /// With `admits`, its partitions take batches of the transaction before anybody sees the state.
    func store(_ id: String, _ state: TransactionState, admits: Bool = false) async throws {
        do {
            try await log.storeTransaction(id, state.encoded())
        } catch {
            throw Self.unavailable(error)
        }
        if admits {
            log.transactionGate.admit(
                producerID: state.producer.id,
                epoch: state.producer.epoch,
                to: state.partitions
            )
        }
        registry.set(id, state)
    }

    /// Stores a decision and carries it out.
    ///
    /// - Throws: `.coordinatorNotAvailable` when nothing is decided; `.concurrentTransactions` when it is, and could not
    ///   be carried out everywhere.
    func decide(_ id: String, _ prepared: TransactionState, from state: TransactionState) async throws {
        // Before the first marker nothing may begin any more.
        log.transactionGate.dismiss(producerID: prepared.producer.id)
        do {
            try await store(id, prepared)
        } catch {
            if state.phase == .ongoing {
                log.transactionGate.admit(
                    producerID: state.producer.id,
                    epoch: state.producer.epoch,
                    to: state.partitions
                )
            }
            throw error
        }
        try await finish(id, prepared)
    }

    /// Writes the markers of a decided transaction, then makes its offsets count and the state complete, in one step.
    ///
    /// - Throws: `.concurrentTransactions` when something could not be written; it is tried again later.
    func finish(_ id: String, _ state: TransactionState) async throws {
        let isWritten = await withTaskGroup(of: Bool.self) { group in
            for partition in state.partitions {
                group.addTask { await self.writeMarker(partition, of: id, state) }
            }
            return await group.reduce(true) { $0 && $1 }
        }
        guard isWritten else { throw TransactionState.finishing }
        let completed = state.completed(at: settings.now())
        do {
            try await log.storeTransaction(
                id,
                completed.encoded(),
                committing: state.phase == .prepareCommit ? state.offsets : [:]
            )
        } catch {
            logger.error(
                "a transaction's end cannot be stored",
                metadata: ["transaction": "\(id)", "error": "\(error)"]
            )
            throw TransactionState.finishing
        }
        registry.set(id, completed)
    }

    /// Whether the partition needs no marker any more.
    private func writeMarker(_ partition: TopicPartition, of id: String, _ state: TransactionState) async -> Bool {
        do {
            _ = try await log.writeMarker(
                partition,
                producerID: state.producer.id,
                epoch: state.markerEpoch,
                coordinatorEpoch: Self.epoch,
                commit: state.phase == .prepareCommit
            )
            return true
        } catch let error as EventLogError where error.code == .unknownTopic || error.code == .unknownPartition {
            // Deleted meanwhile, and its records with it.
            return true
        } catch let error as EventLogError where error.code == .invalidProducerEpoch {
            logger.error(
                "a partition has seen a newer epoch than the coordinator",
                metadata: ["transaction": "\(id)", "partition": "\(partition)", "error": "\(error)"]
            )
            return true
        } catch {
            logger.error(
                "a transaction cannot be ended in a partition; it is tried again",
                metadata: ["transaction": "\(id)", "partition": "\(partition)", "error": "\(error)"]
            )
            return false
        }
    }

    // MARK: Recovery

    /// Loads what is stored, finishes what was decided, and aborts what nobody coordinates.
    ///
    /// From then on partitions only take transactional batches of transactions that were begun here. States that cannot
    /// be read are reported in the log and left out; their open transactions are aborted.
    package func recover() async throws {
        for (id, bytes) in log.transactions() {
            guard let state = TransactionState(decoding: bytes) else {
                logger.error("a transaction's state cannot be read", metadata: ["transaction": "\(id)"])
                continue
            }
            registry.set(id, state)
            if state.phase == .ongoing {
                log.transactionGate.admit(
                    producerID: state.producer.id,
                    epoch: state.producer.epoch,
                    to: state.partitions
                )
            }
        }
        log.transactionGate.enforce()
        await tick()
        try await abortHanging()
    }

    /// Ends transactions in partitions that no transactional id knows of: what damage or a restored backup leaves.
    private func abortHanging() async throws {
        var known: [Int64: Set<TopicPartition>] = [:]
        for state in registry.all.values where state.phase == .ongoing || state.phase.isPrepared {
            known[state.producer.id, default: []].formUnion(state.partitions)
        }
        for topic in log.topics() {
            for number in 0..<topic.partitions {
                let partition = TopicPartition(topic: topic.name, partition: number)
                for producer in try log.producers(partition) where producer.transactionStart != nil {
                    guard known[producer.producerID]?.contains(partition) != true else { continue }
                    logger.warning(
                        "aborting a transaction that no transactional id knows of",
                        metadata: ["partition": "\(partition)", "producer": "\(producer.producerID)"]
                    )
                    await abort(partition, producer)
                }
            }
        }
    }

    private func abort(_ partition: TopicPartition, _ producer: ProducerDescription) async {
        do {
            _ = try await log.writeMarker(
                partition,
                producerID: producer.producerID,
                epoch: producer.epoch,
                coordinatorEpoch: max(Self.epoch, producer.coordinatorEpoch),
                commit: false
            )
        } catch {
            logger.error(
                "the transaction stays open until the engine is started again",
                metadata: ["partition": "\(partition)", "error": "\(error)"]
            )
        }
    }

    // MARK: Time

    /// Calls ``tick()`` at intervals until the task is cancelled.
    package func run() async {
        while (try? await Task.sleep(for: settings.interval)) != nil { await tick() }
    }

    /// Finishes what is decided, aborts what is overdue and forgets what was not used for long.
    package func tick() async {
        let now = settings.now()
        for (id, seen) in registry.all {
            let isExpired = isExpired(seen, at: now)
            guard seen.phase.isPrepared || seen.isOverdue(at: now) || isExpired else { continue }
            do {
                try await registry.exclusively(id) {
                    // It may have changed while others worked on it.
                    guard let state = registry[id] else { return }
                    if state.phase.isPrepared {
                        try await finish(id, state)
                    } else if state.isOverdue(at: now) {
                        logger.notice("a transaction is overdue and aborted", metadata: ["transaction": "\(id)"])
                        try await decide(id, state.fenced(at: now), from: state)
                    } else if isExpired, self.isExpired(state, at: now) {
                        try await log.storeTransaction(id, nil)
                        registry.set(id, nil)
                    }
                }
            } catch {
                logger.warning(
                    "a transaction is looked at again later",
                    metadata: ["transaction": "\(id)", "error": "\(error)"]
                )
            }
        }
    }

    private func isExpired(_ state: TransactionState, at now: Int64) -> Bool {
        switch state.phase {
        case .empty, .completeCommit, .completeAbort: now - state.changedAt > settings.expirationMilliseconds
        case .ongoing, .prepareCommit, .prepareAbort, .prepareEpochFence: false
        }
    }
}
