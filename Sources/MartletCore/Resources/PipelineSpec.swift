// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A graph of triggers and function deployments; its definition is in its revisions.
package struct PipelineSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.pipelines

    /// Where a pipeline stands.
    package enum Status: String, Codable, Sendable {
        case draft = "Draft"
        case inProgress = "InProgress"
        case ready = "Ready"
        case paused = "Paused"
        case failure = "Failure"
    }

    package var status: Status
    /// One sentence a person can act on.
    package var reason: String?
    /// Number of the newest stored manifest; 0 where there is none.
    package var lastRevisionNumber: Int
    /// Number of the manifest that runs; nil when undeployed.
    package var deployedRevisionNumber: Int?
    /// Function revision each deployment runs, decided when it was deployed; nil when undeployed.
    package var deployedFunctionRevisions: [String: Int]?
    /// What the newest and the deployed manifests name.
    package var uses: [ResourceReference]

    package init(
        status: Status = .draft,
        reason: String? = nil,
        lastRevisionNumber: Int = 0,
        deployedRevisionNumber: Int? = nil,
        uses: [ResourceReference] = []
    ) {
        self.status = status
        self.reason = reason
        self.lastRevisionNumber = lastRevisionNumber
        self.deployedRevisionNumber = deployedRevisionNumber
        self.uses = uses
    }

    package var references: [ResourceReference] { uses }
}

/// One immutable manifest of a pipeline.
///
/// Its resource name is `<pipeline>@<number>`.
package struct PipelineRevisionSpec: ResourceSpec, Equatable {
    package static let kind = ResourceKind.pipelineRevisions

    package var pipelineName: String
    package var pipelineGuid: String
    package var revisionNumber: Int
    /// The manifest in its one canonical form.
    package var manifest: PipelineManifest

    package init(pipelineName: String, pipelineGuid: String, revisionNumber: Int, manifest: PipelineManifest) {
        self.pipelineName = pipelineName
        self.pipelineGuid = pipelineGuid
        self.revisionNumber = revisionNumber
        self.manifest = manifest
    }
}
