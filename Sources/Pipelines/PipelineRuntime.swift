// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Logging
import MartletCore
import Synchronization
import Workers

/// Keeps the deployments of all running pipelines; one operation a pipeline at a time.
package final class PipelineRuntime: Sendable {
    private static let outputPartitions: Int32 = 1

    private struct State {
        var running: [String: [DeploymentRunner]] = [:]
        var busy: Set<String> = []
    }

    let services: DispatchServices
    private let state = Mutex(State())
    private let starts = Mailbox<(DeploymentRunner, Finish)>()

    /// Tells when a runner's task is over.
    private final class Finish: Sendable {
        private let gate = Gate()

        init() { gate.set(open: false) }

        func done() { gate.set(open: true) }
        func wait() async { await gate.pass() }
    }

    private let finishes = Mutex<[ObjectIdentifier: Finish]>([:])

    package init(services: DispatchServices) {
        self.services = services
    }

    /// Hosts the deployments until cancelled; then all are drained.
    package func run() async {
        await withTaskCancellationHandler {
            await withDiscardingTaskGroup { group in
                while let batch = await starts.next() {
                    for (runner, finish) in batch {
                        group.addTask {
                            await runner.run()
                            finish.done()
                        }
                    }
                }
            }
        } onCancel: {
            starts.close()
        }
    }

    /// Drains every deployment; called before ``run()`` is cancelled.
    package func drainAll() async {
        let all = state.withLock { state in
            defer { state.running = [:] }
            return state.running.values.flatMap(\.self)
        }
        await drain(all)
    }

    /// Runs `body` unless another operation on the pipeline is under way.
    func exclusively<T: Sendable>(_ pipeline: Resource<PipelineSpec>, _ body: () async throws -> T) async throws -> T {
        let isFree = state.withLock { $0.busy.insert(pipeline.guid).inserted }
        guard isFree else {
            throw ServiceError(
                .failedPrecondition,
                "another operation on pipeline '\(pipeline.name)' is under way",
                fix: "wait for it; watch with: martlet pipelines get \(pipeline.name)"
            )
        }
        defer { state.withLock { _ = $0.busy.remove(pipeline.guid) } }
        return try await body()
    }

    func runners(_ guid: String) -> [DeploymentRunner] {
        state.withLock { $0.running[guid] ?? [] }
    }

    /// Starts workers of every plan and, once all are ready, swaps them in for what ran before.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` with the traceback where a function cannot run; what ran before goes on.
    func roll(_ plans: [DeploymentPlan], guid: String) async throws {
        try await prepareTopics(plans)
        let fresh = plans.map { DeploymentRunner(plan: $0, services: services) }
        for runner in fresh { launch(runner) }
        for runner in fresh {
            guard let failure = await runner.firstOutcome() else { continue }
            await drain(fresh)
            throw ServiceError(
                .failedPrecondition,
                "deployment '\(runner.plan.name)' (function '\(runner.plan.functionName)' revision \(runner.plan.revision)) cannot run: \(failure.reason)",
                fix: "mend the function, build and publish it, then deploy again",
                detail: failure.traceback
            )
        }
        do { try await placeGroups(plans) } catch {
            await drain(fresh)
            throw error
        }
        await drain(runners(guid))
        state.withLock { $0.running[guid] = fresh }
        for runner in fresh { runner.startIntake() }
    }

    /// Starts a pipeline that ran before the engine stopped; functions that cannot run are retried and reported in its status.
    func resume(_ plans: [DeploymentPlan], guid: String) async throws {
        try await prepareTopics(plans)
        try await placeGroups(plans)
        let runners = plans.map { DeploymentRunner(plan: $0, services: services) }
        state.withLock { $0.running[guid] = runners }
        for runner in runners {
            launch(runner)
            runner.startIntake()
        }
    }

    /// Stops a pipeline's deployments; their positions stay.
    func stop(_ guid: String) async {
        let runners = state.withLock { $0.running.removeValue(forKey: guid) } ?? []
        await drain(runners)
    }

    /// Forgets positions and, where `topics` is set, removes the pipeline's own topics.
    func forget(_ guid: String, topics: Bool) async throws {
        let prefix = PlanBuilder.groupPrefix(pipelineGuid: guid)
        for group in await services.log.groups() where group.hasPrefix(prefix) {
            try await services.log.deleteGroup(group)
        }
        guard topics else { return }
        let redrive = PlanBuilder.redriveTopic(pipelineGuid: guid)
        for topic in try await services.log.topics() where topic.name == redrive || topic.name.hasPrefix(prefix) {
            try await services.log.deleteTopic(topic.name)
        }
    }

    var allRunners: [DeploymentRunner] { state.withLock { $0.running.values.flatMap(\.self) } }

    private func launch(_ runner: DeploymentRunner) {
        let finish = Finish()
        finishes.withLock { $0[ObjectIdentifier(runner)] = finish }
        if !starts.send((runner, finish)) {
            runner.refuse()
            finish.done()
        }
    }

    private func drain(_ runners: [DeploymentRunner]) async {
        for runner in runners { runner.drain() }
        for runner in runners {
            let finish = finishes.withLock { $0.removeValue(forKey: ObjectIdentifier(runner)) }
            await finish?.wait()
        }
    }

    private func prepareTopics(_ plans: [DeploymentPlan]) async throws {
        let names =
            plans.compactMap(\.outputTopic)
            + plans.prefix(1).map { PlanBuilder.redriveTopic(pipelineGuid: $0.pipelineGuid) }
        for name in names where try await services.log.topic(name) == nil {
            try await services.log.createTopic(name, partitions: Self.outputPartitions, settings: TopicSettings())
        }
    }

    /// A group seen for the first time starts with what comes from now on; a partition added since then is read from its start.
    private func placeGroups(_ plans: [DeploymentPlan]) async throws {
        let now = Timestamp.nowMicroseconds() / 1000
        for input in plans.flatMap(\.inputs) {
            guard let topic = try await services.log.topic(input.topic) else { continue }
            let committed = try await services.log.committed(group: input.group)
            var missing: [TopicPartition: CommittedOffset] = [:]
            for number in 0..<topic.partitions {
                let partition = TopicPartition(topic: input.topic, partition: number)
                guard committed[partition] == nil else { continue }
                let bounds = try services.log.bounds(partition)
                missing[partition] = CommittedOffset(
                    offset: committed.isEmpty ? bounds.stable : bounds.start,
                    committedAt: now
                )
            }
            if !missing.isEmpty { try await services.log.commit(group: input.group, offsets: missing) }
        }
    }
}
