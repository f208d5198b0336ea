// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
package import Documents
package import MartletCore

// Tables that pipelines declare in their manifests.
extension TableService {
    /// Reads one entry of a manifest's `tables`, which has the fields of `tables create`; notes what is wrong at its place.
    ///
    /// What cannot become of a table that exists is wrong too. What the entry leaves out is not in the result either, so that it
    /// stays as it is when the manifest is deployed again.
    package func read(_ entry: DocumentReader) -> PipelineManifest.Table? {
        let said: TableDocument.Said
        if let name = entry.value("name")?.value.stringValue, let (resource, columns) = existing(name) {
            if !entry.has("topic", aliases: ["topic_name"]) {
                entry.fail("topic", "missing field 'topic' in a table", fix: "add 'topic': \(resource.spec.topic)")
            }
            said = TableDocument.change(resource, entry, columns: columns).said
        } else {
            said = TableDocument.read(entry).said
        }
        guard let name = said.name, let topic = said.topic else { return nil }
        var table = PipelineManifest.Table(name: name, topic: topic)
        let fields = said.fields
        table.description = said.description
        table.tags = said.tags
        table.format = fields.format
        table.columns = fields.columns?.map(\.column)
        table.unknownFields = fields.unknownFields
        table.key = fields.key
        table.deleteRule = fields.deleteRule
        table.partitionBy = fields.partitionBy.map(TableFields.normal)
        table.commitSeconds = fields.commitSeconds
        table.commitBytes = fields.commitBytes
        table.retentionMilliseconds = fields.retentionMilliseconds.map { $0 ?? -1 }
        table.retentionBytes = fields.retentionBytes.map { $0 ?? -1 }
        table.historySeconds = fields.historySeconds
        table.start = fields.start
        return table
    }

    /// What a deployment did to a table.
    package struct DeclaredChange: Sendable {
        /// Of the table that was made or changed.
        let guid: String
        /// What it was before; nil where it was made.
        package let before: Resource<TableSpec>?
    }

    /// Makes a table of a pipeline's manifest, or changes what the manifest says of the one there is; durable on return.
    ///
    /// - Returns: What was done; nil where nothing had to be.
    /// - Throws: `ServiceError` that names the table.
    package func apply(
        _ table: PipelineManifest.Table,
        of pipeline: String,
        by caller: Caller
    ) async throws -> DeclaredChange? {
        let document = Document(value: table.document)
        do {
            guard let (resource, columns) = existing(table.name) else {
                let made = try await create(document, by: caller, dryRun: false, pipeline: pipeline)
                return made.guid.map { DeclaredChange(guid: $0, before: nil) }
            }
            var changed = resource
            try TableDocument.apply(document, to: &changed, columns: columns)
            // A change stops the table's sink for a moment.
            guard changed.spec != resource.spec || changed.metadata != resource.metadata else { return nil }
            _ = try await update(resource.name, document, by: caller, dryRun: false)
            return DeclaredChange(guid: resource.guid, before: resource)
        } catch var error as ServiceError {
            error.message = "table '\(table.name)' of the manifest: \(error.message)"
            throw error
        }
    }

    /// Removes a table that was made, or gives one that was changed its settings, description and tags from before.
    ///
    /// Columns that were added or widened stay: rows may have been written under them.
    /// - Returns: What stays changed; nil where nothing does.
    package func putBack(_ change: DeclaredChange, by caller: Caller) async throws -> String? {
        guard let current = try await catalog.tables.find(change.guid) else { return nil }
        guard let before = change.before else {
            try await delete(current.name, by: caller)
            return nil
        }
        let restored = try await catalog.tables.update(change.guid) { table in
            let columns = table.spec.columns
            table.spec = before.spec
            table.spec.columns = columns
            table.metadata.description = before.metadata.description
            table.metadata.tags = before.metadata.tags
        }
        if let table = runtime.keyed.find(restored.name) {
            try await runtime.keyed.exclusively(table) { table.with { $0.resource = restored } }
        } else {
            try runtime.find(restored.name).with { $0.resource = restored }
        }
        return restored.spec.columns == before.spec.columns ? nil : "its new columns stay"
    }

    /// Names of the tables that deployments of a pipeline made, ordered.
    package func made(by pipeline: String) async throws -> [String] {
        try await catalog.tables.all().filter { $0.spec.pipelineGuid == pipeline }.map(\.name).sorted()
    }

    /// Removes a table of a manifest; one that is gone, or that functions keep, is left alone.
    package func deleteDeclared(_ name: String, by caller: Caller) async throws {
        guard let (resource, _) = existing(name) else { return }
        try await delete(resource.name, by: caller)
    }

    /// The table of a name that follows a topic and is not the engine's own.
    private func existing(_ name: String) -> (Resource<TableSpec>, [AppendTableSchemaVersion.Column])? {
        if let table = runtime.keyed.find(name) { return table.with { ($0.resource, $0.columns) } }
        guard let table = runtime.registry.find(name), !table.spec.isInternal else { return nil }
        return table.read { ($0.resource, $0.columns) }
    }
}
