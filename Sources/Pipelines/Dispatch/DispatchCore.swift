// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import HeapModule
import KafkaCodec
package import MartletCore
import Workers

/// Decides what one function deployment does next: which event goes to which worker, what is retried, what is done.
///
/// A value without I/O and without a clock: inputs and the time go in, effects come out. The runner around it does the work.
package struct DispatchCore {
    /// Events held in memory; the gate closes here and opens again at half.
    package static let bufferedMax = 8192
    static let bufferedBytesMax = 64 << 20

    /// How long a drain waits for a log that refuses results.
    private static let refusedDrainMicros: Int64 = 5_000_000

    /// What can keep a deployment from its work, the gravest first.
    enum Obstacle: CaseIterable {
        case inputs
        case storage
        case workers
    }

    /// A partition of an input.
    package struct PartitionKey: Hashable, Sendable {
        package var input: Int
        package var partition: Int32
    }

    struct Partition {
        var tracker: OffsetTracker
        /// Offset the next fetch begins at; what lies between it and the first record fetched is gone.
        var position: Int64
        /// Retries carried over from before a restart, by offset.
        var carried: [Int64: CommitState.Retry]
        var lastCommitted: CommitState?
        var lastCommittable: Int64 = -1
    }

    struct Lane {
        var waiting: Deque<Int> = []
        var outstanding = 0
    }

    struct RetryEntry: Comparable {
        var dueMicros: Int64
        var id: Int

        static func < (left: RetryEntry, right: RetryEntry) -> Bool {
            (left.dueMicros, left.id) < (right.dueMicros, right.id)
        }
    }

    let plan: DeploymentPlan
    var events: [Int: PendingEvent] = [:]
    var partitions: [PartitionKey: Partition] = [:]
    var ready: Deque<Int> = []
    var isolated: Deque<Int> = []
    var lanes: [PendingEvent.Lane: Lane] = [:]
    var batchers: [Int: Batcher] = [:]
    var retries = Heap<RetryEntry>()
    var retryDue: [Int: Int64] = [:]
    var workers: [String: WorkerState] = [:]
    /// Why the deployment does not do its work, by what stands in its way.
    private var obstacles: [Obstacle: String] = [:]
    /// Results waiting to be published or dead-lettered again after a failure.
    var unpublished: [Int: [InvocationResult.Output]] = [:]
    var undelivered: [Int: InvocationResult.Failure] = [:]
    var effects: [DispatchEffect] = []
    /// How the deployment does.
    package internal(set) var status: DeploymentStatus
    var starts = StartBackoff()
    var rate = CompletionRate()
    var spans = SpanIDGenerator()
    var isDraining = false
    /// From the time of each event that came in to its arrival, in microseconds; the runner records them.
    private var arrivals: [Int64] = []
    /// Events whose results or dead letters the log refused; tried again at the next tick.
    var refusedOutputs: [Int] = []
    var refusedLetters: [Int] = []
    /// When what the log refused is sent to it again.
    var storageRetryMicros: Int64 = 0
    private var drainSinceMicros: Int64 = 0
    private(set) var nowMicros: Int64 = 0
    private var nextID = 0
    var nextBatch = 0
    var nextWorker = 0
    var nextRequest = 0
    private var bufferedBytes = 0
    private var gateIsOpen = true

    /// Makes the core of a deployment that holds nothing yet.
    package init(plan: DeploymentPlan) {
        self.plan = plan
        status = DeploymentStatus(name: plan.name, function: plan.functionName, revision: plan.revision)
        for (index, input) in plan.inputs.enumerated() {
            if let batching = input.batching { batchers[index] = Batcher(batching: batching) }
        }
    }

    /// Adds a partition at its committed state, before anything is fetched from it.
    package mutating func add(input: Int, partition: Int32, committed: Int64, state: CommitState) {
        partitions[PartitionKey(input: input, partition: partition)] = Partition(
            tracker: OffsetTracker(committed: committed, finished: state.finished),
            position: committed,
            carried: Dictionary(state.retries.map { ($0.offset, $0) }, uniquingKeysWith: { $1 })
        )
    }

    /// Takes one input; what is to be done is then in ``takeEffects()``.
    package mutating func handle(_ input: DispatchInput, nowMicros: Int64, idleProcessorShare: Double = 1) {
        self.nowMicros = nowMicros
        switch input {
        case .fetched(let index, let partition, let records, let next, let unreadable):
            take(records, unreadable, next: next, from: PartitionKey(input: index, partition: partition))
        case .worker(let id, let event): handle(event, from: id)
        case .workerNotStarted(let id, let reason):
            workers[id] = nil
            starts.failed(nowMicros: nowMicros)
            set(.workers, reason)
        case .published(let ids, let error): published(ids, error: error)
        case .unpublishable(let id, let reason): unpublishable(id, reason: reason)
        case .deadLettered(let ids, let error): deadLettered(ids, error: error)
        case .inputs(let reason): set(.inputs, reason)
        case .tick:
            releaseRetries()
            releaseReserved()
            retryStorage()
            watchWorkers()
            scale(idleProcessorShare: idleProcessorShare)
        case .drain:
            guard !isDraining else { return }
            isDraining = true
            drainSinceMicros = nowMicros
        }
    }

    /// Notes what keeps the deployment from its work, or that nothing of the kind does any more.
    mutating func set(_ obstacle: Obstacle, _ reason: String?) {
        guard obstacles[obstacle] != reason else { return }
        obstacles[obstacle] = reason
        status.reason = Obstacle.allCases.lazy.compactMap { [obstacles] in obstacles[$0] }.first
    }

    func reason(_ obstacle: Obstacle) -> String? { obstacles[obstacle] }

    /// Sends what can be sent, then returns everything to be done since the last call.
    package mutating func takeEffects() -> [DispatchEffect] {
        dispatch()
        setGate()
        defer { effects = [] }
        return effects
    }

    /// Delays of the events that came in since the last call, in microseconds.
    package mutating func takeArrivals() -> [Int64] {
        defer { arrivals = [] }
        return arrivals
    }

    /// Events held that no worker has.
    var queued: Int { events.count - workers.values.reduce(0) { $0 + $1.inFlight } }

    /// Whether a draining deployment has nothing left in workers or on its way to a topic.
    ///
    /// What the log keeps refusing is left: those events are not done, so they are delivered again by whoever reads on.
    package var isDrained: Bool {
        guard isDraining, workers.values.allSatisfy({ $0.inFlight == 0 }) else { return false }
        if unpublished.isEmpty, undelivered.isEmpty { return true }
        return unpublished.count == refusedOutputs.count && undelivered.count == refusedLetters.count
            && nowMicros - drainSinceMicros > Self.refusedDrainMicros
    }

    /// Time of the next thing that happens by itself, for the runner's timer.
    package var nextDueMicros: Int64? {
        let retry = retries.min?.dueMicros
        let batch = batchers.values.compactMap(\.dueMicros).min()
        return [retry, batch].compactMap(\.self).min()
    }

    /// States that changed since the last call, to be committed.
    package mutating func takeCommits() -> [(key: PartitionKey, offset: Int64, state: CommitState)] {
        var waiting: [PartitionKey: [CommitState.Retry]] = [:]
        for (id, due) in retryDue {
            guard let event = events[id] else { continue }
            waiting[PartitionKey(input: event.input, partition: event.partition), default: []]
                .append(CommitState.Retry(offset: event.record.offset, attempts: event.failures, dueMicros: due))
        }
        var commits = [(key: PartitionKey, offset: Int64, state: CommitState)]()
        for key in partitions.keys {
            guard let partition = partitions[key] else { continue }
            let state = CommitState(
                finished: partition.tracker.finishedRanges(limit: CommitState.rangesMax),
                retries: (waiting[key] ?? []).sorted { $0.offset < $1.offset }
            )
            let offset = partition.tracker.committable
            guard offset != partition.lastCommittable || state != partition.lastCommitted else { continue }
            partitions[key]?.lastCommittable = offset
            partitions[key]?.lastCommitted = state
            commits.append((key, offset, state))
        }
        return commits
    }

    // MARK: Intake

    private mutating func take(
        _ records: [RecordView],
        _ unreadable: [Int64: String],
        next: Int64,
        from key: PartitionKey
    ) {
        guard partitions[key] != nil else { return }
        let input = plan.inputs[key.input]
        var expected = partitions[key]?.position ?? 0
        for record in records {
            if record.offset > expected { partitions[key]?.tracker.complete(expected..<record.offset) }
            expected = max(expected, record.offset + 1)
            guard partitions[key]?.tracker.isDone(record.offset) == false else { continue }
            if let reason = unreadable[record.offset] {
                giveUp(record, key, reason)
                continue
            }
            guard input.accepts(record) else {
                partitions[key]?.tracker.complete(record.offset)
                continue
            }
            admit(record, key, input)
        }
        if next > expected { partitions[key]?.tracker.complete(expected..<next) }
        if input.isOrdered, input.batching != nil {
            advance(PendingEvent.Lane(input: key.input, partition: key.partition, key: nil))
        }
        partitions[key]?.position = max(expected, next)
    }

    /// Puts what cannot be read among the dead letters: some of it may have been meant for this deployment.
    private mutating func giveUp(_ record: RecordView, _ key: PartitionKey, _ reason: String) {
        let event = PendingEvent(input: key.input, partition: key.partition, record: record, lane: nil)
        let failure = InvocationResult.Failure(type: DeadLetterHeaders.unreadable, message: reason)
        nextID += 1
        events[nextID] = event
        undelivered[nextID] = failure
        status.failed += 1
        status.deadLettered += 1
        effects.append(.deadLetter([(nextID, event, failure)]))
    }

    private mutating func admit(_ record: RecordView, _ key: PartitionKey, _ input: DeploymentPlan.Input) {
        let lane =
            input.isOrdered
            ? PendingEvent.Lane(
                input: key.input,
                partition: key.partition,
                key: input.batching == nil ? record.key : nil
            ) : nil
        var event = PendingEvent(input: key.input, partition: key.partition, record: record, lane: lane)
        nextID += 1
        arrivals.append(max(0, nowMicros - EventTime.micros(record, isRedriven: input.isRedrive)))
        bufferedBytes += record.value?.count ?? 0
        if let retry = partitions[key]?.carried.removeValue(forKey: record.offset) {
            event.failures = retry.attempts
            events[nextID] = event
            // Behind others of its lane it waits for them instead.
            let isFirst = lane.map { lanes[$0] == nil } ?? true
            if isFirst {
                if let lane { lanes[lane, default: Lane()].outstanding += 1 }
                schedule(nextID, dueMicros: retry.dueMicros)
                return
            }
        }
        events[nextID] = event
        if let lane {
            lanes[lane, default: Lane()].waiting.append(nextID)
            if input.batching == nil { advance(lane) }
        } else {
            makeReady(nextID, input: key.input)
        }
    }

    /// Lets the next events of a lane go once those before are done; what must run alone goes alone.
    mutating func advance(_ lane: PendingEvent.Lane) {
        guard var state = lanes[lane], state.outstanding == 0 else { return }
        let count = plan.inputs[lane.input].batching?.size ?? 1
        while state.outstanding < count, let id = state.waiting.first {
            let isAlone = events[id]?.isIsolated == true
            if isAlone, state.outstanding > 0 { break }
            state.waiting.removeFirst()
            state.outstanding += 1
            if isAlone {
                isolated.append(id)
                break
            }
            makeReady(id, input: lane.input)
        }
        lanes[lane] = state.outstanding == 0 ? nil : state
    }

    /// Puts events back where they were in their lane, in order.
    mutating func putBack(_ ids: [Int], in lane: PendingEvent.Lane) {
        lanes[lane, default: Lane()].outstanding -= ids.count
        lanes[lane]?.waiting.prepend(contentsOf: ids)
        advance(lane)
    }

    /// Puts an event where the dispatcher takes it from.
    mutating func makeReady(_ id: Int, input: Int) {
        if batchers[input] != nil {
            batchers[input]?.add(id, nowMicros: nowMicros)
        } else {
            ready.append(id)
        }
    }

    // MARK: Completion

    /// The event is done for good: processed, or in the dead-letter topic.
    mutating func complete(_ id: Int) {
        guard let event = events.removeValue(forKey: id) else { return }
        bufferedBytes -= event.record.value?.count ?? 0
        partitions[PartitionKey(input: event.input, partition: event.partition)]?.tracker.complete(event.record.offset)
        guard let lane = event.lane else { return }
        lanes[lane]?.outstanding -= 1
        advance(lane)
    }

    mutating func schedule(_ id: Int, dueMicros: Int64) {
        retryDue[id] = dueMicros
        retries.insert(RetryEntry(dueMicros: dueMicros, id: id))
    }

    /// Lets what failed together in an ordered lane be tried again together, at the latest of its times.
    ///
    /// Their counts of failures, and so their times, differ where one of them failed before the last restart: one by one, a later event
    /// would overtake an earlier one.
    mutating func alignRetries(_ ids: [Int]) {
        let due = ids.filter { id in
            guard let event = events[id], event.lane != nil else { return false }
            return batchers[event.input] != nil && retryDue[id] != nil
        }
        guard due.count > 1, let latest = due.compactMap({ retryDue[$0] }).max() else { return }
        for id in due where retryDue[id] != latest { schedule(id, dueMicros: latest) }
    }

    /// Whether an earlier event of an ordered lane waits for its result or dead letter to be written.
    private func isBehindUnsettled(_ id: Int, _ event: PendingEvent) -> Bool {
        guard let lane = event.lane, batchers[event.input] != nil else { return false }
        func isEarlier(_ other: Int) -> Bool { other < id && events[other]?.lane == lane }
        return unpublished.keys.contains(where: isEarlier) || undelivered.keys.contains(where: isEarlier)
    }

    /// Until what stands before a retry in its lane is looked at again.
    private static let settleMicros: Int64 = 100_000

    private mutating func releaseRetries() {
        while let entry = retries.min, entry.dueMicros <= nowMicros {
            retries.removeMin()
            // An entry of another time is one that was put off since.
            guard retryDue[entry.id] == entry.dueMicros else { continue }
            retryDue[entry.id] = nil
            guard let event = events[entry.id] else { continue }
            if isBehindUnsettled(entry.id, event) {
                schedule(entry.id, dueMicros: nowMicros + Self.settleMicros)
                continue
            }
            if event.isIsolated { isolated.append(entry.id) } else { makeReady(entry.id, input: event.input) }
        }
    }

    /// A worker is kept free only while an event waits to run alone.
    private mutating func releaseReserved() {
        guard isolated.isEmpty else { return }
        for (id, worker) in workers where worker.isReserved { workers[id]?.isReserved = false }
    }

    private mutating func setGate() {
        let isFull = events.count >= Self.bufferedMax || bufferedBytes >= Self.bufferedBytesMax
        // What is held while nothing more is read cannot grow into a full batch.
        if isFull { for input in batchers.keys { batchers[input]?.isPressed = true } }
        let hasRoom = events.count < Self.bufferedMax / 2 && bufferedBytes < Self.bufferedBytesMax / 2
        if gateIsOpen, isFull || isDraining {
            gateIsOpen = false
            effects.append(.gate(open: false))
        } else if !gateIsOpen, hasRoom, !isDraining {
            gateIsOpen = true
            for input in batchers.keys { batchers[input]?.isPressed = false }
            effects.append(.gate(open: true))
        }
    }
}

extension DeploymentPlan.Input {
    private static let sourceHeader = "ce_source"

    var isRedrive: Bool {
        if case .redrive = filter { return true }
        return false
    }

    /// Whether a record of the topic is meant for this input.
    func accepts(_ record: RecordView) -> Bool {
        switch filter {
        case .source(let source, let labels):
            guard let value = record.header(Self.sourceHeader), value.elementsEqual(source.utf8) else { return false }
            return carries(labels, record)
        case .labels(let labels): return carries(labels, record)
        case .redrive(let deployment):
            return record.header(DeadLetterHeaders.redriveTo)?.elementsEqual(deployment.utf8) == true
        }
    }

    private func carries(_ labels: [String: String], _ record: RecordView) -> Bool {
        labels.allSatisfy { name, value in
            let found = record.header(LabelHeaders.prefix + name) ?? record.header("ce_" + name)
            return found?.elementsEqual(value.utf8) == true
        }
    }
}

/// How labels travel on a record, beside the event and not inside it.
enum LabelHeaders {
    static let prefix = "martlet-label-"
}
