// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// A pipeline's checked graph: instances joined by edges, without cycles.
package struct PipelineGraph: Sendable {
    /// Something that keeps a manifest from being a graph.
    package struct Fault: Sendable, Equatable {
        /// Path inside the manifest, for example `links[0].source[1]`.
        package var field: String
        /// What is wrong, with the offending name.
        package var message: String
        /// What to do about it.
        package var fix: String
    }

    /// One source and one destination of a link.
    package struct Edge: Sendable, Hashable {
        /// Index of the link in the manifest.
        package var link: Int
        /// Instance the events come from.
        package var source: String
        /// Function deployment they go to.
        package var destination: String
    }

    /// Most edges a manifest may have, every source of a link counted with every destination.
    package static let edgesMax = 20_000

    /// The manifest the graph was made of.
    package let manifest: PipelineManifest
    /// Edges in the order of links, sources and destinations.
    package let edges: [Edge]
    /// Function deployments, each after everything that leads to it.
    package let order: [String]
    /// What is allowed and probably not meant: instances that no event can reach or leave.
    package let warnings: [Fault]
    private let outgoing: [String: [Edge]]
    private let incoming: [String: [Edge]]

    /// Makes the graph of a manifest.
    ///
    /// - Throws: `.invalid` with all faults.
    package init(_ manifest: PipelineManifest) throws(ServiceError) {
        let faults = Self.faults(in: manifest)
        if let first = faults.first {
            throw ServiceError(
                .invalid,
                "\(first.field): \(first.message)",
                fix: first.fix,
                fields: faults.map { .init(field: $0.field, message: $0.message, fix: $0.fix) }
            )
        }
        self.manifest = manifest
        edges = Self.edges(of: manifest)
        outgoing = Dictionary(grouping: edges, by: \.source)
        incoming = Dictionary(grouping: edges, by: \.destination)
        order = Self.topologicalOrder(manifest, outgoing: outgoing)
        warnings = Self.warnings(manifest, outgoing: outgoing, edges: edges)
    }

    /// Edges that leave an instance.
    package func edges(from instance: String) -> [Edge] { outgoing[instance] ?? [] }

    /// Edges that lead to an instance.
    package func edges(to instance: String) -> [Edge] { incoming[instance] ?? [] }

    /// Checks what a draft may lack and a running pipeline may not: a link that starts at a trigger.
    ///
    /// - Throws: `.failedPrecondition`.
    package func checkDeployable() throws(ServiceError) {
        // A pipeline can be tables alone: its triggers' events are all they need.
        if manifest.functionDeployments.isEmpty, edges.isEmpty, !manifest.tables.isEmpty { return }
        guard !manifest.functionDeployments.isEmpty, !edges.isEmpty else {
            throw ServiceError(
                .failedPrecondition,
                "the pipeline is an empty draft: it has \(manifest.triggers.count) triggers, "
                    + "\(manifest.functionDeployments.count) function deployments and \(manifest.links.count) links",
                fix: "add at least one trigger, one function deployment and a link between them, then deploy"
            )
        }
        let triggers = Set(manifest.triggers.map(\.name))
        guard edges.contains(where: { triggers.contains($0.source) }) else {
            throw ServiceError(
                .failedPrecondition,
                "no link starts at a trigger, so no event could enter the pipeline",
                fix: "add a link from a trigger to a function deployment, then deploy"
            )
        }
    }

    private static func edges(of manifest: PipelineManifest) -> [Edge] {
        manifest.links.enumerated().flatMap { index, link in
            link.source.flatMap { source in
                link.destination.map { Edge(link: index, source: source, destination: $0) }
            }
        }
    }

    private static func topologicalOrder(_ manifest: PipelineManifest, outgoing: [String: [Edge]]) -> [String] {
        var missing: [String: Int] = [:]
        for edge in outgoing.values.joined() { missing[edge.destination, default: 0] += 1 }
        var ready = (manifest.triggers.map(\.name) + manifest.functionDeployments.map(\.name)).filter {
            missing[$0] == nil
        }
        var position = 0
        while position < ready.count {
            for edge in outgoing[ready[position]] ?? [] {
                guard let left = missing[edge.destination] else { continue }
                missing[edge.destination] = left - 1
                if left == 1 { ready.append(edge.destination) }
            }
            position += 1
        }
        let triggers = Set(manifest.triggers.map(\.name))
        return ready.filter { !triggers.contains($0) }
    }

    private static func warnings(
        _ manifest: PipelineManifest,
        outgoing: [String: [Edge]],
        edges: [Edge]
    ) -> [Fault] {
        var warnings: [Fault] = []
        for (index, trigger) in manifest.triggers.enumerated() where outgoing[trigger.name] == nil {
            warnings.append(
                Fault(
                    field: "triggers[\(index)]",
                    message: "no link leaves trigger '\(trigger.name)', so its events go nowhere",
                    fix: "add a link with source [\(trigger.name)], or remove the trigger"
                )
            )
        }
        var reached = Set(manifest.triggers.map(\.name))
        var queue = Array(reached)
        while let next = queue.popLast() {
            for edge in outgoing[next] ?? [] where reached.insert(edge.destination).inserted {
                queue.append(edge.destination)
            }
        }
        for (index, deployment) in manifest.functionDeployments.enumerated() where !reached.contains(deployment.name) {
            warnings.append(
                Fault(
                    field: "function_deployments[\(index)]",
                    message: "no event reaches '\(deployment.name)': no path leads to it from a trigger",
                    fix: "add a link with destination [\(deployment.name)], or remove it"
                )
            )
        }
        return warnings
    }
}
