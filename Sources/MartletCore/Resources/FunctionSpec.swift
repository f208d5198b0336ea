// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A named function; its code is in its revisions.
package struct FunctionSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.functions

    package var runtime: String
    package var defaultRevisionNumber: Int?
    package var lastRevisionNumber: Int
    package var lastPublishedRevisionNumber: Int?

    package init(
        runtime: String = "python-3",
        defaultRevisionNumber: Int? = nil,
        lastRevisionNumber: Int = 0,
        lastPublishedRevisionNumber: Int? = nil
    ) {
        self.runtime = runtime
        self.defaultRevisionNumber = defaultRevisionNumber
        self.lastRevisionNumber = lastRevisionNumber
        self.lastPublishedRevisionNumber = lastPublishedRevisionNumber
    }
}

/// One immutable, numbered state of a function.
///
/// Its resource name is `<function>@<number>`.
package struct FunctionRevisionSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.functionRevisions

    package var functionName: String
    package var functionGuid: String
    /// From 1, without gaps.
    package var revisionNumber: Int
    package var alias: String?
    /// SHA-256 of the bundle, lower-case hex: `Functions` finds code and environment by it.
    package var bundleDigest: String
    /// Name and tag the bundle was built under.
    package var artifactSource: String
    package var imageTag: String
    /// Handler file inside the bundle.
    package var handler: String
    package var isPublished: Bool

    package init(
        functionName: String,
        functionGuid: String,
        revisionNumber: Int,
        alias: String? = nil,
        bundleDigest: String,
        artifactSource: String,
        imageTag: String,
        handler: String,
        isPublished: Bool
    ) {
        self.functionName = functionName
        self.functionGuid = functionGuid
        self.revisionNumber = revisionNumber
        self.alias = alias
        self.bundleDigest = bundleDigest
        self.artifactSource = artifactSource
        self.imageTag = imageTag
        self.handler = handler
        self.isPublished = isPublished
    }
}
