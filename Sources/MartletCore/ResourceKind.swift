// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The kinds of resource the catalog keeps; the raw value is the plural noun of commands, paths and resource names.
package enum ResourceKind: String, Sendable, Codable, CaseIterable {
    case views
    case triggers
    case functions
    case functionRevisions = "function-revisions"
    case pipelines
    case pipelineRevisions = "pipeline-revisions"
    case topics
    case secrets
    case tables

    /// The noun for one of them, as messages use it.
    package var noun: String {
        switch self {
        case .views: "view"
        case .triggers: "trigger"
        case .functions: "function"
        case .functionRevisions: "function revision"
        case .pipelines: "pipeline"
        case .pipelineRevisions: "pipeline revision"
        case .topics: "topic"
        case .secrets: "secret"
        case .tables: "table"
        }
    }
}
