// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct TransactionTests {
    private struct Stop: Error {}

    private static func revision(_ function: Resource<FunctionSpec>, _ number: Int, alias: String? = nil)
        -> FunctionRevisionSpec
    {
        FunctionRevisionSpec(
            functionName: function.name,
            functionGuid: function.guid,
            revisionNumber: number,
            alias: alias,
            bundleDigest: String(repeating: "0", count: 64),
            artifactSource: function.name,
            imageTag: "latest",
            handler: "main.py",
            isPublished: true
        )
    }

    private static func addRevision(_ tx: CatalogTransaction, to name: String, alias: String? = nil) throws -> Int {
        let function = try tx.update(FunctionSpec.self, name) { $0.spec.lastRevisionNumber += 1 }
        let number = function.spec.lastRevisionNumber
        _ = try tx.create(
            name: "\(name)@\(number)",
            owner: CatalogFixture.owner,
            spec: revision(function, number, alias: alias)
        )
        return number
    }

    @Test func writesAFunctionAndItsRevisionTogether() async throws {
        let fixture = try CatalogFixture()
        let function = try await fixture.catalog.functions.create(
            name: "f",
            owner: CatalogFixture.owner,
            spec: FunctionSpec()
        )
        for alias in ["a", nil, "a", "b"] {
            _ = try await fixture.catalog.transaction { try Self.addRevision($0, to: "f", alias: alias) }
        }
        let revisions = fixture.catalog.functionRevisions
        #expect(try await fixture.catalog.functions.get("f").spec.lastRevisionNumber == 4)
        #expect(try await revisions.all(functionGuid: function.guid).map(\.spec.revisionNumber) == [1, 2, 3, 4])
        #expect(try await revisions.find(functionGuid: function.guid, number: 2)?.name == "f@2")
        #expect(try await revisions.find(functionGuid: function.guid, alias: "a")?.spec.revisionNumber == 3)
        #expect(try await revisions.find(functionGuid: function.guid, alias: "c") == nil)
        #expect(try await revisions.get("f@4").spec.alias == "b")
        try await fixture.catalog.transaction { tx in
            try tx.deleteFunctionRevisions(functionGuid: function.guid)
            try tx.delete(FunctionSpec.self, "f")
        }
        #expect(try await revisions.all().isEmpty)
    }

    @Test func findsPipelineRevisions() async throws {
        let fixture = try CatalogFixture()
        let pipeline = try await fixture.catalog.pipelines.create(
            name: "p",
            owner: CatalogFixture.owner,
            spec: PipelineSpec()
        )
        var manifest = PipelineManifest()
        manifest.environmentVariables = [.init(name: "A_B", value: "x")]
        manifest.links = [.init(source: ["a"], destination: ["b"])]
        manifest.links[0].labels = ["someKey": "v", "other_key": "w"]
        for number in 1...3 {
            let spec = PipelineRevisionSpec(
                pipelineName: "p",
                pipelineGuid: pipeline.guid,
                revisionNumber: number,
                manifest: manifest
            )
            _ = try await fixture.catalog.pipelineRevisions.create(
                name: "p@\(number)",
                owner: CatalogFixture.owner,
                spec: spec
            )
        }
        #expect(try await fixture.catalog.pipelineRevisions.all(pipelineGuid: pipeline.guid).count == 3)
        let second = try await fixture.catalog.pipelineRevisions.find(pipelineGuid: pipeline.guid, number: 2)
        #expect(second?.spec.manifest == manifest)
        try await fixture.catalog.transaction { try $0.deletePipelineRevisions(pipelineGuid: pipeline.guid) }
        #expect(try await fixture.catalog.pipelineRevisions.all().isEmpty)
    }

    @Test func aHalfTransactionDoesNotShow() async throws {
        let fixture = try CatalogFixture()
        _ = try await fixture.catalog.functions.create(name: "f", owner: CatalogFixture.owner, spec: FunctionSpec())
        await #expect(throws: Stop.self) {
            try await fixture.catalog.transaction { tx in
                _ = try Self.addRevision(tx, to: "f")
                try tx.setState(["k": "v"])
                throw Stop()
            }
        }
        #expect(try await fixture.catalog.functionRevisions.all().isEmpty)
        #expect(try await fixture.catalog.functions.get("f").spec.lastRevisionNumber == 0)
        #expect(try await fixture.catalog.state.get("k") == nil)
    }

    @Test func readersDoNotSeeAnOpenTransaction() async throws {
        let fixture = try CatalogFixture()
        let inside = DispatchSemaphore(value: 0)
        let goOn = DispatchSemaphore(value: 0)
        async let writing: Void = fixture.catalog.transaction { tx in
            _ = try tx.create(name: "t", owner: CatalogFixture.owner, spec: TopicSpec(partitions: 1))
            inside.signal()
            goOn.wait()
        }
        let seen = try await Self.onThread {
            inside.wait()
        }.then { try await fixture.catalog.topics.all().count }
        goOn.signal()
        try await writing
        #expect(seen == 0)
        #expect(try await fixture.catalog.topics.all().count == 1)
    }

    @Test func aRehearsalChecksEverythingAndStoresNothing() async throws {
        let fixture = try CatalogFixture()
        let rehearsed = try await fixture.catalog.transaction(dryRun: true) { tx in
            try tx.create(name: "t", owner: CatalogFixture.owner, spec: TopicSpec(partitions: 1))
        }
        #expect(rehearsed.name == "t")
        #expect(try await fixture.catalog.topics.all().isEmpty)
        try await fixture.topic("t")
        let error = try await serviceError {
            _ = try await fixture.catalog.rehearsal { tx in
                try tx.create(name: "t", owner: CatalogFixture.owner, spec: TopicSpec(partitions: 1))
            }
        }
        #expect(error?.code == .alreadyExists)
    }

    @Test func manyWritersCountWithoutGaps() async throws {
        let fixture = try CatalogFixture()
        let function = try await fixture.catalog.functions.create(
            name: "f",
            owner: CatalogFixture.owner,
            spec: FunctionSpec()
        )
        let numbers = try await withThrowingTaskGroup(of: [Int].self) { group in
            for _ in 0..<8 {
                group.addTask {
                    var numbers: [Int] = []
                    for _ in 0..<15 {
                        numbers.append(try await fixture.catalog.transaction { try Self.addRevision($0, to: "f") })
                        // A reader sees the counter and the revisions of one commit.
                        let isConsistent = try await fixture.catalog.snapshot { tx in
                            let count = try tx.functionRevisions(functionGuid: function.guid).count
                            return try tx.get(FunctionSpec.self, "f").spec.lastRevisionNumber == count
                        }
                        #expect(isConsistent)
                    }
                    return numbers
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(numbers.sorted() == Array(1...120))
    }

    @Test func setsManyStateKeysAtOnce() async throws {
        let fixture = try CatalogFixture()
        try await fixture.catalog.state.set(["trigger/1": "a", "trigger/2": "b", "other": "c"])
        try await fixture.catalog.state.set(["trigger/1": "d", "other": nil])
        #expect(
            try await fixture.catalog.state.get(["trigger/1", "trigger/2", "other"]) == [
                "trigger/1": "d", "trigger/2": "b",
            ]
        )
        #expect(try await fixture.catalog.state.all(prefix: "trigger/") == ["trigger/1": "d", "trigger/2": "b"])
        #expect(try await fixture.catalog.state.all(prefix: "other").isEmpty)
    }

    @Test func keepsBundlesByNameAndDigest() async throws {
        let fixture = try CatalogFixture()
        func record(_ name: String, _ tag: String, _ digest: String, at seconds: Double) -> BundleRecord {
            let description = BundleDescription(
                digest: digest,
                name: name,
                tag: tag,
                handler: "main.py",
                sizeBytes: 10,
                pythonVersion: "3.11.2",
                environmentDigest: "e",
                environmentCached: false,
                unchanged: false
            )
            return BundleRecord(
                description: description,
                path: "/b/\(digest)",
                createdAt: Date(timeIntervalSince1970: seconds)
            )
        }
        let bundles = fixture.catalog.bundles
        try await bundles.put(record("f", "latest", "d1", at: 1))
        try await bundles.put(record("f", "v1", "d1", at: 2))
        try await bundles.put(record("f", "latest", "d2", at: 3))
        #expect(try await bundles.find(name: "f", tag: "latest") == record("f", "latest", "d2", at: 3))
        #expect(try await bundles.find(digest: "d1")?.description.tag == "v1")
        let page = try await bundles.list(ListQuery(limit: 1))
        #expect(page.items.map(\.description.tag) == ["latest"])
        #expect(try await bundles.list(ListQuery(cursor: page.nextCursor)).items.map(\.description.tag) == ["v1"])
        #expect(try await bundles.remove(name: "f", tag: "v1"))
        #expect(try await !bundles.remove(name: "f", tag: "v1"))
        #expect(try await bundles.find(digest: "d1") == nil)
    }

    /// Runs something that blocks on a thread of its own.
    private static func onThread(_ body: @escaping @Sendable () -> Void) async -> Done {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                body()
                continuation.resume(returning: Done())
            }
        }
    }

    private struct Done: Sendable {
        func then<T>(_ body: () async throws -> T) async rethrows -> T { try await body() }
    }
}
