// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import Logging

/// Gives out producer ids and carries transactions over partitions and groups, all or nothing.
///
/// Every answer is on disk: each step stores the new ``TransactionState`` first. Once a decision is stored it is carried
/// out, by ``recover()`` after a crash and by ``run()`` where a partition could not take its marker. Requests of one
/// transactional id are dealt with one after the other.
package final class TransactionCoordinator: Sendable {
    /// The coordinator's epoch in markers: there is one coordinator.
    static let epoch: Int32 = 0

    let log: LocalLog
    let settings: TransactionSettings
    let logger: Logger
    let registry: TransactionRegistry

    /// Creates a coordinator over a log; call ``recover()`` before anything else.
    package init(log: LocalLog, settings: TransactionSettings = TransactionSettings(), logger: Logger) {
        self.log = log
        self.settings = settings
        self.logger = logger
        registry = TransactionRegistry(waitingMax: settings.waitingMax)
    }

    // MARK: Producers

    /// Gives a producer its id and epoch (Kafka's InitProducerId).
    ///
    /// Without a transactional id each call gives a new producer id. With one, whoever had it before is shut out and its
    /// open transaction aborted; with `expected`, only that producer may have it again, with a raised epoch.
    /// - Throws: `.invalidRequest`, `.invalidTransactionTimeout`, `.producerFenced`, `.concurrentTransactions`,
    ///   `.coordinatorNotAvailable`.
    package func initProducerID(
        transactionalID id: String?,
        timeoutMilliseconds: Int32,
        expected: ProducerIdentity? = nil
    ) async throws -> ProducerIdentity {
        guard let id else { return ProducerIdentity(id: try await newProducerID(), epoch: 0) }
        try check(id)
        guard timeoutMilliseconds > 0, timeoutMilliseconds <= settings.timeoutMillisecondsMax else {
            throw TransactionError(
                .invalidTransactionTimeout,
                "a timeout of \(timeoutMilliseconds) ms is outside 1...\(settings.timeoutMillisecondsMax)"
            )
        }
        return try await registry.exclusively(id) {
            var newID: Int64?
            // At most: finish what is decided, abort what is open, get an id.
            for _ in 0..<4 {
                guard let state = registry[id] else {
                    return try await create(id, timeoutMilliseconds)
                }
                if state.phase.isPrepared { try await finish(id, state) }
                let current = registry[id] ?? state
                switch try current.beginning(
                    expecting: expected,
                    timeoutMilliseconds: timeoutMilliseconds,
                    newID: newID,
                    at: settings.now()
                ) {
                case .unchanged: return current.producer
                case .store(let next):
                    try await store(id, next)
                    return next.producer
                case .needsProducerID: newID = try await newProducerID()
                case .abort(let fenced): try await decide(id, fenced, from: current)
                }
            }
            throw TransactionState.finishing
        }
    }

    private func create(_ id: String, _ timeoutMilliseconds: Int32) async throws -> ProducerIdentity {
        guard registry.count < settings.transactionalIDsMax else {
            throw TransactionError(
                .coordinatorNotAvailable,
                "there are \(settings.transactionalIDsMax) transactional ids; those not used for long are forgotten"
            )
        }
        let state = TransactionState(
            producer: ProducerIdentity(id: try await newProducerID(), epoch: 0),
            timeoutMilliseconds: timeoutMilliseconds,
            at: settings.now()
        )
        try await store(id, state)
        return state.producer
    }

    private func newProducerID() async throws -> Int64 {
        do {
            return try await log.newProducerID()
        } catch {
            throw Self.unavailable(error)
        }
    }

    // MARK: A transaction grows

    /// Adds partitions to the producer's transaction, which begins where none is open (AddPartitionsToTxn).
    ///
    /// Batches of the transaction are accepted by these partitions from then on.
    /// - Throws: `.invalidRequest`, `.invalidProducerIDMapping`, `.producerFenced`, `.concurrentTransactions`,
    ///   `.coordinatorNotAvailable`.
    package func addPartitions(
        transactionalID id: String,
        producer: ProducerIdentity,
        partitions: [TopicPartition]
    ) async throws {
        try await change(id, producer) { state, now throws(TransactionError) in
            try state.adding(partitions, by: producer, at: now)
        }
    }

    /// Lets the producer's transaction commit offsets of a group (AddOffsetsToTxn).
    ///
    /// Whether the group has a name that groups may have is the group coordinator's to say first.
    /// - Throws: as ``addPartitions(transactionalID:producer:partitions:)``; `.invalidRequest` where the transaction has too many
    ///   groups, or the name cannot be stored.
    package func addOffsets(transactionalID id: String, producer: ProducerIdentity, group: String) async throws {
        guard group.utf8.count <= TransactionState.nameBytesMax else {
            throw TransactionError(
                .invalidRequest,
                "a group's name has up to \(TransactionState.nameBytesMax) bytes, not \(group.utf8.count)"
            )
        }
        try await change(id, producer) { state, now throws(TransactionError) in
            let next = try state.adding(group: group, by: producer, at: now)
            if let next, next.groups.count > settings.groupsMax {
                throw TransactionError(
                    .invalidRequest,
                    "a transaction commits offsets of up to \(settings.groupsMax) groups: end it and begin another"
                )
            }
            return next
        }
    }

    /// Keeps offsets of a group that count when the transaction is committed (TxnOffsetCommit); the group must have been
    /// added.
    ///
    /// Whether the caller may commit for the group is the group coordinator's to say first.
    /// - Throws: as ``addPartitions(transactionalID:producer:partitions:)``, and `.invalidTxnState`.
    package func commitOffsets(
        transactionalID id: String,
        producer: ProducerIdentity,
        group: String,
        offsets: [TopicPartition: CommittedOffset]
    ) async throws {
        try await change(id, producer) { state, now throws(TransactionError) in
            try state.adding(offsets, of: group, by: producer, at: now)
        }
    }

    private func change(
        _ id: String,
        _ producer: ProducerIdentity,
        _ step: (TransactionState, Int64) throws(TransactionError) -> TransactionState?
    ) async throws {
        try check(id)
        try await registry.exclusively(id) {
            let state = try await settled(id, producer)
            guard let next = try step(state, settings.now()) else { return }
            try checkBytes(next, from: state)
            try await store(id, next, admits: true)
        }
    }

    /// Returns the state of an id, finishing first what is decided.
    private func settled(_ id: String, _ producer: ProducerIdentity) async throws -> TransactionState {
        guard let state = registry[id] else {
            throw TransactionError(.invalidProducerIDMapping, "transactional id \(id) has no producer; begin with one")
        }
        // With the last epoch used up the client goes on under the next id.
        if state.phase.isPrepared, state.producer.id == producer.id || state.next?.id == producer.id {
            try await finish(id, state)
        }
        return registry[id] ?? state
    }

    // MARK: A transaction ends

    /// Commits or aborts the producer's transaction and returns who may go on (EndTxn).
    ///
    /// On return the decision is on disk, and so are all markers and offsets, unless a partition cannot be written now: then the
    /// next request of the id gets `.concurrentTransactions` until it can. Asking again for the same is answered again.
    /// With `raisesEpoch` (version 5 on) the answer has a raised epoch, or another producer id; else it is the caller.
    /// - Throws: `.invalidProducerIDMapping`, `.producerFenced`, `.invalidTxnState`, `.concurrentTransactions`,
    ///   `.coordinatorNotAvailable` (nothing is decided).
    package func end(
        transactionalID id: String,
        producer: ProducerIdentity,
        commit: Bool,
        raisesEpoch: Bool = false
    ) async throws -> ProducerIdentity {
        try check(id)
        return try await registry.exclusively(id) {
            let state = try await settled(id, producer)
            var newID: Int64?
            while true {
                switch try state.ending(
                    commit: commit,
                    by: producer,
                    raisesEpoch: raisesEpoch,
                    newID: newID,
                    at: settings.now()
                ) {
                case .unchanged: return state.producer
                case .needsProducerID: newID = try await newProducerID()
                case .prepare(let prepared):
                    do {
                        try await decide(id, prepared, from: state)
                    } catch let error as TransactionError where error.code == .concurrentTransactions {
                        logger.warning("a decided transaction is finished later", metadata: ["transaction": "\(id)"])
                    }
                    return prepared.next ?? prepared.producer
                }
            }
        }
    }

    // MARK: Looking

    /// Whether the producer's open transaction has these partitions, so that batches need not wait for
    /// ``addPartitions(transactionalID:producer:partitions:)`` (Produce from version 12 on adds them by itself).
    package func hasPartitions(
        transactionalID id: String,
        producer: ProducerIdentity,
        partitions: some Sequence<TopicPartition>
    ) -> Bool {
        guard let state = registry[id], state.phase == .ongoing, state.producer == producer else { return false }
        return partitions.allSatisfy(state.partitions.contains)
    }

    /// Returns the partitions of a group that a transaction which is not finished has an offset for: readers that want stable
    /// offsets wait (OffsetFetch with `require_stable`).
    package func pendingOffsets(of group: String) -> Set<TopicPartition> {
        registry.pendingOffsets(of: group)
    }

    /// The groups for which a transaction that is not finished has offsets.
    package var pendingGroups: Set<String> { registry.pendingGroups }

    /// Describes a transactional id (DescribeTransactions).
    ///
    /// - Throws: `.transactionalIDNotFound`.
    package func describe(_ id: String) throws -> TransactionState {
        guard let state = registry[id] else {
            throw TransactionError(.transactionalIDNotFound, "there is no transactional id \(id)")
        }
        return state
    }

    /// Returns the transactional ids with their states, ordered by id (ListTransactions).
    ///
    /// Empty lists leave nothing out; `runningMillisecondsMin` leaves only transactions open for longer.
    package func list(
        phases: Set<TransactionState.Phase> = [],
        producerIDs: Set<Int64> = [],
        runningMillisecondsMin: Int64? = nil
    ) -> [(id: String, state: TransactionState)] {
        let now = settings.now()
        return registry.all.filter { _, state in
            if !phases.isEmpty, !phases.contains(state.phase) { return false }
            if !producerIDs.isEmpty, !producerIDs.contains(state.producer.id) { return false }
            guard let least = runningMillisecondsMin, least >= 0 else { return true }
            return state.startedAt.map { now - $0 > least } ?? false
        }.map { (id: $0.key, state: $0.value) }.sorted { $0.id < $1.id }
    }

    /// Refuses a transaction that grows where all of them take as much memory as they may; when others have ended there is some again.
    private func checkBytes(_ next: TransactionState, from state: TransactionState) throws(TransactionError) {
        let growth = next.byteCount - state.byteCount
        guard growth > 0, registry.byteCount + growth > settings.statesBytesMax else { return }
        throw TransactionError(
            .coordinatorNotAvailable,
            "the open transactions take the \(settings.statesBytesMax >> 20) MiB that there are for them; try again when some have ended"
        )
    }

    private func check(_ id: String) throws(TransactionError) {
        guard (1...settings.transactionalIDBytesMax).contains(id.utf8.count) else {
            throw TransactionError(
                .invalidRequest,
                "a transactional id has 1 to \(settings.transactionalIDBytesMax) bytes, not \(id.utf8.count)"
            )
        }
    }

    static func unavailable(_ error: any Error) -> TransactionError {
        TransactionError(.coordinatorNotAvailable, "the transaction's state cannot be stored: \(error)")
    }
}
