// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
package import MartletCore

extension PipelineGraph {
    /// Everything that keeps a manifest from being a graph, in the order of the manifest.
    package static func faults(in manifest: PipelineManifest) -> [Fault] {
        var faults: [Fault] = []
        let triggers = Set(manifest.triggers.map(\.name))
        let deployments = Set(manifest.functionDeployments.map(\.name))
        let all = triggers.union(deployments)
        faults += repeatedNames(manifest)
        let edgeCount = manifest.links.reduce(0) { sum, link in
            sum &+ min(link.source.count, edgesMax) * min(link.destination.count, edgesMax)
        }
        guard edgeCount <= edgesMax else {
            let message = "the links have \(edgeCount) edges, every source counted with every destination"
            return faults + [Fault(field: "links", message: message, fix: "write at most \(edgesMax)")]
        }
        var seen: [EdgeKey: Int] = [:]
        for (index, link) in manifest.links.enumerated() {
            faults += unknownEnds(link, index, triggers: triggers, deployments: deployments, all: all)
            for source in link.source {
                for destination in link.destination {
                    let key = EdgeKey(source: source, destination: destination, labels: link.labels)
                    guard let first = seen.updateValue(index, forKey: key) else { continue }
                    let message =
                        first == index
                        ? "'\(source)' is joined to '\(destination)' twice in this link"
                        : "'\(source)' is joined to '\(destination)' already by links[\(first)], so every event would come twice"
                    faults.append(Fault(field: "links[\(index)]", message: message, fix: "remove one of them"))
                }
            }
        }
        return faults + cycles(manifest, deployments: deployments)
    }

    private struct EdgeKey: Hashable {
        let source: String
        let destination: String
        let labels: [String: String]
    }

    private static func repeatedNames(_ manifest: PipelineManifest) -> [Fault] {
        var faults: [Fault] = []
        var first: [String: String] = [:]
        let names =
            manifest.triggers.enumerated().map { ("triggers[\($0)].name", $1.name) }
            + manifest.functionDeployments.enumerated().map { ("function_deployments[\($0)].name", $1.name) }
        for (field, name) in names where !name.isEmpty {
            if let earlier = first[name] {
                faults.append(
                    Fault(
                        field: field,
                        message: "instance name '\(name)' is used already by \(earlier.dropLast(5))",
                        fix: "give every trigger and function deployment of a pipeline a name of its own"
                    )
                )
            } else {
                first[name] = field
            }
        }
        return faults
    }

    private static func unknownEnds(
        _ link: PipelineManifest.Link,
        _ index: Int,
        triggers: Set<String>,
        deployments: Set<String>,
        all: Set<String>
    ) -> [Fault] {
        var faults: [Fault] = []
        for (position, name) in link.source.enumerated() where !all.contains(name) {
            faults.append(unknown(name, field: "links[\(index)].source[\(position)]", "instance", among: all))
        }
        for (position, name) in link.destination.enumerated() where !deployments.contains(name) {
            let field = "links[\(index)].destination[\(position)]"
            if triggers.contains(name) {
                faults.append(
                    Fault(
                        field: field,
                        message: "'\(name)' is a trigger, and nothing can lead to a trigger",
                        fix: "name a function deployment as the destination"
                    )
                )
            } else {
                faults.append(unknown(name, field: field, "function deployment", among: deployments))
            }
        }
        return faults
    }

    private static func unknown(_ name: String, field: String, _ what: String, among names: Set<String>) -> Fault {
        let names = names.filter { !$0.isEmpty }.sorted()
        let fix: String
        if let near = NearestName.of(name, among: names) {
            fix = "write '\(near)'"
        } else if names.isEmpty {
            fix = "add it to the manifest"
        } else {
            fix = "write one of \(names.prefix(20).joined(separator: ", "))"
        }
        return Fault(field: field, message: "no \(what) named '\(name.prefix(140))' in this manifest", fix: fix)
    }

    /// One fault for each edge that closes a cycle, found by a depth-first walk without recursion.
    private static func cycles(_ manifest: PipelineManifest, deployments: Set<String>) -> [Fault] {
        var next: [String: [(link: Int, name: String)]] = [:]
        for (index, link) in manifest.links.enumerated() {
            for source in link.source where deployments.contains(source) {
                next[source, default: []] += link.destination.filter(deployments.contains).map { (index, $0) }
            }
        }
        var faults: [Fault] = []
        var finished: Set<String> = []
        var places: [String: Int] = [:]
        for start in manifest.functionDeployments.map(\.name) where !finished.contains(start) {
            var path: [(name: String, edge: Int)] = [(start, 0)]
            places[start] = 0
            while let top = path.last {
                guard let edges = next[top.name], top.edge < edges.count else {
                    finished.insert(top.name)
                    places[top.name] = nil
                    path.removeLast()
                    continue
                }
                path[path.count - 1].edge += 1
                let edge = edges[top.edge]
                if let place = places[edge.name] {
                    faults.append(cycle(path[place...].map(\.name) + [edge.name], link: edge.link))
                } else if !finished.contains(edge.name) {
                    places[edge.name] = path.count
                    path.append((edge.name, 0))
                }
            }
        }
        return faults
    }

    private static func cycle(_ names: [String], link: Int) -> Fault {
        let shown = names.count > 20 ? Array(names.prefix(10)) + ["…"] + names.suffix(9) : names
        return Fault(
            field: "links[\(link)]",
            message: "the links form a cycle: \(shown.joined(separator: " → "))",
            fix: "remove one link of the cycle; an event would go round for ever"
        )
    }
}
