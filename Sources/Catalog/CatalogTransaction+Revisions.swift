// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB
package import MartletCore

extension CatalogTransaction {
    /// All revisions of a function, by number.
    package func functionRevisions(functionGuid: String) throws -> [Resource<FunctionRevisionSpec>] {
        try fetch(
            "json_extract(spec, '$.function_guid') = ? ORDER BY json_extract(spec, '$.revision_number')",
            [functionGuid]
        )
    }

    /// A function's revision by number, or nil.
    package func functionRevision(functionGuid: String, number: Int) throws -> Resource<FunctionRevisionSpec>? {
        try first(
            "json_extract(spec, '$.function_guid') = ? AND json_extract(spec, '$.revision_number') = ?",
            [functionGuid, number]
        )
    }

    /// The newest of a function's revisions that bears an alias, or nil.
    package func functionRevision(functionGuid: String, alias: String) throws -> Resource<FunctionRevisionSpec>? {
        try first(
            """
            json_extract(spec, '$.function_guid') = ? AND json_extract(spec, '$.alias') = ?
            ORDER BY json_extract(spec, '$.revision_number') DESC
            """,
            [functionGuid, alias]
        )
    }

    /// Removes all revisions of a function; refused with `.inUse` where one is referred to.
    package func deleteFunctionRevisions(functionGuid: String) throws {
        for revision in try functionRevisions(functionGuid: functionGuid) {
            try delete(FunctionRevisionSpec.self, revision.guid)
        }
    }

    /// All revisions of a pipeline, by number.
    package func pipelineRevisions(pipelineGuid: String) throws -> [Resource<PipelineRevisionSpec>] {
        try fetch(
            "json_extract(spec, '$.pipeline_guid') = ? ORDER BY json_extract(spec, '$.revision_number')",
            [pipelineGuid]
        )
    }

    /// A pipeline's revision by number, or nil.
    package func pipelineRevision(pipelineGuid: String, number: Int) throws -> Resource<PipelineRevisionSpec>? {
        try first(
            "json_extract(spec, '$.pipeline_guid') = ? AND json_extract(spec, '$.revision_number') = ?",
            [pipelineGuid, number]
        )
    }

    /// Removes all revisions of a pipeline.
    package func deletePipelineRevisions(pipelineGuid: String) throws {
        for revision in try pipelineRevisions(pipelineGuid: pipelineGuid) {
            try delete(PipelineRevisionSpec.self, revision.guid)
        }
    }
}

extension ResourceRepository where Spec == FunctionRevisionSpec {
    /// All revisions of a function, by number.
    package func all(functionGuid: String) async throws -> [Resource<FunctionRevisionSpec>] {
        try await store.read { try CatalogTransaction($0).functionRevisions(functionGuid: functionGuid) }
    }

    /// A function's revision by number, or nil.
    package func find(functionGuid: String, number: Int) async throws -> Resource<FunctionRevisionSpec>? {
        try await store.read { try CatalogTransaction($0).functionRevision(functionGuid: functionGuid, number: number) }
    }

    /// The newest of a function's revisions that bears an alias, or nil.
    package func find(functionGuid: String, alias: String) async throws -> Resource<FunctionRevisionSpec>? {
        try await store.read { try CatalogTransaction($0).functionRevision(functionGuid: functionGuid, alias: alias) }
    }
}

extension ResourceRepository where Spec == PipelineRevisionSpec {
    /// All revisions of a pipeline, by number.
    package func all(pipelineGuid: String) async throws -> [Resource<PipelineRevisionSpec>] {
        try await store.read { try CatalogTransaction($0).pipelineRevisions(pipelineGuid: pipelineGuid) }
    }

    /// A pipeline's revision by number, or nil.
    package func find(pipelineGuid: String, number: Int) async throws -> Resource<PipelineRevisionSpec>? {
        try await store.read { try CatalogTransaction($0).pipelineRevision(pipelineGuid: pipelineGuid, number: number) }
    }
}
