// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import MartletCore
import Synchronization

/// Tells what happens in the engine's own stores as events; keeps what happens before there is a sink for it.
final class EngineEvents: Sendable {
    private static let waitingMax = 1000

    private struct State {
        var sink: (any TelemetrySink)?
        var waiting: [EngineEvent] = []
    }

    private let state = Mutex(State())

    /// From now on events go to this sink.
    func connect(_ sink: any TelemetrySink) {
        let waiting = state.withLock { state in
            state.sink = sink
            defer { state.waiting = [] }
            return state.waiting
        }
        if !waiting.isEmpty { sink.record(events: waiting) }
    }

    func record(_ event: EngineEvent) {
        let sink = state.withLock { state in
            if state.sink == nil, state.waiting.count < Self.waitingMax { state.waiting.append(event) }
            return state.sink
        }
        sink?.record(events: [event])
    }

    func partitionStopped(_ partition: TopicPartition, _ reason: String) {
        record(
            EngineEvent(
                "Partition",
                "Stopped",
                "\(partition.topic)/\(partition.partition)",
                severity: .fatal,
                reason,
                details: ["topic": partition.topic, "partition": "\(partition.partition)"]
            )
        )
    }

    /// Tells of a resource that was made, changed or removed.
    func note(_ change: ResourceChange) {
        if let event = Self.event(change) { record(event) }
    }

    private static func event(_ change: ResourceChange) -> EngineEvent? {
        let name = change.name
        switch (change.kind, change.before, change.after) {
        case (.pipelineRevisions, _, _): return nil  // The pipeline itself changes with them.
        case (.functionRevisions, let before as FunctionRevisionSpec?, let after as FunctionRevisionSpec?):
            return revision(before, after)
        case (.pipelines, let before as PipelineSpec, let after as PipelineSpec):
            return pipeline(name, before, after)
        case (.functions, .some, .some): return nil  // Only its numbers of revisions change.
        default: break
        }
        let kind = kinds[change.kind] ?? change.kind.rawValue
        let noun = change.kind.noun
        var details = ["owner": change.owner]
        switch change.after ?? change.before {
        case let trigger as TriggerSpec: details["topic"] = trigger.topicName
        case let table as TableSpec: details["topic"] = table.topic
        case let topic as TopicSpec: details["partitions"] = "\(topic.partitions)"
        default: break
        }
        let pipeline = change.kind == .pipelines ? name : nil
        let function = change.kind == .functions ? name : nil
        func event(_ action: String, _ verb: String) -> EngineEvent {
            EngineEvent(
                kind,
                action,
                name,
                "\(noun) '\(name)' was \(verb)",
                pipeline: pipeline,
                function: function,
                details: details
            )
        }
        if change.before == nil { return event("Created", "created") }
        return change.after == nil ? event("Deleted", "deleted") : event("Updated", "changed")
    }

    private static let kinds: [ResourceKind: String] = [
        .views: "View", .triggers: "Trigger", .functions: "Function", .pipelines: "Pipeline", .topics: "Topic",
        .secrets: "Secret", .tables: "Table",
    ]

    private static func revision(_ before: FunctionRevisionSpec?, _ after: FunctionRevisionSpec?) -> EngineEvent? {
        guard let spec = after else { return nil }  // Revisions go with their function.
        let action: (String, String)
        switch before {
        case nil: action = ("RevisionBuilt", "was built")
        case let before? where !before.isPublished && spec.isPublished: action = ("RevisionPublished", "was published")
        default: return nil
        }
        return EngineEvent(
            "Function",
            action.0,
            spec.functionName,
            "revision \(spec.revisionNumber) of function '\(spec.functionName)' \(action.1)",
            function: spec.functionName,
            details: [
                "revision": "\(spec.revisionNumber)", "published": "\(spec.isPublished)", "bundle": spec.bundleDigest,
            ]
        )
    }

    /// A new manifest; the steps of a deployment are told by what takes them.
    private static func pipeline(_ name: String, _ before: PipelineSpec, _ after: PipelineSpec) -> EngineEvent? {
        guard before.lastRevisionNumber != after.lastRevisionNumber else { return nil }
        return EngineEvent(
            "Pipeline",
            "Updated",
            name,
            "manifest \(after.lastRevisionNumber) of pipeline '\(name)' was stored",
            pipeline: name,
            details: ["revision": "\(after.lastRevisionNumber)"]
        )
    }
}
