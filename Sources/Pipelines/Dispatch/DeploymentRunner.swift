// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import Logging
package import MartletCore
import NIOCore
import Synchronization
package import Workers

/// Runs one function deployment: reads its topics, keeps its workers, delivers its events.
///
/// Used once: ``run()`` starts workers at once and returns after ``drain()``, when nothing is left in flight and the position is committed.
/// ``startIntake()`` lets events in, so that a new revision can prove itself before the old one is drained.
package final class DeploymentRunner: Sendable {
    private static let tickInterval = Duration.milliseconds(50)
    private static let idleTickInterval = Duration.milliseconds(500)
    private static let stopGrace = Duration.seconds(10)
    private static let commitIntervalMicros: Int64 = 200_000
    private static let refusedCommitIntervalMicros: Int64 = 2_000_000
    /// How often topics are looked at for new partitions.
    private static let lookIntervalMicros: Int64 = 2_000_000
    private static let timerSlackMicros: Int64 = 1000
    /// Characters of a message that an event of the engine has.
    private static let toldMax = 2000

    private struct Message: Sendable {
        var input: DispatchInput?
        var credit: Gate?
        /// Opens the topics at their committed positions.
        var begins = false
    }

    /// What is open of the topics.
    private struct Intake {
        var hasBegun = false
        var opened: Set<DispatchCore.PartitionKey> = []
        var credits: [Gate] = []
        var nextLookMicros: Int64 = 0
        var reason: String?
        /// Workers that died and were not replaced yet.
        var crashes = 0
    }

    private enum Start: Sendable {
        case waiting([CheckedContinuation<WorkerFailure?, Never>])
        case decided(WorkerFailure?)
    }

    package let plan: DeploymentPlan
    private let services: DispatchServices
    private let logger: Logger
    private let mailbox = Mailbox<Message>()
    private let gate = Gate()
    private let workers = Mutex<[String: Worker]>([:])
    /// Set before workers are stopped, so that one that was just being made stops as well.
    private let isStopping = Mutex(false)
    private let start = Mutex(Start.waiting([]))
    private let published = Mutex<DeploymentStatus>(DeploymentStatus(name: "", function: "", revision: 0))
    private let fetchEnds = Mutex<[TopicPartition: Int64]>([:])
    private let metrics: DeploymentMetrics
    private let queued = Atomic<Int>(0)

    /// Makes a runner; nothing starts before it is run.
    package init(plan: DeploymentPlan, services: DispatchServices) {
        self.plan = plan
        self.services = services
        metrics = DeploymentMetrics(plan: plan, registry: services.metrics)
        var logger = services.logger
        logger[metadataKey: "pipeline"] = "\(plan.pipelineName)"
        logger[metadataKey: "deployment"] = "\(plan.name)"
        self.logger = logger
        published.withLock {
            $0 = DeploymentStatus(name: plan.name, function: plan.functionName, revision: plan.revision)
        }
    }

    /// Waits until a first worker has become ready.
    ///
    /// - Returns: Why the function cannot run, or nil.
    package func firstOutcome() async -> WorkerFailure? {
        await withCheckedContinuation { continuation in
            let decided = start.withLock { start -> WorkerFailure?? in
                switch start {
                case .decided(let failure): return .some(failure)
                case .waiting(let waiters):
                    start = .waiting(waiters + [continuation])
                    return nil
                }
            }
            if let decided { continuation.resume(returning: decided) }
        }
    }

    /// Lets events in.
    package func startIntake() { mailbox.send(Message(begins: true)) }

    /// Stops taking events; ``run()`` returns once workers have finished what they hold.
    package func drain() {
        mailbox.send(Message(input: .drain))
    }

    /// Says that it will never run, because the engine is stopping.
    func refuse() {
        decide(WorkerFailure(phase: "start", type: "Stopped", message: "the engine is stopping", traceback: nil))
    }

    /// Why the deployment does not do its work, where it does not.
    package var reason: String? { published.withLock { $0.reason } }

    /// Gauges of the deployment, as of the last tick.
    var readings: [MetricReading] {
        let status = published.withLock { $0 }
        let labels = metrics.labels
        return [
            MetricReading(EngineMetrics.queueDepth, labels, Double(queued.load(ordering: .relaxed))),
            MetricReading(EngineMetrics.inFlight, labels, Double(status.inFlight)),
            MetricReading(EngineMetrics.workers, labels, Double(status.workers)),
        ]
    }

    /// How the deployment does, as of the last tick.
    package func status() async -> DeploymentStatus {
        var status = published.withLock { $0 }
        status.lag = await Self.lag(of: plan, services.log)
        return status
    }

    /// Runs until drained or cancelled.
    package func run() async {
        await withDiscardingTaskGroup { support in
            support.addTask { await self.tick() }
            let gates = await withDiscardingTaskGroup { work in
                let gates = await self.loop(work: &work, support: &support)
                self.isStopping.withLock { $0 = true }
                for worker in self.workers.withLock({ Array($0.values) }) { worker.stop() }
                support.addTask { await self.killLate() }
                return gates
            }
            support.cancelAll()
            for gate in gates { gate.retire() }
        }
        decide(WorkerFailure(phase: "start", type: "Stopped", message: "the deployment was stopped", traceback: nil))
    }

    /// Ends workers that do not finish in their time.
    private func killLate() async {
        do { try await Task.sleep(for: Self.stopGrace) } catch { return }
        for worker in workers.withLock({ Array($0.values) }) { worker.kill(.stopped) }
    }

    // MARK: Loop

    /// - Returns: The gates readers may wait at, to be retired once they are cancelled.
    private func loop(work: inout DiscardingTaskGroup, support: inout DiscardingTaskGroup) async -> [Gate] {
        var core = DispatchCore(plan: plan)
        var intake = Intake()
        var lastCommit: Int64 = 0
        var commitNumber = 0
        var armed: Int64 = 0
        let commits = CommitQueue(log: services.log, plan: plan, logger: logger)
        core.startWorker()
        perform(core.takeEffects(), in: &work)
        while !Task.isCancelled, let messages = await mailbox.next() {
            let now = Timestamp.nowMicroseconds()
            for message in messages {
                if message.begins { intake.hasBegun = true }
                guard let input = message.input else { continue }
                core.handle(input, nowMicros: now, idleProcessorShare: services.idleProcessorShare())
                message.credit?.set(open: true)
                if case .worker(let id, .exited(let exit)) = input {
                    forget(id, exit)
                    if exit.cause != .stopped { intake.crashes += 1 }
                }
                if case .worker(let id, .ready) = input {
                    decide(nil)
                    tellReady(id, &intake)
                }
            }
            if intake.hasBegun, !core.isDraining, now >= intake.nextLookMicros {
                await open(&intake, &core, in: &support)
            }
            perform(core.takeEffects(), in: &work)
            metrics.received(core.takeArrivals())
            queued.store(core.queued, ordering: .relaxed)
            published.withLock { $0 = core.currentStatus }
            if core.isDrained { break }
            if let due = core.nextDueMicros, due > now, armed <= now || due < armed {
                armed = due
                support.addTask { await self.tick(at: due) }
            }
            let interval =
                commits.isBehind.withLock { $0 } ? Self.refusedCommitIntervalMicros : Self.commitIntervalMicros
            if now - lastCommit >= interval {
                lastCommit = now
                commitNumber += 1
                let due = core.takeCommits()
                let isBehind = commits.isBehind.withLock { $0 }
                if !due.isEmpty || isBehind {
                    work.addTask { [commitNumber] in await commits.commit(due, sequence: commitNumber) }
                }
            }
        }
        await commits.commit(core.takeCommits(), sequence: commitNumber + 1)
        return [gate] + intake.credits
    }

    private func perform(_ effects: [DispatchEffect], in group: inout DiscardingTaskGroup) {
        for effect in effects {
            switch effect {
            case .startWorker(let id): group.addTask { await self.runWorker(id) }
            case .stopWorker(let id): worker(id)?.stop()
            case .killWorker(let id, let cause): worker(id)?.kill(cause)
            case .send(let id, let request, let events): send(events, request: request, to: id)
            case .publish(let results): group.addTask { await self.publish(results) }
            case .deadLetter(let letters): group.addTask { await self.deadLetter(letters) }
            case .finished(let attempts): report(attempts)
            case .workerFailed(let failure): report(failure)
            case .workerCrashed(let exit): report(exit)
            case .gate(let open): gate.set(open: open)
            }
        }
    }

    private func tick() async {
        while !Task.isCancelled {
            let isBusy = published.withLock { $0.inFlight > 0 } || workers.withLock { $0.isEmpty }
            do { try await Task.sleep(for: isBusy ? Self.tickInterval : Self.idleTickInterval) } catch { break }
            mailbox.send(Message(input: .tick))
        }
        mailbox.send(Message())  // Wakes the loop, which then sees that it is cancelled.
    }

    /// One more tick where something is due between two others.
    private func tick(at dueMicros: Int64) async {
        let wait = dueMicros - Timestamp.nowMicroseconds() + Self.timerSlackMicros
        do { try await Task.sleep(for: .microseconds(max(0, wait))) } catch { return }
        mailbox.send(Message(input: .tick))
    }

    // MARK: Intake

    /// Opens the partitions that are not open yet: all at first, later those that were added or could not be opened.
    private func open(_ intake: inout Intake, _ core: inout DispatchCore, in group: inout DiscardingTaskGroup) async {
        var reason: String?
        for (index, input) in plan.inputs.enumerated() {
            do {
                guard let topic = try await services.log.topic(input.topic) else {
                    reason = "topic '\(input.topic)' is missing"
                    continue
                }
                let missing = (0..<topic.partitions).filter {
                    !intake.opened.contains(DispatchCore.PartitionKey(input: index, partition: $0))
                }
                if missing.isEmpty { continue }
                let committed = try await services.log.committed(group: input.group)
                for number in missing {
                    let reader = try open(number, of: index, committed, &core)
                    intake.opened.insert(DispatchCore.PartitionKey(input: index, partition: number))
                    intake.credits.append(reader.reader.credit)
                    group.addTask { await reader.reader.run(from: reader.offset) }
                }
            } catch {
                reason = "topic '\(input.topic)' cannot be read: \(error)"
            }
        }
        if let reason, reason != intake.reason {
            logger.error("a deployment cannot read its events", metadata: ["reason": "\(reason)"])
        }
        intake.reason = reason
        let now = Timestamp.nowMicroseconds()
        intake.nextLookMicros = now + Self.lookIntervalMicros
        core.handle(.inputs(reason: reason), nowMicros: now)
    }

    private func open(
        _ number: Int32,
        of index: Int,
        _ committed: [TopicPartition: CommittedOffset],
        _ core: inout DispatchCore
    ) throws -> (reader: PartitionReader, offset: Int64) {
        let partition = TopicPartition(topic: plan.inputs[index].topic, partition: number)
        let bounds = try services.log.bounds(partition)
        // A partition that a known group has nothing of was added after the group: all of it is new.
        let offset = committed[partition]?.offset ?? (committed.isEmpty ? bounds.stable : bounds.start)
        let state = CommitState(metadata: committed[partition]?.metadata ?? "")
        core.add(
            input: index,
            partition: number,
            committed: offset,
            state: state.clipped(to: offset..<max(offset, bounds.end))
        )
        let reader = PartitionReader(
            log: services.log,
            input: index,
            partition: partition,
            gate: gate,
            logger: logger,
            deliver: { [mailbox] input, credit in mailbox.send(Message(input: input, credit: credit)) }
        )
        return (reader, offset)
    }

    // MARK: Workers

    private func worker(_ id: String) -> Worker? { workers.withLock { $0[id] } }

    private func forget(_ id: String, _ exit: WorkerExit) {
        workers.withLock { $0[id] = nil }
        if exit.cause != .stopped {
            decide(WorkerFailure(phase: "start", type: "WorkerExit", message: exit.reason, traceback: exit.outputTail))
        }
    }

    private func runWorker(_ id: String) async {
        let spec: WorkerSpec
        do {
            spec = try await services.launcher.spec(for: plan, workerID: id)
        } catch {
            logger.error("a worker cannot be started", metadata: ["error": "\(error)"])
            decide(WorkerFailure(phase: "start", type: "Refused", message: "\(error)", traceback: nil))
            mailbox.send(Message(input: .workerNotStarted(id: id, reason: "\(error)")))
            return
        }
        let worker = Worker(spec: spec, loop: services.loops.next()) { [mailbox] event in
            mailbox.send(Message(input: .worker(id: id, event)))
        }
        workers.withLock { $0[id] = worker }
        if isStopping.withLock({ $0 }) { worker.stop() }
        services.registry.add(
            worker,
            context: .init(
                pipeline: plan.pipelineName,
                deployment: plan.name,
                function: plan.functionName,
                revision: plan.revision
            )
        )
        await worker.run(on: services.backend)
        services.registry.remove(worker)
    }

    private func send(_ events: [PendingEvent], request: Int, to id: String) {
        guard let worker = worker(id) else { return }
        let encoder = EventEncoder(authority: services.authority)
        var body = [UInt8]()
        body.reserveCapacity(events.count * 1024)
        body.append(UInt8(ascii: "["))
        for (index, event) in events.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            let trace = Self.trace(of: event)
            if let structured = Self.structured(event.record) {
                encoder.append(structured: structured, event, trace: trace, to: &body)
            } else {
                encoder.append(event, topic: plan.inputs[event.input].topic, trace: trace, to: &body)
            }
        }
        body.append(UInt8(ascii: "]"))
        worker.invoke(request: request, body: ByteBuffer(bytes: body), count: events.count)
    }

    private static func structured(_ record: RecordView) -> CloudEvent? {
        guard let type = record.header("content-type"), type.starts(with: "application/cloudevents".utf8),
            let value = record.value
        else { return nil }
        return try? CloudEvent.decodeStructured(Array(value))
    }

    private static func trace(of event: PendingEvent) -> TraceContext {
        if let header = event.record.header("ce_traceparent"), let trace = TraceContext(traceparent: Array(header)) {
            return trace
        }
        if let id = event.record.header("ce_id") { return TraceContext(eventID: Array(id)) }
        return TraceContext(eventID: Array("\(event.partition)-\(event.record.offset)".utf8))
    }

    // MARK: Topics

    private func publish(_ results: [(id: Int, event: PendingEvent, outputs: [InvocationResult.Output])]) async {
        let ids = results.map(\.id)
        let make = OutputRecord(plan: plan, authority: services.authority, broker: services.broker)
        let records = results.flatMap { item in
            item.outputs.map { make.result($0, of: item.event, trace: Self.trace(of: item.event)) }
        }
        do {
            _ = try await services.producer.send(records, topic: plan.outputTopic ?? "")
            mailbox.send(Message(input: .published(ids, error: nil)))
        } catch let error as EventLogError where error.code == .messageTooLarge {
            if results.count > 1 {
                for result in results { await publish([result]) }
            } else {
                mailbox.send(Message(input: .unpublishable(ids[0], reason: "a result cannot be written: \(error)")))
            }
        } catch {
            logger.error("results cannot be written", metadata: ["error": "\(error)"])
            mailbox.send(Message(input: .published(ids, error: "\(error)")))
        }
    }

    /// Writes dead letters; a bare one leaves the event itself out, where it leaves no room for why it failed.
    private func deadLetter(
        _ letters: [(id: Int, event: PendingEvent, failure: InvocationResult.Failure)],
        isBare: Bool = false
    ) async {
        let ids = letters.map(\.id)
        let make = OutputRecord(plan: plan, authority: services.authority, broker: services.broker)
        let records = letters.map {
            make.deadLetter($0.event, $0.failure, trace: Self.trace(of: $0.event), isBare: isBare)
        }
        do {
            _ = try await services.producer.send(records, topic: services.deadLetterTopic)
            metrics.gaveUp(ids.count)
            tellDeadLetters(letters)
            mailbox.send(Message(input: .deadLettered(ids, error: nil)))
        } catch let error as EventLogError where error.code == .messageTooLarge && !isBare {
            for letter in letters { await deadLetter([letter], isBare: letters.count == 1) }
        } catch {
            logger.error("dead letters cannot be written", metadata: ["error": "\(error)"])
            mailbox.send(Message(input: .deadLettered(ids, error: "\(error)")))
        }
    }

    /// Records of a plan's topics that are not processed yet.
    static func lag(of plan: DeploymentPlan, _ log: any EventLog) async -> Int64 {
        var lag: Int64 = 0
        for input in plan.inputs {
            guard let topic = try? await log.topic(input.topic),
                let committed = try? await log.committed(group: input.group)
            else { continue }
            for number in 0..<topic.partitions {
                let partition = TopicPartition(topic: input.topic, partition: number)
                guard let end = try? log.bounds(partition).stable else { continue }
                lag += max(0, end - (committed[partition]?.offset ?? end))
            }
        }
        return lag
    }

    // MARK: Telemetry

    private func report(_ attempts: [FinishedAttempt]) {
        metrics.finished(attempts)
        let writer = SpanWriter(plan: plan)
        var spans = [SpanRecord]()
        var logs = [LogRecord]()
        var ids = SpanIDGenerator()
        let wantsSpans = services.telemetry.wants(.traces)
        // Under a flood most spans would be made only to be dropped.
        let samples = wantsSpans && !services.telemetry.hasRoom(spans: attempts.count * SpanWriter.spansPerAttempt)
        var skipped = 0
        for attempt in attempts {
            let failure = attempt.isLastAttempt ? attempt.result.failure : nil
            guard wantsSpans || failure != nil else { continue }
            let trace = Self.trace(of: attempt.event)
            if samples, attempt.result.status == .ok, attempt.result.span == nil,
                !SpanSample.holds(traceLow: trace.traceLow)
            {
                skipped += SpanWriter.spansPerAttempt
            } else if wantsSpans {
                spans += writer.spans(for: attempt, trace: trace, dispatchSpan: ids.next())
            }
            guard let failure else { continue }
            logs.append(
                record(
                    "ERROR",
                    "event given up after \(attempt.event.failures + 1) attempts and dead-lettered: \(failure.type): \(failure.message)",
                    trace: trace,
                    span: attempt.event.spanID
                )
            )
        }
        if skipped > 0 { services.telemetry.skipped(spans: skipped) }
        if !spans.isEmpty { services.telemetry.record(spans: spans) }
        if !logs.isEmpty { services.telemetry.record(logs: logs) }
    }

    private func report(_ failure: WorkerFailure) {
        decide(failure)
        logger.error("function cannot run", metadata: ["reason": "\(failure.reason)"])
        services.telemetry.record(logs: [record("ERROR", failure.traceback ?? failure.reason)])
        tell("Worker", "Failed", plan.name, .error, "the function cannot run: \(failure.reason)")
    }

    private func report(_ exit: WorkerExit) {
        logger.warning("worker died", metadata: ["reason": "\(exit.reason)"])
        let tail = exit.outputTail.isEmpty ? "" : "\n" + exit.outputTail
        services.telemetry.record(logs: [record("ERROR", exit.reason + tail)])
        tell("Worker", "Crashed", plan.name, .error, exit.reason)
    }

    /// Tells of a worker that is ready; one that follows a crash is a restart.
    private func tellReady(_ id: String, _ intake: inout Intake) {
        guard intake.crashes > 0 else {
            return tell("Worker", "Started", id, .info, "a worker is ready")
        }
        intake.crashes -= 1
        tell("Worker", "Restarted", id, .info, "a worker is ready in place of one that died")
    }

    private func tellDeadLetters(
        _ letters: [(id: Int, event: PendingEvent, failure: InvocationResult.Failure)]
    ) {
        guard let first = letters.first else { return }
        let count = letters.count == 1 ? "an event was" : "\(letters.count) events were"
        tell(
            "DeadLetter",
            "Written",
            services.deadLetterTopic,
            .warn,
            "\(count) given up: \(first.failure.type): \(first.failure.message)",
            ["events": "\(letters.count)"]
        )
    }

    private func tell(
        _ kind: String,
        _ action: String,
        _ name: String,
        _ severity: Severity,
        _ message: String,
        _ details: [String: String] = [:]
    ) {
        var details = details
        details["deployment"] = plan.name
        details["revision"] = "\(plan.revision)"
        services.telemetry.record(events: [
            EngineEvent(
                kind,
                action,
                name,
                severity: severity,
                // What a function says of its failure can be of any length.
                "\(plan.pipelineName)/\(plan.name): \(message.prefix(Self.toldMax))",
                pipeline: plan.pipelineName,
                function: plan.functionName,
                details: details
            )
        ])
    }

    private func record(_ severity: String, _ message: String, trace: TraceContext? = nil, span: UInt64 = 0)
        -> LogRecord
    {
        LogRecord(
            time: .init(timeIntervalSince1970: Double(Timestamp.nowMicroseconds()) / 1_000_000),
            severity: severity,
            scope: "vast-runtime",
            pipeline: plan.pipelineName,
            function: plan.functionName,
            message: message,
            traceId: trace?.traceID,
            spanId: span == 0 ? nil : TraceContext.text(span)
        )
    }

    private func decide(_ failure: WorkerFailure?) {
        let waiters = start.withLock { start -> [CheckedContinuation<WorkerFailure?, Never>] in
            guard case .waiting(let waiters) = start else { return [] }
            start = .decided(failure)
            return waiters
        }
        for waiter in waiters { waiter.resume(returning: failure) }
    }
}
