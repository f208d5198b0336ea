// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore
import Pipelines
import Testing

struct ManifestGraphTests {
    private func manifest(_ triggers: [String], _ functions: [String], _ links: [(String, String)]) -> PipelineManifest
    {
        var manifest = PipelineManifest()
        manifest.triggers = triggers.map { .init(name: $0, trigger: $0) }
        manifest.functionDeployments = functions.map { .init(name: $0, function: "f") }
        manifest.links = links.map { .init(source: [$0.0], destination: [$0.1]) }
        return manifest
    }

    private func messages(_ manifest: PipelineManifest) -> [String] {
        PipelineGraph.faults(in: manifest).map { "\($0.field): \($0.message)" }
    }

    @Test func namesThePathOfACycle() {
        let manifest = manifest(["t"], ["a", "b", "c"], [("t", "a"), ("a", "b"), ("b", "c"), ("c", "b")])
        #expect(messages(manifest) == ["links[3]: the links form a cycle: b → c → b"])
        let own = self.manifest(["t"], ["a"], [("t", "a"), ("a", "a")])
        #expect(messages(own) == ["links[1]: the links form a cycle: a → a"])
    }

    @Test func findsCyclesThatNoTriggerReaches() {
        let manifest = manifest([], ["a", "b", "x"], [("a", "b"), ("b", "a")])
        #expect(messages(manifest).count == 1)
    }

    @Test func refusesATriggerAsDestinationUnknownEndsAndRepeatedNames() {
        let found = messages(manifest(["t", "a"], ["a", "bee"], [("t", "t"), ("a", "be"), ("zzz", "bee")]))
        #expect(
            found == [
                "function_deployments[0].name: instance name 'a' is used already by triggers[1]",
                "links[0].destination[0]: 't' is a trigger, and nothing can lead to a trigger",
                "links[1].destination[0]: no function deployment named 'be' in this manifest",
                "links[2].source[0]: no instance named 'zzz' in this manifest",
            ]
        )
    }

    @Test func refusesTheSameEdgeTwiceUnlessItsLabelsDiffer() {
        var manifest = manifest(["t"], ["a"], [("t", "a"), ("t", "a")])
        #expect(messages(manifest).count == 1)
        manifest.links[1].labels = ["kind": "x"]
        #expect(messages(manifest).isEmpty)
        manifest.links[0].source = ["t", "t"]
        #expect(messages(manifest).count == 1)
    }

    @Test func allowsDisjointFlowsAndOrdersDeployments() throws {
        let graph = try PipelineGraph(
            manifest(["t", "u"], ["z", "y", "x", "w"], [("t", "x"), ("x", "y"), ("y", "z"), ("x", "z"), ("u", "w")])
        )
        #expect(graph.warnings.isEmpty)
        let place = Dictionary(uniqueKeysWithValues: graph.order.enumerated().map { ($1, $0) })
        #expect(graph.order.count == 4)
        for edge in graph.edges {
            guard let from = place[edge.source], let to = place[edge.destination] else { continue }
            #expect(from < to)
        }
        #expect(graph.edges(from: "x").map(\.destination) == ["y", "z"])
        #expect(graph.edges(to: "z").map(\.source) == ["y", "x"])
        try graph.checkDeployable()
    }

    @Test func warnsOfWhatNoEventReaches() throws {
        let graph = try PipelineGraph(manifest(["t", "lonely"], ["a", "b", "c"], [("t", "a"), ("b", "c")]))
        #expect(graph.warnings.map(\.field) == ["triggers[1]", "function_deployments[1]", "function_deployments[2]"])
    }

    @Test func aDraftMayBeEmptyAndADeploymentMayNot() throws {
        for manifest in [manifest([], [], []), manifest(["t"], ["a"], []), manifest([], ["a", "b"], [("a", "b")])] {
            let graph = try PipelineGraph(manifest)
            let error = #expect(throws: ServiceError.self) { try graph.checkDeployable() }
            #expect(error?.code == .failedPrecondition)
        }
    }

    @Test func boundsTheNumberOfEdges() {
        var manifest = manifest(["t"], [], [])
        let names = (0..<500).map { "f\($0)" }
        manifest.functionDeployments = names.map { .init(name: $0, function: "f") }
        manifest.links = [.init(source: names, destination: names)]
        #expect(messages(manifest).first?.hasPrefix("links: the links have 250000 edges") == true)
    }

    @Test(.timeLimit(.minutes(5))) func aLongChainIsNoProblem() throws {
        let names = (0..<5000).map { "f\($0)" }
        var links = zip(names, names.dropFirst()).map { ($0, $1) }
        links.insert(("t", "f0"), at: 0)
        let graph = try PipelineGraph(manifest(["t"], names, links))
        #expect(graph.order == names)
        let cycle = messages(manifest(["t"], names, links + [("f4999", "f0")]))
        #expect(cycle.count == 1)
        #expect(cycle[0].contains("f0 → f1"))
        #expect(cycle[0].contains("…"))
    }
}
