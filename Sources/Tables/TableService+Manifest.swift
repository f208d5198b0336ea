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

    /// Makes a table of a manifest, or changes what the manifest says of the one there is; durable on return.
    ///
    /// - Throws: `ServiceError` that names the table.
    package func apply(_ table: PipelineManifest.Table, by caller: Caller) async throws {
        let document = Document(value: table.document)
        do {
            guard let (resource, columns) = existing(table.name) else {
                _ = try await create(document, by: caller, dryRun: false)
                return
            }
            var changed = resource
            try TableDocument.apply(document, to: &changed, columns: columns)
            // A change stops the table's sink for a moment.
            guard changed.spec != resource.spec || changed.metadata != resource.metadata else { return }
            _ = try await update(resource.name, document, by: caller, dryRun: false)
        } catch var error as ServiceError {
            error.message = "table '\(table.name)' of the manifest: \(error.message)"
            throw error
        }
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
