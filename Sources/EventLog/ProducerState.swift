// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// What a partition knows of one idempotent producer.
struct ProducerState: Sendable, Equatable {
    /// A batch that may be sent again.
    struct Batch: Sendable, Equatable {
        let firstSequence: Int32
        let lastSequence: Int32
        let baseOffset: Int64

        var lastOffset: Int64 { baseOffset + Int64((lastSequence &- firstSequence) & Int32.max) }
    }

    /// Producers have at most this many batches under way at once, so no older one can be sent again.
    static let batchesMax = 5

    var epoch: Int16
    /// The last batches of this epoch, the oldest first.
    private(set) var batches: [Batch] = []
    /// The epoch of the coordinator that ended its last transaction; -1 for none.
    var coordinatorEpoch: Int32 = -1
    /// The first offset of the transaction that is open.
    var transactionStart: Int64?
    /// When it last appended, in milliseconds since 1970.
    var usedAt: Int64

    init(epoch: Int16, usedAt: Int64) {
        self.epoch = epoch
        self.usedAt = usedAt
    }

    init(
        epoch: Int16,
        batches: [Batch],
        coordinatorEpoch: Int32,
        transactionStart: Int64?,
        usedAt: Int64
    ) {
        self.epoch = epoch
        self.batches = batches
        self.coordinatorEpoch = coordinatorEpoch
        self.transactionStart = transactionStart
        self.usedAt = usedAt
    }

    /// The sequence number its next batch must have.
    var nextSequence: Int32 { batches.last.map { ($0.lastSequence &+ 1) & Int32.max } ?? 0 }

    /// Goes over to a new epoch, whose sequence numbers begin at 0.
    mutating func begin(epoch: Int16) {
        self.epoch = epoch
        batches.removeAll()
    }

    mutating func add(_ header: RecordBatchHeader, at baseOffset: Int64) {
        if batches.count == Self.batchesMax { batches.removeFirst() }
        batches.append(
            Batch(
                firstSequence: header.baseSequence,
                lastSequence: Self.lastSequence(of: header),
                baseOffset: baseOffset
            )
        )
    }

    /// Returns the batch that `header` repeats.
    func original(of header: RecordBatchHeader) -> Batch? {
        let last = Self.lastSequence(of: header)
        return batches.last { $0.firstSequence == header.baseSequence && $0.lastSequence == last }
    }

    /// Sequence numbers go on at 0 after 2,147,483,647.
    private static func lastSequence(of header: RecordBatchHeader) -> Int32 {
        (header.baseSequence &+ header.lastOffsetDelta) & Int32.max
    }
}

/// A transaction that was aborted in a partition.
struct AbortedSpan: Sendable, Equatable {
    let producerID: Int64
    /// The offset of its first record.
    let firstOffset: Int64
    /// The offset of its marker.
    let markerOffset: Int64
}

/// All producers of a partition, its open transactions and its aborted ones.
struct ProducerTable: Sendable, Equatable {
    private(set) var producers: [Int64: ProducerState] = [:]
    /// The first offset of every open transaction, by producer.
    private(set) var open: [Int64: Int64] = [:]
    /// The smallest offset of ``open``.
    private(set) var firstUnstable: Int64?
    /// In the order of their markers.
    private(set) var aborted: [AbortedSpan] = []

    init() {}

    init(producers: [Int64: ProducerState], aborted: [AbortedSpan]) {
        self.producers = producers
        self.aborted = aborted
        for (id, state) in producers { open[id] = state.transactionStart }
        firstUnstable = open.values.min()
    }

    var isEmpty: Bool { producers.isEmpty && aborted.isEmpty }

    subscript(id: Int64) -> ProducerState? {
        get { producers[id] }
        set {
            producers[id] = newValue
            let start = newValue?.transactionStart
            guard open[id] != start else { return }
            open[id] = start
            firstUnstable = open.isEmpty ? nil : open.values.min()
        }
    }

    mutating func add(_ span: AbortedSpan) {
        aborted.append(span)
    }

    /// Takes in what was appended.
    mutating func apply(_ changes: ProducerChanges) {
        for (id, state) in changes.producers { self[id] = state }
        aborted += changes.aborted
    }

    /// Takes in a batch found in the log, which was checked when it was appended.
    ///
    /// In front of `compactedEnd` every transaction has ended, whether its marker is still there or not.
    mutating func replay(
        _ header: RecordBatchHeader,
        _ marker: TransactionMarker?,
        at now: Int64,
        compactedEnd: Int64 = 0
    ) {
        let id = header.producerID
        guard id >= 0 else { return }
        var state = self[id] ?? ProducerState(epoch: header.producerEpoch, usedAt: now)
        state.usedAt = now
        if header.producerEpoch > state.epoch { state.begin(epoch: header.producerEpoch) }
        if header.isControl {
            guard let marker else { return }
            if let start = state.transactionStart, !marker.isCommit {
                add(AbortedSpan(producerID: id, firstOffset: start, markerOffset: header.baseOffset))
            }
            state.transactionStart = nil
            state.coordinatorEpoch = marker.coordinatorEpoch
        } else {
            if header.baseSequence >= 0 { state.add(header, at: header.baseOffset) }
            if header.isTransactional, header.baseOffset >= compactedEnd {
                state.transactionStart = state.transactionStart ?? header.baseOffset
            }
        }
        self[id] = state
    }

    /// Forgets producers without an open transaction that have not appended since `limit`, and the longest idle ones
    /// beyond `countMax`; true when there were any.
    mutating func expire(before limit: Int64, countMax: Int) -> Bool {
        let count = producers.count
        for (id, state) in producers where state.transactionStart == nil && state.usedAt < limit { self[id] = nil }
        if producers.count > countMax {
            let idle = producers.filter { $0.value.transactionStart == nil }.sorted {
                $0.value.usedAt < $1.value.usedAt
            }
            for (id, _) in idle.prefix(producers.count - countMax) { self[id] = nil }
        }
        return producers.count != count
    }

    /// Forgets aborted transactions of which nothing can be read any more.
    mutating func trim(below start: Int64) {
        if let first = aborted.first, first.markerOffset < start { aborted.removeAll { $0.markerOffset < start } }
    }

    /// Ends the open transactions that began in front of an offset; true when there were any.
    mutating func endTransactions(below end: Int64) -> Bool {
        let ended = open.filter { $0.value < end }.keys
        for id in ended { self[id]?.transactionStart = nil }
        return !ended.isEmpty
    }

    /// Forgets aborted transactions whose records compaction has removed; true when there were any.
    mutating func forgetAborted(below end: Int64) -> Bool {
        let count = aborted.count
        aborted.removeAll { $0.markerOffset < end }
        return aborted.count != count
    }

    /// Returns the aborted transactions that have records among the offsets, in the order of their first ones.
    static func aborted(_ spans: [AbortedSpan], among offsets: Range<Int64>) -> [AbortedTransaction] {
        var low = 0
        var high = spans.count
        while low < high {
            let middle = (low + high) / 2
            if spans[middle].markerOffset >= offsets.lowerBound { high = middle } else { low = middle + 1 }
        }
        return spans[low...].filter { $0.firstOffset < offsets.upperBound }
            .map { AbortedTransaction(producerID: $0.producerID, firstOffset: $0.firstOffset) }
            .sorted { $0.firstOffset < $1.firstOffset }
    }
}

/// What appends not yet flushed change in a ``ProducerTable``.
///
/// Applied when the appends are on disk, and dropped when they fail: the table needs no undoing.
struct ProducerChanges: Sendable {
    enum Verdict {
        case append
        /// The batch repeats one that is in the log, or on its way there.
        case duplicate(ProducerState.Batch)
        /// A marker for a producer that has nothing open.
        case nothingOpen
        case refused(EventLogError)
    }

    /// What the table says of the producers concerned.
    let known: [Int64: ProducerState]
    private(set) var producers: [Int64: ProducerState] = [:]
    private(set) var aborted: [AbortedSpan] = []

    init(known: [Int64: ProducerState]) {
        self.known = known
    }

    /// Decides about a batch that would get `baseOffset`, and notes what it changes.
    mutating func judge(
        _ header: RecordBatchHeader,
        at baseOffset: Int64,
        now: Int64,
        mayOpen: () -> Bool
    ) -> Verdict {
        let id = header.producerID
        guard id >= 0 else { return .append }
        let found = producers[id] ?? known[id]
        var state = found ?? ProducerState(epoch: header.producerEpoch, usedAt: now)
        if header.producerEpoch < state.epoch { return .refused(Self.fenced(header, by: state)) }
        if header.producerEpoch == state.epoch, let original = state.original(of: header) {
            return .duplicate(original)
        }
        if header.producerEpoch > state.epoch {
            if state.transactionStart != nil { return .refused(Self.stillOpen(header, state)) }
            state.begin(epoch: header.producerEpoch)
        }
        guard header.baseSequence == state.nextSequence else {
            // Of a producer that only its markers have told of, no earlier batch is known either.
            let isUnknown = found.map { $0.epoch == header.producerEpoch && $0.batches.isEmpty } ?? true
            return .refused(isUnknown ? Self.unknown(header) : Self.outOfOrder(header, state.nextSequence))
        }
        if header.isTransactional {
            if state.transactionStart == nil {
                guard mayOpen() else { return .refused(Self.notBegun(header)) }
                state.transactionStart = baseOffset
            }
        } else if state.transactionStart != nil {
            return .refused(Self.outsideTransaction(header))
        }
        state.add(header, at: baseOffset)
        state.usedAt = now
        producers[id] = state
        return .append
    }

    /// Decides about a marker that would get `offset`.
    mutating func judge(
        _ marker: TransactionMarker,
        _ header: RecordBatchHeader,
        at offset: Int64,
        now: Int64
    ) -> Verdict {
        let id = header.producerID
        let found = producers[id] ?? known[id]
        var state = found ?? ProducerState(epoch: header.producerEpoch, usedAt: now)
        if header.producerEpoch < state.epoch { return .refused(Self.fenced(header, by: state)) }
        guard marker.coordinatorEpoch >= state.coordinatorEpoch else {
            return .refused(
                EventLogError(
                    .coordinatorFenced,
                    "coordinator epoch \(marker.coordinatorEpoch) is older than \(state.coordinatorEpoch)"
                )
            )
        }
        if found != nil, header.producerEpoch == state.epoch, state.transactionStart == nil { return .nothingOpen }
        if header.producerEpoch > state.epoch { state.begin(epoch: header.producerEpoch) }
        if let start = state.transactionStart, !marker.isCommit {
            aborted.append(AbortedSpan(producerID: id, firstOffset: start, markerOffset: offset))
        }
        state.transactionStart = nil
        state.coordinatorEpoch = marker.coordinatorEpoch
        state.usedAt = now
        producers[id] = state
        return .append
    }

    private static func fenced(_ header: RecordBatchHeader, by state: ProducerState) -> EventLogError {
        EventLogError(
            .invalidProducerEpoch,
            "epoch \(header.producerEpoch) of producer \(header.producerID) is over, \(state.epoch) has taken its place"
        )
    }

    private static func stillOpen(_ header: RecordBatchHeader, _ state: ProducerState) -> EventLogError {
        EventLogError(
            .invalidTransactionState,
            "the transaction that producer \(header.producerID) began in epoch \(state.epoch) has not ended"
        )
    }

    private static func unknown(_ header: RecordBatchHeader) -> EventLogError {
        EventLogError(
            .unknownProducer,
            "producer \(header.producerID) is not known here, so it cannot go on at sequence number "
                + "\(header.baseSequence); begin a new epoch"
        )
    }

    private static func outOfOrder(_ header: RecordBatchHeader, _ expected: Int32) -> EventLogError {
        EventLogError(
            .outOfOrderSequence,
            "producer \(header.producerID) sent sequence number \(header.baseSequence) where \(expected) comes next"
        )
    }

    private static func notBegun(_ header: RecordBatchHeader) -> EventLogError {
        EventLogError(
            .invalidTransactionState,
            "producer \(header.producerID) has no transaction with this partition in epoch \(header.producerEpoch)"
        )
    }

    private static func outsideTransaction(_ header: RecordBatchHeader) -> EventLogError {
        EventLogError(
            .invalidTransactionState,
            "producer \(header.producerID) has a transaction open and sent a batch outside of it"
        )
    }
}
