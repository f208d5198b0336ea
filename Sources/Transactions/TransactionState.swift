// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog

/// What a transactional id has come to.
///
/// A value without I/O or clock: each step returns the state to be stored, or says why there is none. Stored form:
/// docs/formats/transaction-state.md.
package struct TransactionState: Sendable, Equatable {
    /// How far the transaction is.
    package enum Phase: UInt8, Sendable, CaseIterable {
        /// None has begun since the producer was given its epoch.
        case empty = 0
        /// Partitions or groups were added.
        case ongoing = 1
        /// It will be committed, whatever happens; markers are being written.
        case prepareCommit = 2
        /// It will be aborted, whatever happens; markers are being written.
        case prepareAbort = 3
        /// It was committed.
        case completeCommit = 4
        /// It was aborted.
        case completeAbort = 5
        /// As `prepareAbort`, by somebody else than its producer, who is shut out by a higher epoch.
        case prepareEpochFence = 6

        /// The name as Kafka's tools show it.
        package var name: String {
            switch self {
            case .empty: "Empty"
            case .ongoing: "Ongoing"
            case .prepareCommit: "PrepareCommit"
            case .prepareAbort: "PrepareAbort"
            case .completeCommit: "CompleteCommit"
            case .completeAbort: "CompleteAbort"
            case .prepareEpochFence: "PrepareEpochFence"
            }
        }

        /// Whether the outcome is decided but not everywhere written.
        var isPrepared: Bool { self == .prepareCommit || self == .prepareAbort || self == .prepareEpochFence }
    }

    /// How far the transaction is.
    package internal(set) var phase = Phase.empty
    /// The producer that may use the transactional id.
    package internal(set) var producer: ProducerIdentity
    /// The producer before, where its last request may be sent again.
    package internal(set) var previous: ProducerIdentity?
    /// The producer when the decided transaction is finished, where that changes it.
    package internal(set) var next: ProducerIdentity?
    /// A transaction open for longer is aborted.
    package internal(set) var timeoutMilliseconds: Int32
    /// The partitions with records of the transaction.
    package internal(set) var partitions: Set<TopicPartition> = []
    /// The groups whose offsets it may commit.
    package internal(set) var groups: Set<String> = []
    /// The offsets that count once it is committed.
    package internal(set) var offsets: [String: [TopicPartition: CommittedOffset]] = [:]
    /// When the transaction began, in milliseconds since 1970; `nil` when none is open.
    package internal(set) var startedAt: Int64?
    /// When the state was last changed, in milliseconds since 1970.
    package internal(set) var changedAt: Int64

    /// Makes the state of a transactional id that is used for the first time.
    package init(producer: ProducerIdentity, timeoutMilliseconds: Int32, at now: Int64) {
        self.producer = producer
        self.timeoutMilliseconds = timeoutMilliseconds
        changedAt = now
    }

    /// The epoch markers are written with: where the producer's is raised, the raised one, so that partitions refuse
    /// whatever of the transaction arrives late.
    package var markerEpoch: Int16 { next == nil ? producer.epoch : producer.epoch + 1 }

    /// About what it takes in memory.
    package var byteCount: Int {
        var bytes = 256 + partitions.reduce(0) { $0 + 64 + $1.topic.utf8.count }
        for group in groups { bytes += 64 + group.utf8.count }
        for (_, committed) in offsets { bytes += committed.reduce(0) { $0 + $1.value.byteCount(of: $1.key) } }
        return bytes
    }

    // MARK: A producer begins

    /// What to do for a producer that wants the transactional id.
    package enum Beginning: Equatable {
        /// Nothing: the request was answered with this before.
        case unchanged
        /// The state to store, whose producer is the answer.
        case store(TransactionState)
        /// The epochs of the producer id are used up.
        case needsProducerID
        /// Its transaction has to be aborted first; to be stored, finished, and asked again.
        case abort(TransactionState)
    }

    /// Gives the transactional id to a producer: with `expected`, to the same one with a raised epoch; without, to a new one,
    /// who shuts out the one before.
    package func beginning(
        expecting expected: ProducerIdentity?,
        timeoutMilliseconds: Int32,
        newID: Int64? = nil,
        at now: Int64
    ) throws(TransactionError) -> Beginning {
        if let expected, expected != producer, expected != previous { throw fenced(expected) }
        if phase.isPrepared { throw Self.finishing }
        if phase == .ongoing { return .abort(fenced(at: now)) }
        if let expected, expected == previous, expected != producer { return .unchanged }
        var state = self
        if producer.isExhausted {
            guard let newID else { return .needsProducerID }
            state.producer = ProducerIdentity(id: newID, epoch: 0)
        } else {
            state.producer.epoch += 1
        }
        // Only who said which epoch it had can ask again.
        state.previous = expected == nil ? nil : producer
        state.phase = .empty
        state.timeoutMilliseconds = timeoutMilliseconds
        state.changedAt = now
        return .store(state)
    }

    // MARK: A transaction grows

    /// Adds partitions; `nil` when all are there already.
    package func adding(
        _ added: some Collection<TopicPartition>,
        by caller: ProducerIdentity,
        at now: Int64
    ) throws(TransactionError) -> TransactionState? {
        try check(caller)
        if phase == .ongoing, added.allSatisfy(partitions.contains) { return nil }
        var state = begun(at: now)
        state.partitions.formUnion(added)
        return state
    }

    /// Adds a group; `nil` when it is there already.
    package func adding(group: String, by caller: ProducerIdentity, at now: Int64) throws(TransactionError)
        -> TransactionState?
    {
        try check(caller)
        if phase == .ongoing, groups.contains(group) { return nil }
        var state = begun(at: now)
        state.groups.insert(group)
        return state
    }

    /// Adds offsets of a group, which count when the transaction is committed.
    package func adding(
        _ committed: [TopicPartition: CommittedOffset],
        of group: String,
        by caller: ProducerIdentity,
        at now: Int64
    ) throws(TransactionError) -> TransactionState {
        try check(caller)
        guard phase == .ongoing, groups.contains(group) else {
            throw TransactionError(.invalidTxnState, "group \(group) was not added to a transaction of \(producer)")
        }
        var state = begun(at: now)
        state.offsets[group, default: [:]].merge(committed) { $1 }
        return state
    }

    private func begun(at now: Int64) -> TransactionState {
        var state = self
        state.changedAt = now
        if phase != .ongoing {
            state.phase = .ongoing
            state.startedAt = now
            state.partitions = []
            state.groups = []
            state.offsets = [:]
            state.previous = nil
        }
        return state
    }

    // MARK: A transaction ends

    /// What to do for a producer that ends its transaction.
    package enum Ending: Equatable {
        /// Nothing: it has ended so already.
        case unchanged
        /// The state to store and to carry out.
        case prepare(TransactionState)
        /// The epochs of the producer id are used up.
        case needsProducerID
    }

    /// Decides the transaction.
    ///
    /// With `raisesEpoch` (version 5 of the protocol's request, KIP-890) the producer goes on with the next epoch, and its
    /// late batches cannot reach into its next transaction.
    package func ending(
        commit: Bool,
        by caller: ProducerIdentity,
        raisesEpoch: Bool,
        newID: Int64? = nil,
        at now: Int64
    ) throws(TransactionError) -> Ending {
        let isRepeated = raisesEpoch && caller == previous && caller != producer
        if !isRepeated { try check(caller, mayBePrepared: true) }
        switch phase {
        case .ongoing: break
        case .prepareCommit, .prepareAbort, .prepareEpochFence:
            if commit == (phase == .prepareCommit) { throw Self.finishing }
            throw opposite(commit)
        case .completeCommit, .completeAbort, .empty:
            if isRepeated || !raisesEpoch {
                guard phase == (commit ? .completeCommit : .completeAbort) else { throw opposite(commit) }
                return .unchanged
            }
            // Aborting nothing still ends what may be on its way.
            guard !commit else { throw opposite(commit) }
        }
        guard !isRepeated else { throw fenced(caller) }
        var state = phase == .ongoing ? self : begun(at: now)
        state.phase = commit ? .prepareCommit : .prepareAbort
        state.changedAt = now
        if raisesEpoch {
            if producer.isExhausted {
                guard let newID else { return .needsProducerID }
                state.next = ProducerIdentity(id: newID, epoch: 0)
            } else {
                state.next = ProducerIdentity(id: producer.id, epoch: producer.epoch + 1)
            }
        }
        return .prepare(state)
    }

    /// The state once all markers are written.
    package func completed(at now: Int64) -> TransactionState {
        precondition(phase.isPrepared, "only a decided transaction can be complete")
        var state = self
        let isFenced = phase == .prepareEpochFence
        state.phase = phase == .prepareCommit ? .completeCommit : .completeAbort
        state.startedAt = nil
        state.partitions = []
        state.groups = []
        state.offsets = [:]
        state.changedAt = now
        if let next {
            // Who was shut out must not be able to ask again as if nothing had happened.
            state.previous = isFenced ? nil : producer
            state.producer = next
            state.next = nil
        }
        return state
    }

    /// Whether the transaction is open for longer than its producer allows.
    package func isOverdue(at now: Int64) -> Bool {
        guard phase == .ongoing, let startedAt else { return false }
        return now - startedAt > Int64(timeoutMilliseconds)
    }

    /// The state that shuts out the producer and aborts its open transaction.
    package func fenced(at now: Int64) -> TransactionState {
        var state = self
        state.phase = .prepareEpochFence
        state.next = ProducerIdentity(id: producer.id, epoch: producer.epoch + 1)
        state.changedAt = now
        return state
    }

    // MARK: Checks

    private func check(_ caller: ProducerIdentity, mayBePrepared: Bool = false) throws(TransactionError) {
        guard caller.id == producer.id else {
            throw TransactionError(
                .invalidProducerIDMapping,
                "the transactional id belongs to \(producer), not to producer \(caller.id)"
            )
        }
        // The last epoch is nobody's: it only ends what the one before left open.
        guard caller.epoch == producer.epoch, caller.epoch < .max, phase != .prepareEpochFence else {
            throw fenced(caller)
        }
        if phase.isPrepared, !mayBePrepared { throw Self.finishing }
    }

    private func fenced(_ caller: ProducerIdentity) -> TransactionError {
        TransactionError(.producerFenced, "\(caller) was shut out; the transactional id has \(next ?? producer)")
    }

    private func opposite(_ commit: Bool) -> TransactionError {
        TransactionError(
            .invalidTxnState,
            "there is nothing to \(commit ? "commit" : "abort"): the transaction is \(phase.name)"
        )
    }

    static var finishing: TransactionError {
        TransactionError(.concurrentTransactions, "the transaction before is being finished; try again")
    }
}
