// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore

/// Turns a manifest into plans: functions resolved to bundles, links to topics and consumer groups.
struct PlanBuilder {
    let catalog: Catalog
    let authority: String

    /// The topic a deployment's results go to.
    static func outputTopic(pipelineGuid: String, deployment: String) -> String {
        "__pipeline.\(pipelineGuid).\(topicSafe(deployment))"
    }

    /// The topic dead letters of a pipeline are put back through.
    static func redriveTopic(pipelineGuid: String) -> String { "__pipeline.\(pipelineGuid)" }

    /// What every consumer group of a pipeline starts with.
    static func groupPrefix(pipelineGuid: String) -> String { "__pipeline.\(pipelineGuid)." }

    /// Plans for every deployment of `graph`, in topological order.
    ///
    /// - Throws: `ServiceError` `.notFound` for a trigger, function, revision or secret that is gone; `.failedPrecondition` for a local revision.
    func plans(
        for pipeline: Resource<PipelineSpec>,
        _ graph: PipelineGraph,
        pinned: [String: Int] = [:]
    ) async throws -> [DeploymentPlan] {
        var plans = [DeploymentPlan]()
        let manifest = graph.manifest
        for deployment in manifest.functionDeployments {
            let revision = try await revision(of: deployment, pinned: pinned[deployment.name])
            let outgoing = graph.edges(from: deployment.name)
            var downstream: [String: [String: String]] = [:]
            for edge in outgoing { downstream[edge.destination] = manifest.links[edge.link].labels }
            let own = Set(deployment.environmentVariables.map(\.name))
            plans.append(
                DeploymentPlan(
                    pipelineName: pipeline.name,
                    pipelineGuid: pipeline.guid,
                    deployment: deployment,
                    revision: revision.spec.revisionNumber,
                    bundleDigest: revision.spec.bundleDigest,
                    environment: manifest.environmentVariables.filter { !own.contains($0.name) }
                        + deployment.environmentVariables,
                    secrets: (manifest.secrets + deployment.secrets).reduce(into: []) {
                        if !$0.contains($1) { $0.append($1) }
                    },
                    inputs: try await inputs(of: deployment, pipeline, graph),
                    outputTopic: outgoing.isEmpty
                        ? nil : Self.outputTopic(pipelineGuid: pipeline.guid, deployment: deployment.name),
                    downstream: downstream
                )
            )
        }
        return plans
    }

    private func revision(
        of deployment: PipelineManifest.FunctionDeployment,
        pinned: Int?
    ) async throws -> Resource<
        FunctionRevisionSpec
    > {
        let function = try await catalog.functions.get(deployment.function)
        let number =
            pinned ?? deployment.revision ?? function.spec.defaultRevisionNumber
            ?? function.spec.lastPublishedRevisionNumber
        guard let number else {
            throw ServiceError(
                .failedPrecondition,
                "function '\(function.name)' has no published revision",
                fix: "publish one with: martlet functions publish \(function.name)"
            )
        }
        guard let revision = try await catalog.functionRevisions.find(functionGuid: function.guid, number: number)
        else {
            throw ServiceError(
                .notFound,
                "function '\(function.name)' has no revision \(number), which deployment '\(deployment.name)' asks for",
                fix: "list what exists with: martlet functions get \(function.name) --with-revisions"
            )
        }
        guard revision.spec.isPublished else {
            throw ServiceError(
                .failedPrecondition,
                "revision \(number) of function '\(function.name)' is not published, so a pipeline cannot use it",
                fix: "publish it with: martlet functions publish \(function.name) --revision \(number)"
            )
        }
        return revision
    }

    private func inputs(
        of deployment: PipelineManifest.FunctionDeployment,
        _ pipeline: Resource<PipelineSpec>,
        _ graph: PipelineGraph
    ) async throws -> [DeploymentPlan.Input] {
        var inputs = [DeploymentPlan.Input]()
        var groups = Set<String>()
        let incoming = graph.edges(to: deployment.name)
        for edge in incoming {
            let link = graph.manifest.links[edge.link]
            var group = Self.groupPrefix(pipelineGuid: pipeline.guid) + "\(edge.source).\(deployment.name)"
            while !groups.insert(group).inserted { group += "+" }
            let source = try await source(edge.source, link, pipeline, graph)
            inputs.append(
                DeploymentPlan.Input(
                    source: edge.source,
                    topic: source.topic,
                    group: group,
                    filter: source.filter,
                    retries: link.retries,
                    isOrdered: link.eventsOrder == .ordered,
                    batching: link.batching
                )
            )
        }
        inputs.append(
            DeploymentPlan.Input(
                source: "redrive",
                topic: Self.redriveTopic(pipelineGuid: pipeline.guid),
                group: Self.groupPrefix(pipelineGuid: pipeline.guid) + "redrive.\(deployment.name)",
                filter: .redrive(deployment: deployment.name),
                retries: incoming.first.map { graph.manifest.links[$0.link].retries } ?? 3,
                isOrdered: false,
                batching: incoming.first.flatMap { graph.manifest.links[$0.link].batching }
            )
        )
        return inputs
    }

    private func source(
        _ instance: String,
        _ link: PipelineManifest.Link,
        _ pipeline: Resource<PipelineSpec>,
        _ graph: PipelineGraph
    ) async throws -> (topic: String, filter: DeploymentPlan.Input.Filter) {
        guard let use = graph.manifest.triggers.first(where: { $0.name == instance }) else {
            return (Self.outputTopic(pipelineGuid: pipeline.guid, deployment: instance), .labels(link.labels))
        }
        let trigger = try await catalog.triggers.get(use.trigger)
        if let topic = link.topic, topic != trigger.spec.topicName {
            throw ServiceError(
                .failedPrecondition,
                "a link from trigger '\(trigger.name)' names topic '\(topic)', but the trigger's events go to '\(trigger.spec.topicName)'",
                fix: "leave topic out of the link, or change the trigger's topic"
            )
        }
        return (trigger.spec.topicName, .source("\(authority):\(trigger.name).\(trigger.guid)", labels: link.labels))
    }

    private static func topicSafe(_ name: String) -> String {
        String(
            name.map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" || $0 == ".") ? $0 : "_" }
        )
    }
}
