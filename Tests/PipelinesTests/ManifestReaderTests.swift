// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import MartletCore
import Pipelines
import Testing

struct ManifestReaderTests {
    private func manifest(_ text: String) throws(ServiceError) -> PipelineManifest {
        try PipelineManifestReader.read(try DocumentParser.parse(text)).manifest
    }

    private func faults(_ text: String) -> [ServiceError.FieldError] {
        do {
            _ = try manifest(text)
            return []
        } catch {
            return error.fields
        }
    }

    @Test func thereAreTenFixturesOrMore() {
        #expect(ManifestFixtures.names().count >= 10)
    }

    @Test(arguments: ManifestFixtures.names()) func everyFixtureReadsAndItsCanonicalFormReadsBackEqual(name: String)
        throws
    {
        let read = try ManifestFixtures.read(name)
        let text = PipelineManifestWriter.yaml(name: read.name, tags: read.tags, manifest: read.manifest)
        let again = try PipelineManifestReader.read(try DocumentParser.parse(text, contentType: "application/yaml"))
        #expect(again.manifest == read.manifest, "\(text)")
        #expect(again.name == read.name)
        #expect(again.tags == read.tags)
        #expect(PipelineManifestWriter.yaml(name: again.name, tags: again.tags, manifest: again.manifest) == text)
    }

    @Test(arguments: ManifestFixtures.names()) func theStoredJSONFormReadsBackEqual(name: String) throws {
        let manifest = try ManifestFixtures.read(name).manifest
        let bytes = Array(try ResourceCoding.encoder().encode(manifest))
        let again = try PipelineManifestReader.read(try DocumentParser.parse(bytes, contentType: "application/json"))
        #expect(again.manifest == manifest)
    }

    @Test func readsEverySetting() throws {
        let manifest = try ManifestFixtures.read("full.yaml").manifest
        #expect(manifest.environmentVariables.map(\.value) == ["http://storage:9000", "1.10"])
        #expect(manifest.secrets == ["storage-keys"])
        #expect(manifest.triggers.map(\.trigger) == ["new-file", "nightly"])
        let inspect = manifest.functionDeployments[0]
        #expect(inspect.name == "inspect-1")
        #expect(inspect.function == "inspect")
        #expect(inspect.revision == 3)
        #expect(inspect.logLevel == "DEBUG")
        #expect(inspect.resources.minConcurrency == 0)
        #expect(inspect.resources.maxConcurrency == 4)
        #expect(inspect.resources.autoscalingRpsFactor == 2)
        #expect(inspect.resources.minCpuMillis == 250)
        #expect(inspect.resources.maxCpuMillis == 1000)
        #expect(inspect.resources.minMemoryBytes == 256 << 20)
        #expect(inspect.resources.maxMemoryBytes == 1 << 30)
        #expect(inspect.resources.timeoutSeconds == 120)
        #expect(inspect.resources.storageBytes == 2 << 30)
        #expect(inspect.secrets == ["inspect-keys"])
        #expect(manifest.functionDeployments[1].revision == nil)
        #expect(manifest.functionDeployments[1].resources == PipelineManifest.Resources())
        #expect(manifest.links[0].topic == "elements")
        #expect(manifest.links[0].retries == 5)
        #expect(manifest.links[0].eventsOrder == .ordered)
        #expect(manifest.links[1].topic == nil)
        #expect(manifest.links[1].retries == 0)
    }

    @Test func readsTheOtherSpellings() throws {
        let nested = try ManifestFixtures.read("nested-resources.yaml").manifest.functionDeployments[0]
        #expect(nested.logLevel == "WARNING")
        #expect(nested.resources.timeoutSeconds == 300)
        #expect(nested.resources.minCpuMillis == 500)
        #expect(nested.resources.maxCpuMillis == 2000)
        #expect(nested.resources.minMemoryBytes == 1_000_000_000)
        #expect(nested.environmentVariables.map(\.value) == ["high", "007", "", "true"])
        let bare = try ManifestFixtures.read("unwrapped.yaml").manifest
        #expect(bare.triggers.map(\.trigger) == ["uploads", "uploads"])
        #expect(bare.functionDeployments.map(\.function) == ["thumbnails", "thumbnails"])
        #expect(bare.functionDeployments.map(\.revision) == [2, nil])
        let batching = try ManifestFixtures.read("batching.yaml").manifest
        #expect(batching.links.map(\.batching?.size) == [500, 10, 100])
        #expect(batching.links.map(\.batching?.timeoutMilliseconds) == [250, 2000, 500])
        #expect(batching.functionDeployments.map(\.workerConcurrency) == [4, 1, 20])
        #expect(batching.functionDeployments.map(\.idleSeconds) == [30, 60, 60])
        let anchors = try ManifestFixtures.read("anchors.yaml").manifest
        #expect(anchors.environmentVariables.map { "\($0.name)=\($0.value)" } == ["A=1", "B=two", "C=three"])
        #expect(anchors.secrets == ["storage-keys", "other-keys"])
        #expect(anchors.functionDeployments.map(\.name) == ["first", "second", "third"])
        #expect(anchors.functionDeployments.map(\.resources.maxCpuMillis) == [100, 100, 100])
        #expect(anchors.functionDeployments[2].resources.timeoutSeconds == 5)
        #expect(try ManifestFixtures.read("labels.yaml").manifest.links[1].labels == ["kind": "image", "yes": "no"])
    }

    @Test func oneBoundAloneMovesTheOther() throws {
        let text = """
            function_deployments:
              - {name: a, function_vrn: f, resources: {min_memory: 1Gi, max_cpu: 50m, min_concurrency: 20}}
            """
        let resources = try manifest(text).functionDeployments[0].resources
        #expect(resources.maxMemoryBytes == 1 << 30)
        #expect(resources.minCpuMillis == 50)
        #expect(resources.maxConcurrency == 20)
    }

    @Test func reportsAllFaultsAtOnceWithLineFieldAndFix() throws {
        let faults = faults(
            """
            name: bad name
            manifest:
              triggers:
                - {name: t, vrn: "vast:dataengine:functions:t"}
              function_deployments:
                - name: f
                  function_vrn: vast:dataengine:functions:f
                  revision: newest
                  config: {log_level: LOUD}
                  resources: {min_cpu: lots, max_concurrency: 0, timeout: 3601, max_memery: 1Gi}
                - {name: f, function_vrn: g}
              links:
                - {source: [t], destination: [ff], config: {retries: 11, events_order: sorted}}
            """
        )
        let shown = faults.map { "\($0.line ?? 0) \($0.field)" }.sorted()
        #expect(
            shown == [
                "1 name", "10 manifest.function_deployments[0].resources.max_concurrency",
                "10 manifest.function_deployments[0].resources.max_memery",
                "10 manifest.function_deployments[0].resources.min_cpu",
                "10 manifest.function_deployments[0].resources.timeout", "11 manifest.function_deployments[1].name",
                "13 manifest.links[0].config.events_order", "13 manifest.links[0].config.retries",
                "13 manifest.links[0].destination[0]", "4 manifest.triggers[0].vrn",
                "8 manifest.function_deployments[0].revision", "9 manifest.function_deployments[0].config.log_level",
            ]
        )
        #expect(faults.allSatisfy { $0.fix != nil })
        #expect(faults.first { $0.field.hasSuffix("max_memery") }?.fix == "write 'max_memory'")
    }

    @Test(arguments: [
        ("resources: {timeout: 0}", "timeout"), ("resources: {timeout: 1.5}", "timeout"),
        ("resources: {timeout: 10}, config: {timeout: 20}", "timeout"),
        ("resources: {min_concurrency: 3, max_concurrency: 2}", "max_concurrency"),
        ("resources: {min_cpu: 2, max_cpu: 1}", "max_cpu"), ("resources: {max_memory: 1Xi}", "max_memory"),
        ("resources: {max_memory: -1Gi}", "max_memory"), ("resources: {max_memory: 1e300Ti}", "max_memory"),
        ("resources: [1]", "resources"), ("revision: 0", "revision"), ("revision: 1.5", "revision"),
        ("worker_concurrency: 0", "worker_concurrency"), ("idle_seconds: -1", "idle_seconds"),
        ("environment_variables: {1A: x}", "environment_variables.1A"),
        ("environment_variables: [{name: A, value: 1}, {name: A, value: 2}]", "environment_variables[1]"),
        ("environment_variables: [nonsense]", "environment_variables[0]"),
        ("environment_variables: {A: [1]}", "environment_variables.A"), ("secrets: [[]]", "secrets[0]"),
        ("colour: red", "colour"),
    ]) func refusesWhatIsOutOfBounds(settings: String, field: String) throws {
        let faults = faults("function_deployments:\n  - {name: a, function_vrn: f, \(settings)}\n")
        #expect(faults.contains { $0.field.hasSuffix(field) && $0.line == 2 }, "\(faults)")
    }

    @Test(arguments: [
        ("name: x", false), ("{description: y, tags: [a], manifest: null}", false), ("manifest: {}", true),
        ("links: []", true),
    ]) func tellsAnUpdateOfTheGraphFromOneOfTheDescription(text: String, has: Bool) throws {
        #expect(PipelineManifestReader.hasManifest(try DocumentParser.parse(text)) == has)
    }

    @Test func tellsWhereEveryReferenceStands() throws {
        let text = """
            name: p
            manifest:
              config: {secrets: [shared]}
              triggers:
                - vrn: "vast:dataengine:triggers:up"
                - other
              functions:
                - name: a
                  function: split
                  revision: 99
                  config:
                    secrets: shared, own
            """
        let references = try PipelineManifestReader.read(try DocumentParser.parse(text)).references
        let places = references.places.map { place in
            let revision = place.revision.map { "@\($0)" } ?? ""
            return "\(place.target.kind.rawValue)/\(place.target.name)\(revision) \(place.field):\(place.line ?? 0)"
        }
        #expect(
            places.sorted() == [
                "functions/split manifest.functions[0].function:9",
                "functions/split@99 manifest.functions[0].revision:10",
                "secrets/own manifest.functions[0].config.secrets:12",
                "secrets/shared manifest.config.secrets[0]:3",
                "secrets/shared manifest.functions[0].config.secrets:12",
                "triggers/other manifest.triggers[1].vrn:6",
                "triggers/up manifest.triggers[0].vrn:5",
            ]
        )
        let all = #expect(throws: ServiceError.self) {
            try references.check(pipeline: "p") { _ in .init(message: "gone", fix: "make it") }
        }
        #expect(all?.code == .notFound)
        #expect(all?.message == "the pipeline 'p' needs 7 things that do not exist")
        #expect(all?.fields.count == 7)
        let one = #expect(throws: ServiceError.self) {
            try references.check(pipeline: "p") { place in
                place.revision == 99 ? .init(message: "no revision 99", fix: "use 1") : nil
            }
        }
        #expect(one?.message == "line 10, manifest.functions[0].revision: no revision 99")
        #expect(one?.fix == "use 1")
        try references.check(pipeline: "p") { _ in nil }
    }

    @Test func severalFaultsAreCountedAndHaveTheirOwnFixes() throws {
        let error = #expect(throws: ServiceError.self) {
            try manifest("function_deploymnets: []\nlinks: 5\n")
        }
        #expect(error?.message == "the pipeline has 2 errors")
        #expect(error?.fix == nil)
        #expect(error?.fields.allSatisfy { $0.fix != nil && $0.line != nil } == true)
    }

    @Test func refusesFieldsBesideTheWrapper() throws {
        let faults = faults("manifest: {triggers: []}\nlinks: []\n")
        #expect(faults.map(\.field) == ["links"])
        #expect(faults.first?.line == 2)
    }

    @Test(arguments: ["", "null", "[]", "12", "manifest: 3", "manifest: [x]", "triggers: 5", "links: {a: b}"])
    func refusesWhatIsNoManifest(text: String) throws {
        if text == "manifest: 3" || text == "manifest: [x]" || text == "links: {a: b}" || text == "triggers: 5" {
            #expect(faults(text).first?.line == 1)
        } else {
            #expect(faults(text).isEmpty == false)
        }
    }
}
