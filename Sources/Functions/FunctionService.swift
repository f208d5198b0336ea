// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import Foundation
package import MartletCore

/// Functions, their revisions and their bundles.
///
/// A function is a name for numbered, immutable revisions; a revision names a bundle by its digest. Rules this service decides:
/// a revision is published unless the request says `publish: false`; publishing a revision newer than the default makes it the
/// default, unless the request names another; an alias belongs to one revision of a function at a time and moves when it is given
/// to another.
package final class FunctionService: FunctionServices {
    /// What this service keeps.
    package typealias Spec = FunctionSpec

    let catalog: Catalog
    let builder: BundleBuilder

    /// Makes the service; call ``start()`` before the first build.
    package init(catalog: Catalog, settings: FunctionSettings) {
        self.catalog = catalog
        builder = BundleBuilder(settings)
    }

    /// Removes what builds left that a crash interrupted.
    package func start() async throws {
        let store = builder.store
        try await BlockingWork.run { try store.removeLeftovers() }
    }

    /// How to start a worker of a bundle.
    ///
    /// - Throws: `ServiceError` why no function can run here, or what is wrong with the bundle.
    package func launch(_ digest: String) async throws -> WorkerLaunch {
        if let obstacle = builder.settings.obstacle { throw obstacle }
        let store = builder.store
        return try await BlockingWork.run { try store.launch(digest) }
    }

    // MARK: Resources

    /// Makes a function and its revision 1 of a bundle that was built before.
    package func create(
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<FunctionSpec> {
        let request = try FunctionRequest(document, isUpdate: false)
        guard let name = request.name else { throw ServiceError.invalid(field: "name", "missing") }
        return try await catalog.transaction(dryRun: dryRun) { transaction in
            let bundle = try Self.bundle(request, name: name, last: nil, transaction)
            let function = try transaction.create(
                name: name,
                description: request.description ?? "",
                tags: request.tags ?? [],
                owner: ResourceMetadata.Owner(name: caller.name),
                spec: FunctionSpec(runtime: Self.runtime(bundle))
            )
            let revised = try Self.addRevision(to: function, bundle, request, by: caller, transaction)
            guard let number = request.defaultRevisionNumber else { return revised }
            return try Self.setDefault(number, of: revised, transaction)
        }
    }

    /// Changes what the document says; a bundle other than the last revision's makes the next revision.
    package func update(
        _ id: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<FunctionSpec> {
        let request = try FunctionRequest(document, isUpdate: true)
        return try await catalog.transaction(dryRun: dryRun) { transaction in
            var function = try transaction.get(FunctionSpec.self, id)
            if let name = request.name, name != function.name {
                throw ServiceError.invalid(
                    field: "name",
                    "the name '\(function.name)' cannot be changed",
                    fix: "leave name out, or create another function",
                    line: document.lines["name"]
                )
            }
            let last = try transaction.functionRevision(
                functionGuid: function.guid,
                number: function.spec.lastRevisionNumber
            )
            let bundle = try Self.bundle(request, name: function.name, last: last?.spec, transaction)
            if request.description != nil || request.tags != nil {
                function = try transaction.update(FunctionSpec.self, function.guid) { stored in
                    stored.metadata.description = request.description ?? stored.metadata.description
                    stored.metadata.tags = request.tags ?? stored.metadata.tags
                }
            }
            if let last, Self.isSame(last.spec, bundle) {
                function = try Self.change(last, of: function, request, transaction)
            } else {
                function = try Self.addRevision(to: function, bundle, request, by: caller, transaction)
            }
            guard let number = request.defaultRevisionNumber else { return function }
            return try Self.setDefault(number, of: function, transaction)
        }
    }

    /// The function of a name, GUID or full resource name.
    package func get(_ id: String) async throws -> Resource<FunctionSpec> {
        try await catalog.functions.get(id)
    }

    /// One page of functions, oldest first.
    package func list(_ query: ListQuery) async throws -> Page<Resource<FunctionSpec>> {
        try await catalog.functions.list(query)
    }

    /// Removes a function and its revisions; refused while a pipeline uses it.
    package func delete(_ id: String, by caller: Caller) async throws {
        try await catalog.transaction { transaction in
            let function = try transaction.delete(FunctionSpec.self, id)
            try transaction.deleteFunctionRevisions(functionGuid: function.guid)
        }
    }

    // MARK: Revisions

    /// All revisions of a function, by number.
    package func revisions(_ function: String) async throws -> [Resource<FunctionRevisionSpec>] {
        try await catalog.snapshot { snapshot in
            try snapshot.functionRevisions(functionGuid: try snapshot.get(FunctionSpec.self, function).guid)
        }
    }

    /// One revision by number or alias; nil, `current` and `default` mean the default, `latest` the newest.
    package func revision(_ function: String, _ revision: String?) async throws -> Resource<FunctionRevisionSpec> {
        try await catalog.snapshot { snapshot in
            let function = try snapshot.get(FunctionSpec.self, function)
            var number: Int?
            let asksDefault = revision == nil || revision == "current" || revision == "default"
            if asksDefault, function.spec.defaultRevisionNumber == nil {
                throw ServiceError(
                    .failedPrecondition,
                    "function '\(function.name)' has no published revision yet",
                    fix:
                        "publish one: martlet functions publish \(function.name) --revision \(function.spec.lastRevisionNumber)"
                )
            }
            switch revision {
            case nil, "current", "default": number = function.spec.defaultRevisionNumber
            case "latest": number = function.spec.lastRevisionNumber
            case let text?: number = Int(text)
            }
            if let number {
                let found = try snapshot.functionRevision(functionGuid: function.guid, number: number)
                guard let found else {
                    throw Self.noRevision(function.name, number, last: function.spec.lastRevisionNumber)
                }
                return found
            }
            guard let alias = revision,
                let found = try snapshot.functionRevision(functionGuid: function.guid, alias: alias)
            else {
                throw ServiceError(
                    .notFound,
                    "function '\(function.name)' has no revision '\((revision ?? "default").prefix(140))'",
                    fix: "write a number from 1 to \(function.spec.lastRevisionNumber), or an alias; "
                        + "list them with: martlet functions get \(function.name) --with-revisions"
                )
            }
            return found
        }
    }

    /// Publishes a revision, which makes it the default where it is newer; publishing twice changes nothing.
    package func publish(
        _ function: String,
        revision: Int,
        by caller: Caller
    ) async throws -> Resource<FunctionRevisionSpec> {
        try await catalog.transaction { transaction in
            let function = try transaction.get(FunctionSpec.self, function)
            guard let found = try transaction.functionRevision(functionGuid: function.guid, number: revision) else {
                throw Self.noRevision(function.name, revision, last: function.spec.lastRevisionNumber)
            }
            _ = try Self.publish(found, of: function, transaction)
            return try transaction.get(FunctionRevisionSpec.self, found.guid)
        }
    }

    // MARK: Bundles

    /// Builds a bundle from a tar archive; see ``build(_:)``.
    package func build(
        archive: [UInt8],
        name: String,
        tag: String,
        handler: String,
        pythonVersion: String?,
        clearCache: Bool
    ) -> AsyncThrowingStream<BuildProgress, any Error> {
        build(
            BundleBuilder.Request(
                archive: archive,
                name: name,
                tag: tag,
                handler: handler,
                pythonVersion: pythonVersion,
                clearCache: clearCache
            )
        )
    }

    /// Builds a bundle and stores it under its name and tag; ending the stream early stops the build and kills pip.
    ///
    /// Where nobody reads, the oldest of more than 10,000 waiting lines are dropped.
    package func build(_ request: BundleBuilder.Request) -> AsyncThrowingStream<BuildProgress, any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(
            of: BuildProgress.self,
            bufferingPolicy: .bufferingNewest(10_000)
        )
        let task = Task {
            do {
                let bundle = try await self.builder.build(request) { continuation.yield(.line($0)) }
                let path = self.builder.store.path(bundle.digest)
                try await self.catalog.bundles.put(BundleRecord(description: bundle, path: path, createdAt: Date()))
                continuation.yield(.done(bundle))
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    /// One page of the bundles that were built, oldest first.
    package func bundles(_ query: ListQuery) async throws -> Page<BundleDescription> {
        let page = try await catalog.bundles.list(query)
        return Page(items: page.items.map(\.description), nextCursor: page.nextCursor)
    }

    /// Removes bundles that no revision refers to and that were not built or used for `age`, with the environments only they need.
    ///
    /// - Returns: The digests of the bundles removed.
    package func collectGarbage(unusedFor age: Duration = .seconds(7 * 86_400)) async throws -> [String] {
        let keep = Set(try await catalog.functionRevisions.all().map(\.spec.bundleDigest))
        let cutoff = Date(timeIntervalSinceNow: -Double(age.components.seconds))
        let store = builder.store
        let removed = Set(try await BlockingWork.run { try store.collectGarbage(keep: keep, before: cutoff) })
        guard !removed.isEmpty else { return [] }
        var cursor: String?
        repeat {
            let page = try await catalog.bundles.list(ListQuery(limit: 1000, cursor: cursor))
            for record in page.items where removed.contains(record.description.digest) {
                try await catalog.bundles.remove(name: record.description.name, tag: record.description.tag)
            }
            cursor = page.nextCursor
        } while cursor != nil
        return removed.sorted()
    }
}
