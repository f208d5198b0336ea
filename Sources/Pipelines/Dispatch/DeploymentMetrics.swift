// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore
import Workers

/// Instruments of one deployment, looked up once: what an event costs is a handful of atomic additions.
struct DeploymentMetrics: Sendable {
    let labels: [String: String]
    private let events: MetricCounter
    private let receptionLatency: MetricHistogram
    private let invocations: MetricCounter
    private let invokeDuration: MetricHistogram
    private let errors: MetricCounter
    private let retries: MetricCounter
    private let deadLetters: MetricCounter

    init(plan: DeploymentPlan, registry: MetricRegistry) {
        labels = Self.labels(of: plan)
        events = registry.counter(EngineMetrics.events, labels)
        receptionLatency = registry.histogram(EngineMetrics.receptionLatency, labels)
        invocations = registry.counter(EngineMetrics.invocations, labels)
        invokeDuration = registry.histogram(EngineMetrics.invokeDuration, labels)
        errors = registry.counter(EngineMetrics.errors, labels)
        retries = registry.counter(EngineMetrics.retries, labels)
        deadLetters = registry.counter(EngineMetrics.deadLetters, labels)
    }

    static func labels(of plan: DeploymentPlan) -> [String: String] {
        [
            "pipeline_name": plan.pipelineName, "function_name": plan.functionName,
            "function_deployment_name": plan.name,
        ]
    }

    /// Events came in, each so many microseconds after its time.
    func received(_ latencies: [Int64]) {
        if latencies.isEmpty { return }
        events.add(Int64(latencies.count))
        for latency in latencies { receptionLatency.record(latency) }
    }

    /// Calls of the handler ended.
    func finished(_ attempts: [FinishedAttempt]) {
        var failed: Int64 = 0
        var again: Int64 = 0
        for attempt in attempts {
            invokeDuration.record(attempt.result.durationMicros)
            guard attempt.result.status != .ok else { continue }
            failed += 1
            if !attempt.isLastAttempt { again += 1 }
        }
        invocations.add(Int64(attempts.count))
        if failed > 0 { errors.add(failed) }
        if again > 0 { retries.add(again) }
    }

    /// Events are in the dead-letter topic.
    func gaveUp(_ count: Int) { deadLetters.add(Int64(count)) }
}

extension PipelineRuntime: MetricSource {
    /// Gauges of the deployments that run.
    package func readings() async -> [MetricReading] { allRunners.flatMap(\.readings) }

    /// Labels of the deployments that run, by the consumer groups they read with.
    package func groupOwners() -> [String: [String: String]] {
        var owners: [String: [String: String]] = [:]
        for runner in allRunners {
            for input in runner.plan.inputs { owners[input.group] = DeploymentMetrics.labels(of: runner.plan) }
        }
        return owners
    }
}
