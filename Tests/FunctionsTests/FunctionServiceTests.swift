// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Documents
import Foundation
import Functions
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct FunctionServiceTests {
    private let bench: FunctionBench
    private let catalog: Catalog
    private let service: FunctionService
    private let caller = Caller(name: "tester")

    init() throws {
        bench = try FunctionBench()
        catalog = try Catalog.open(path: bench.directory + "/catalog.sqlite")
        service = FunctionService(catalog: catalog, settings: bench.settings)
    }

    private func build(_ code: String = FunctionBench.code, name: String = "f", tag: String = "latest") async throws
        -> BundleDescription
    {
        let archive = try FunctionBench.archive(["main.py": code])
        var done: BundleDescription?
        for try await progress in service.build(
            archive: archive,
            name: name,
            tag: tag,
            handler: "main.py",
            pythonVersion: nil,
            clearCache: false
        ) {
            if case .done(let bundle) = progress { done = bundle }
        }
        return try #require(done)
    }

    private func document(_ text: String) throws -> Document { try DocumentParser.parse(text) }

    private func create(_ text: String, dryRun: Bool = false) async throws -> Resource<FunctionSpec> {
        try await service.create(try document(text), by: caller, dryRun: dryRun)
    }

    private func update(_ text: String, dryRun: Bool = false) async throws -> Resource<FunctionSpec> {
        try await service.update("f", try document(text), by: caller, dryRun: dryRun)
    }

    @Test func createMakesTheFunctionAndItsFirstRevision() async throws {
        try await service.start()
        let bundle = try await build(tag: "v1")
        let function = try await create(
            """
            name: f
            description: counts
            tags: [a, b]
            container_registry: vast:dataengine:container-registries:main
            artifact_source: f
            artifact_type: image
            image_tag: v1
            architecture: x86
            runtime: python-3.11
            handler: main.py
            resources: {min_cpu: 100m}
            revision_alias: stable
            revision_description: the first
            """
        )
        #expect(function.spec.defaultRevisionNumber == 1)
        #expect(function.spec.lastRevisionNumber == 1)
        #expect(function.spec.lastPublishedRevisionNumber == 1)
        #expect(function.spec.runtime.hasPrefix("python-3."))
        #expect(function.metadata.tags == ["a", "b"])
        let revision = try await service.revision("f", nil)
        #expect(revision.name == "f@1")
        #expect(revision.metadata.description == "the first")
        #expect(revision.spec.bundleDigest == bundle.digest)
        #expect(revision.spec.alias == "stable")
        #expect(revision.spec.isPublished)
        #expect(try await service.launch(bundle.digest).handler == "main.py")
        #expect(try await service.bundles(ListQuery()).items.map(\.tag) == ["v1"])
    }

    @Test func onlyAChangedBundleMakesARevision() async throws {
        _ = try await build()
        _ = try await create("name: f")
        #expect(try await update("description: new").spec.lastRevisionNumber == 1)
        #expect(try await service.get("f").metadata.description == "new")
        _ = try await build()
        #expect(try await update("{}").spec.lastRevisionNumber == 1)
        let second = try await build(FunctionBench.code + "# 2\n")
        let planned = try await update("{}", dryRun: true)
        #expect(planned.spec.lastRevisionNumber == 2)
        #expect(try await service.get("f").spec.lastRevisionNumber == 1)
        let updated = try await update("{}")
        #expect(updated.spec.lastRevisionNumber == 2)
        #expect(updated.spec.defaultRevisionNumber == 2)
        #expect(try await service.revision("f", "2").spec.bundleDigest == second.digest)
        #expect(try await service.revision("f", "1").spec.bundleDigest != second.digest)
        #expect(try await service.revisions("f").map(\.spec.revisionNumber) == [1, 2])
        #expect(try await update("default_revision_number: 1").spec.defaultRevisionNumber == 1)
        #expect(try await service.revision("f", "current").spec.revisionNumber == 1)
        #expect(try await service.revision("f", "latest").spec.revisionNumber == 2)
    }

    @Test func publishingMakesTheDefaultAndAliasesMove() async throws {
        _ = try await build()
        _ = try await create("{name: f, revision_alias: stable}")
        _ = try await build(FunctionBench.code + "# 2\n")
        let local = try await update("{publish: false, revision_alias: next}")
        #expect(local.spec.lastRevisionNumber == 2)
        #expect(local.spec.defaultRevisionNumber == 1)
        #expect(local.spec.lastPublishedRevisionNumber == 1)
        await #expect(throws: ServiceError.self) { _ = try await update("default_revision_number: 2") }
        let published = try await service.publish("f", revision: 2, by: caller)
        #expect(published.spec.isPublished)
        #expect(try await service.get("f").spec.defaultRevisionNumber == 2)
        #expect(
            try await service.publish("f", revision: 2, by: caller).metadata.updatedAt == published.metadata.updatedAt
        )
        _ = try await update("revision_alias: stable")
        #expect(try await service.revision("f", "stable").spec.revisionNumber == 2)
        #expect(try await service.revision("f", "1").spec.alias == nil)
        await #expect(throws: ServiceError.self) { _ = try await service.revision("f", "nothing") }
        await #expect(throws: ServiceError.self) { _ = try await service.revision("f", "9") }
        await #expect(throws: ServiceError.self) { _ = try await service.publish("f", revision: 9, by: caller) }
    }

    @Test func aFunctionWithoutAPublishedRevisionHasNoDefault() async throws {
        _ = try await build()
        let function = try await create("{name: f, publish: false}")
        #expect(function.spec.defaultRevisionNumber == nil)
        #expect(function.spec.lastPublishedRevisionNumber == nil)
        let error = await #expect(throws: ServiceError.self) { _ = try await service.revision("f", nil) }
        #expect(error?.code == .failedPrecondition)
        #expect(try await update("publish: true").spec.defaultRevisionNumber == 1)
        #expect(try await service.revision("f", nil).spec.isPublished)
    }

    @Test func refusesBadDocuments() async throws {
        _ = try await build()
        let cases: [(String, ServiceError.Code, String)] = [
            ("name: a b", .invalid, "not a usable name"), ("{}", .invalid, "missing field 'name'"),
            ("{name: f, naem: x}", .invalid, "unknown field 'naem'"),
            ("{name: f, publish: 3}", .invalid, "not true or false"),
            ("{name: f, revision_alias: '7'}", .invalid, "not a usable alias"),
            ("{name: f, image_tag: v9}", .failedPrecondition, "no bundle was built as f:v9"),
            ("{name: f, handler: other.py}", .invalid, "was built for main.py"),
            ("{name: f, default_revision_number: 2}", .notFound, "no revision 2"),
        ]
        for (text, code, words) in cases {
            let error = await #expect(throws: ServiceError.self) { _ = try await create(text) }
            #expect(error?.code == code, "\(text)")
            #expect(error?.message.contains(words) == true, "\(String(describing: error))")
        }
        _ = try await create("name: f")
        let taken = await #expect(throws: ServiceError.self) { _ = try await create("name: f") }
        #expect(taken?.code == .alreadyExists)
        let renamed = await #expect(throws: ServiceError.self) { _ = try await update("name: g") }
        #expect(renamed?.code == .invalid)
    }

    @Test func cannotBeDeletedWhileAPipelineUsesIt() async throws {
        _ = try await build()
        _ = try await create("name: f")
        _ = try await catalog.pipelines.create(
            name: "p",
            owner: .init(name: "tester"),
            spec: PipelineSpec(uses: [ResourceReference(kind: .functions, name: "f")])
        )
        let error = await #expect(throws: ServiceError.self) { try await service.delete("f", by: caller) }
        #expect(error?.code == .inUse)
        #expect(try await service.revisions("f").count == 1)
        try await catalog.pipelines.delete("p")
        try await service.delete("f", by: caller)
        await #expect(throws: ServiceError.self) { _ = try await service.get("f") }
        #expect(try await catalog.functionRevisions.all().isEmpty)
    }

    @Test func collectsBundlesNoRevisionRefersTo() async throws {
        let used = try await build()
        _ = try await create("name: f")
        let unused = try await build(FunctionBench.code + "# 2\n", name: "other")
        #expect(try await service.collectGarbage().isEmpty)
        #expect(try await service.collectGarbage(unusedFor: .seconds(-60)) == [unused.digest])
        #expect(try await service.bundles(ListQuery()).items.map(\.name) == ["f"])
        _ = try await service.launch(used.digest)
    }

    @Test func aFailedBuildEndsTheStreamWithItsReason() async throws {
        let archive = try FunctionBench.archive(["main.py": "def handler(:\n"])
        let error = await #expect(throws: ServiceError.self) {
            for try await _ in service.build(
                archive: archive,
                name: "f",
                tag: "t",
                handler: "main.py",
                pythonVersion: nil,
                clearCache: false
            ) {}
        }
        #expect(error?.message.contains("SyntaxError") == true)
        #expect(try await service.bundles(ListQuery()).items.isEmpty)
    }

    @Test func aBuildUsesThePythonItIsAskedFor() async throws {
        let archive = try FunctionBench.archive(["main.py": FunctionBench.code])
        let error = await #expect(throws: ServiceError.self) {
            for try await _ in service.build(
                archive: archive,
                name: "f",
                tag: "t",
                handler: "main.py",
                pythonVersion: "3.99",
                clearCache: false
            ) {}
        }
        #expect(error?.code == .failedPrecondition)
        #expect(error?.message.contains("no Python fits version '3.99'") == true)
    }
}
