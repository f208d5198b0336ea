// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A built function: code and virtual environment, content-addressed.
package struct BundleDescription: Sendable, Codable, Equatable {
    /// SHA-256 over the files and the environment's hash, lower-case hex.
    package var digest: String
    package var name: String
    package var tag: String
    package var handler: String
    package var sizeBytes: Int64
    /// For example `3.11.7`.
    package var pythonVersion: String
    /// Hash of everything that decides the virtual environment.
    package var environmentDigest: String
    /// Whether the environment and the code were there already.
    package var environmentCached: Bool
    package var unchanged: Bool

    package init(
        digest: String,
        name: String,
        tag: String,
        handler: String,
        sizeBytes: Int64,
        pythonVersion: String,
        environmentDigest: String,
        environmentCached: Bool,
        unchanged: Bool
    ) {
        self.digest = digest
        self.name = name
        self.tag = tag
        self.handler = handler
        self.sizeBytes = sizeBytes
        self.pythonVersion = pythonVersion
        self.environmentDigest = environmentDigest
        self.environmentCached = environmentCached
        self.unchanged = unchanged
    }
}

/// One line of a running build.
package enum BuildProgress: Sendable {
    case line(String)
    case done(BundleDescription)
}

/// Functions, their revisions and their bundles.
package protocol FunctionServices: ResourceService<FunctionSpec> {
    /// Builds a bundle from a tar archive (ustar, no links) of the function's folder; the stream ends with `.done` or throws.
    ///
    /// `pythonVersion` is a pattern such as `3.12` or `3.12.*`; nil leaves the choice to the engine's setting.
    func build(
        archive: [UInt8],
        name: String,
        tag: String,
        handler: String,
        pythonVersion: String?,
        clearCache: Bool
    ) -> AsyncThrowingStream<BuildProgress, any Error>
    func bundles(_ query: ListQuery) async throws -> Page<BundleDescription>
    func revisions(_ function: String) async throws -> [Resource<FunctionRevisionSpec>]
    /// `revision` is a number, an alias, or nil for the default.
    func revision(_ function: String, _ revision: String?) async throws -> Resource<FunctionRevisionSpec>
    func publish(_ function: String, revision: Int, by caller: Caller) async throws -> Resource<FunctionRevisionSpec>
}
