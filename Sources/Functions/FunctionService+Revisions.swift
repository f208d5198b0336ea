// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import MartletCore

extension FunctionService {
    /// The bundle a request means: what it says, else what the last revision used, else the function's own name and `latest`.
    static func bundle(
        _ request: FunctionRequest,
        name: String,
        last: FunctionRevisionSpec?,
        _ transaction: CatalogTransaction
    ) throws -> BundleDescription {
        let source = request.artifactSource ?? last?.artifactSource ?? name
        let tag = request.imageTag ?? last?.imageTag ?? "latest"
        guard let record = try transaction.bundle(name: source, tag: tag) else {
            if let last, request.artifactSource == nil, request.imageTag == nil {
                // The name was removed from the list of bundles since; the revision still knows what it was.
                return BundleDescription(last)
            }
            throw ServiceError(
                .failedPrecondition,
                "no bundle was built as \(source):\(tag)",
                fix: "build it first: martlet functions build \(source) --image-tag \(tag) --target FOLDER",
                fields: [.init(field: "artifact_source", message: "no bundle \(source):\(tag)")]
            )
        }
        let bundle = record.description
        if let handler = request.handler, handler != bundle.handler {
            throw ServiceError.invalid(
                field: "handler",
                "bundle \(source):\(tag) was built for \(bundle.handler), not \(handler.prefix(200))",
                fix:
                    "build it again: martlet functions build \(source) --image-tag \(tag) --handlers \(handler.prefix(200))"
            )
        }
        return bundle
    }

    static func isSame(_ revision: FunctionRevisionSpec, _ bundle: BundleDescription) -> Bool {
        revision.bundleDigest == bundle.digest && revision.artifactSource == bundle.name
            && revision.imageTag == bundle.tag
            && revision.handler == bundle.handler
    }

    static func runtime(_ bundle: BundleDescription) -> String {
        "python-" + bundle.pythonVersion.split(separator: ".").prefix(2).joined(separator: ".")
    }

    /// Adds the next revision and returns the function with its new numbers.
    static func addRevision(
        to function: Resource<FunctionSpec>,
        _ bundle: BundleDescription,
        _ request: FunctionRequest,
        by caller: Caller,
        _ transaction: CatalogTransaction
    ) throws -> Resource<FunctionSpec> {
        let number = function.spec.lastRevisionNumber + 1
        if let alias = request.alias { try release(alias, of: function, transaction) }
        let revision = try transaction.create(
            name: "\(function.name)@\(number)",
            description: request.revisionDescription ?? "",
            owner: ResourceMetadata.Owner(name: caller.name),
            spec: FunctionRevisionSpec(
                functionName: function.name,
                functionGuid: function.guid,
                revisionNumber: number,
                alias: request.alias,
                bundleDigest: bundle.digest,
                artifactSource: bundle.name,
                imageTag: bundle.tag,
                handler: bundle.handler,
                isPublished: false
            )
        )
        let changed = try transaction.update(FunctionSpec.self, function.guid) { stored in
            stored.spec.lastRevisionNumber = number
            stored.spec.runtime = runtime(bundle)
        }
        return request.publish ?? true ? try publish(revision, of: changed, transaction) : changed
    }

    /// Changes what may change of a revision whose code stays: its alias, its description, and whether it is published.
    static func change(
        _ revision: Resource<FunctionRevisionSpec>,
        of function: Resource<FunctionSpec>,
        _ request: FunctionRequest,
        _ transaction: CatalogTransaction
    ) throws -> Resource<FunctionSpec> {
        let hasNewAlias = request.alias != nil && request.alias != revision.spec.alias
        let hasNewText =
            request.revisionDescription != nil && request.revisionDescription != revision.metadata.description
        if hasNewAlias || hasNewText {
            if let alias = request.alias, hasNewAlias { try release(alias, of: function, transaction) }
            try transaction.update(FunctionRevisionSpec.self, revision.guid) { stored in
                stored.spec.alias = request.alias ?? stored.spec.alias
                stored.metadata.description = request.revisionDescription ?? stored.metadata.description
            }
        }
        return request.publish == true ? try publish(revision, of: function, transaction) : function
    }

    /// Publishes a revision; the newest published one becomes the default.
    static func publish(
        _ revision: Resource<FunctionRevisionSpec>,
        of function: Resource<FunctionSpec>,
        _ transaction: CatalogTransaction
    ) throws -> Resource<FunctionSpec> {
        guard !revision.spec.isPublished else { return function }
        try transaction.update(FunctionRevisionSpec.self, revision.guid) { $0.spec.isPublished = true }
        let number = revision.spec.revisionNumber
        return try transaction.update(FunctionSpec.self, function.guid) { stored in
            stored.spec.lastPublishedRevisionNumber = max(number, stored.spec.lastPublishedRevisionNumber ?? 0)
            stored.spec.defaultRevisionNumber = max(number, stored.spec.defaultRevisionNumber ?? 0)
        }
    }

    /// Makes a published revision the default.
    static func setDefault(
        _ number: Int,
        of function: Resource<FunctionSpec>,
        _ transaction: CatalogTransaction
    ) throws -> Resource<FunctionSpec> {
        guard let revision = try transaction.functionRevision(functionGuid: function.guid, number: number) else {
            throw noRevision(function.name, number, last: function.spec.lastRevisionNumber)
        }
        guard revision.spec.isPublished else {
            throw ServiceError(
                .failedPrecondition,
                "revision \(number) of function '\(function.name)' is not published",
                fix: "publish it first: martlet functions publish \(function.name) --revision \(number)"
            )
        }
        guard function.spec.defaultRevisionNumber != number else { return function }
        return try transaction.update(FunctionSpec.self, function.guid) { $0.spec.defaultRevisionNumber = number }
    }

    static func noRevision(_ name: String, _ number: Int, last: Int) -> ServiceError {
        ServiceError(
            .notFound,
            "function '\(name)' has no revision \(number)",
            fix: "write a number from 1 to \(last); list them with: martlet functions get \(name) --with-revisions"
        )
    }

    /// Takes an alias from the revision that bears it.
    private static func release(
        _ alias: String,
        of function: Resource<FunctionSpec>,
        _ transaction: CatalogTransaction
    ) throws {
        guard let bearer = try transaction.functionRevision(functionGuid: function.guid, alias: alias) else { return }
        try transaction.update(FunctionRevisionSpec.self, bearer.guid) { $0.spec.alias = nil }
    }
}

extension BundleDescription {
    /// What a revision still knows of its bundle.
    init(_ revision: FunctionRevisionSpec) {
        self.init(
            digest: revision.bundleDigest,
            name: revision.artifactSource,
            tag: revision.imageTag,
            handler: revision.handler,
            sizeBytes: 0,
            pythonVersion: "3",
            environmentDigest: "",
            environmentCached: true,
            unchanged: true
        )
    }
}
