// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import MartletCore
import Pipelines
import Testing

/// Reads name, topic, columns and retention, as far as a manifest's reader has to do with them.
private struct SomeTables: ManifestTables {
    func read(_ entry: DocumentReader) -> PipelineManifest.Table? {
        guard let name = entry.string("name", required: true),
            let topic = entry.string("topic", aliases: ["topic_name"], required: true)
        else { return nil }
        var table = PipelineManifest.Table(name: name, topic: topic)
        table.columns = entry.objects("columns")?.map { column in
            TableSpec.Column(name: column.string("name") ?? "", type: column.string("type") ?? "")
        }
        table.retentionMilliseconds = entry.int("retention_milliseconds").map { Int64($0) }
        table.partitionBy = entry.strings("partition_by")
        table.tags = entry.strings("tags")
        return table
    }

    func apply(
        _ table: PipelineManifest.Table,
        of pipeline: String,
        by caller: Caller
    ) async throws -> ManifestTableChange? { nil }
    func made(by pipeline: String) async throws -> [String] { [] }
    func delete(_ name: String, by caller: Caller) async throws {}
}

@Suite(.timeLimit(.minutes(5))) struct ManifestTablesTests {
    private static func read(_ text: String) throws -> (manifest: PipelineManifest, references: ManifestReferences) {
        let read = try PipelineManifestReader.read(try DocumentParser.parse(text), tables: SomeTables())
        return (read.manifest, read.references)
    }

    private static let text = """
        name: p
        manifest:
          tables:
            - name: trips
              topic: rides
              columns: [{name: fare, type: "DECIMAL(18,2)"}, {name: "a: b", type: BIGINT}]
              retention_milliseconds: -1
              partition_by: []
              tags: ["yes", "1"]
            - {name: other, topic_name: rides}
        """

    @Test func whatIsWrittenReadsBackTheSame() throws {
        let manifest = try Self.read(Self.text).manifest
        #expect(manifest.tables.map(\.name) == ["trips", "other"])
        #expect(manifest.tables[0].retentionMilliseconds == -1 && manifest.tables[0].partitionBy == [])
        let yaml = PipelineManifestWriter.yaml(name: "p", manifest: manifest)
        #expect(try Self.read(yaml).manifest == manifest)
        let stored = try ResourceCoding.encoder().encode(manifest)
        #expect(try ResourceCoding.decoder().decode(PipelineManifest.self, from: stored) == manifest)
        #expect(
            try Self.read(#"{"name":"p","manifest":\#(String(decoding: stored, as: UTF8.self))}"#).manifest == manifest
        )
    }

    @Test func topicsAreReferencesWithTheirPlaces() throws {
        let places = try Self.read(Self.text).references.places
        #expect(places.map(\.target) == Array(repeating: ResourceReference(kind: .topics, name: "rides"), count: 2))
        #expect(places.map(\.field) == ["manifest.tables[0].topic", "manifest.tables[1].topic_name"])
        #expect(places.map(\.line) == [5, 10])
    }

    @Test func aTableIsDeclaredOnceInAnyCase() throws {
        let text = "name: p\nmanifest:\n  tables: [{name: a, topic: t}, {name: A, topic: t}]\n"
        #expect(throws: ServiceError.self) { try Self.read(text) }
        do { _ = try Self.read(text) } catch let error as ServiceError {
            #expect(error.fields.map(\.field) == ["manifest.tables[1].name"])
        }
    }

    @Test func withoutTablesOfTopicsTheyAreRefused() throws {
        do {
            _ = try PipelineManifestReader.read(try DocumentParser.parse(Self.text))
            Issue.record("it was taken")
        } catch {
            #expect(error.fields.contains { $0.field == "manifest.tables[0]" })
        }
    }

    @Test func manifestsStoredBeforeThereWereTablesHaveNone() throws {
        let stored = #"{"environment_variables":[],"secrets":[],"triggers":[],"function_deployments":[],"links":[]}"#
        let manifest = try ResourceCoding.decoder().decode(PipelineManifest.self, from: Data(stored.utf8))
        #expect(manifest == PipelineManifest())
        #expect(!PipelineManifestWriter.yaml(name: "p", manifest: manifest).contains("tables"))
    }

    @Test func aPipelineCanBeTablesAlone() throws {
        var manifest = PipelineManifest()
        #expect(throws: ServiceError.self) { try PipelineGraph(manifest).checkDeployable() }
        manifest.tables = [.init(name: "a", topic: "t")]
        try PipelineGraph(manifest).checkDeployable()
        manifest.triggers = [.init(name: "t", trigger: "t")]
        try PipelineGraph(manifest).checkDeployable()
        manifest.functionDeployments = [.init(name: "f", function: "f")]
        #expect(throws: ServiceError.self) { try PipelineGraph(manifest).checkDeployable() }
    }
}
