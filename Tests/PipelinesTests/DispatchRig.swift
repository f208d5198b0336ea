// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import MartletCore
import Pipelines
import Workers

/// A dispatch core with a clock of its own; feeds it and reads its effects.
final class DispatchRig {
    static let second: Int64 = 1_000_000

    struct Sent: Equatable {
        var worker: String
        var request: Int
        var offsets: [Int64]
    }

    let plan: DeploymentPlan
    var core: DispatchCore
    var now: Int64 = 1_700_000_000_000_000
    var effects: [DispatchEffect] = []

    init(_ plan: DeploymentPlan, committed: Int64 = 0, state: CommitState = CommitState()) {
        self.plan = plan
        core = DispatchCore(plan: plan)
        core.add(input: 0, partition: 0, committed: committed, state: state)
    }

    /// Feeds one input and keeps what it causes.
    func take(_ input: DispatchInput, idle: Double = 1) {
        core.handle(input, nowMicros: now, idleProcessorShare: idle)
        effects += core.takeEffects()
    }

    func tick(after micros: Int64 = 0, idle: Double = 1) {
        now += micros
        take(.tick, idle: idle)
    }

    /// Runs the clock in steps of 100 ms.
    func run(_ micros: Int64) {
        for _ in 0..<micros / 100_000 { tick(after: 100_000) }
    }

    func feed(_ records: [RecordView], next: Int64? = nil) {
        take(.fetched(input: 0, partition: 0, records: records, next: next ?? (records.last?.offset ?? -1) + 1))
    }

    func ready(_ worker: String) {
        take(.worker(id: worker, .ready(WorkerReadiness(processID: 1, handlerKind: "sync", initMicros: 1))))
    }

    /// Starts a worker and lets it become ready.
    func startWorker() -> String {
        core.startWorker()
        effects += core.takeEffects()
        let id = takeStarts().last ?? ""
        ready(id)
        return id
    }

    func results(_ sent: Sent, _ results: [InvocationResult]) {
        take(.worker(id: sent.worker, .line(request: sent.request, .results(results))))
    }

    func ok(_ sent: Sent, _ indices: Int..., micros: Int64 = 1000) {
        results(sent, indices.map { Self.result($0, .ok, micros: micros) })
    }

    func allOK(_ sent: Sent, micros: Int64 = 1000) {
        results(sent, sent.offsets.indices.map { Self.result($0, .ok, micros: micros) })
    }

    func fail(_ sent: Sent, _ indices: Int...) {
        results(sent, indices.map { Self.result($0, .error) })
    }

    func exit(_ worker: String, _ cause: WorkerExit.Cause) {
        take(.worker(id: worker, .exited(WorkerExit(cause: cause, outputTail: "tail"))))
    }

    static func result(
        _ index: Int,
        _ status: InvocationResult.Status,
        micros: Int64 = 1000,
        outputs: [InvocationResult.Output] = []
    ) -> InvocationResult {
        InvocationResult(
            index: index,
            status: status,
            startMicros: 1,
            durationMicros: micros,
            outputs: outputs,
            failure: status == .ok ? nil : .init(type: "ValueError", message: "no")
        )
    }

    // MARK: Effects

    func takeSends() -> [Sent] {
        var sends = [Sent]()
        effects.removeAll { effect in
            guard case .send(let worker, let request, let events) = effect else { return false }
            sends.append(Sent(worker: worker, request: request, offsets: events.map(\.record.offset)))
            return true
        }
        return sends
    }

    func takeStarts() -> [String] {
        var ids = [String]()
        effects.removeAll { effect in
            guard case .startWorker(let id) = effect else { return false }
            ids.append(id)
            return true
        }
        return ids
    }

    func takeStops() -> [String] {
        var ids = [String]()
        effects.removeAll { effect in
            guard case .stopWorker(let id) = effect else { return false }
            ids.append(id)
            return true
        }
        return ids
    }

    func takeKills() -> [WorkerExit.Cause] {
        var causes = [WorkerExit.Cause]()
        effects.removeAll { effect in
            guard case .killWorker(_, let cause) = effect else { return false }
            causes.append(cause)
            return true
        }
        return causes
    }

    func takeLetters() -> [(id: Int, event: PendingEvent, failure: InvocationResult.Failure)] {
        var letters = [(id: Int, event: PendingEvent, failure: InvocationResult.Failure)]()
        effects.removeAll { effect in
            guard case .deadLetter(let more) = effect else { return false }
            letters += more
            return true
        }
        return letters
    }

    func takePublished() -> [[Int]] {
        var all = [[Int]]()
        effects.removeAll { effect in
            guard case .publish(let results) = effect else { return false }
            all.append(results.map(\.id))
            return true
        }
        return all
    }

    func takeGates() -> [Bool] {
        var all = [Bool]()
        effects.removeAll { effect in
            guard case .gate(let isOpen) = effect else { return false }
            all.append(isOpen)
            return true
        }
        return all
    }

    struct Position: Equatable {
        var offset: Int64
        var state: CommitState
    }

    /// Offset and state of the one partition, where they changed.
    func commit() -> Position? {
        core.takeCommits().first.map { Position(offset: $0.offset, state: $0.state) }
    }

    // MARK: Making input

    static func plan(
        filter: DeploymentPlan.Input.Filter = .labels([:]),
        retries: Int = 3,
        isOrdered: Bool = false,
        batching: PipelineManifest.Batching? = nil,
        workers: ClosedRange<Int> = 1...1,
        concurrency: Int = 20,
        timeout: Int = 60,
        output: String? = nil
    ) -> DeploymentPlan {
        var deployment = PipelineManifest.FunctionDeployment(name: "inspect", function: "f")
        deployment.resources.minConcurrency = workers.lowerBound
        deployment.resources.maxConcurrency = workers.upperBound
        deployment.resources.timeoutSeconds = timeout
        deployment.workerConcurrency = concurrency
        let input = DeploymentPlan.Input(
            source: "files",
            topic: "events",
            group: "g",
            filter: filter,
            retries: retries,
            isOrdered: isOrdered,
            batching: batching
        )
        return DeploymentPlan(
            pipelineName: "p",
            pipelineGuid: "guid",
            deployment: deployment,
            revision: 1,
            bundleDigest: "digest",
            environment: [],
            secrets: [],
            inputs: [input],
            outputTopic: output,
            downstream: [:]
        )
    }

    /// Records at consecutive offsets, one for each key.
    static func records(
        from offset: Int64,
        keys: [String?],
        headers: [[String: String]] = [],
        bytes: Int = 4,
        timestamp: Int64 = 1
    ) -> [RecordView] {
        guard !keys.isEmpty else { return [] }
        let records = keys.enumerated().map { index, key in
            Record(
                timestamp: timestamp,
                key: key.map { Array($0.utf8) },
                value: [UInt8](repeating: 0x31, count: bytes),
                headers: (index < headers.count ? headers[index] : [:]).map {
                    RecordHeader(key: $0.key, string: $0.value)
                }
            )
        }
        var batch = RecordBatchEncoder.encode(records)
        RecordBatchHeader.assign(baseOffset: offset, leaderEpoch: 0, in: &batch)
        return (try? RecordBatches.records(in: batch)) ?? []
    }

    static func records(from offset: Int64, count: Int, bytes: Int = 4) -> [RecordView] {
        records(from: offset, keys: [String?](repeating: nil, count: count), bytes: bytes)
    }
}
