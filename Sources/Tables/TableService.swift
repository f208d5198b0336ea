// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import EventLog
import Foundation
import Lake
package import MartletCore

/// Tables that follow topics, as the API offers them.
package struct TableService: AppendTableServices {
    let runtime: TableRuntime
    let temporaryDirectory: String

    /// Serves the tables of a runtime; exports are written to `temporaryDirectory`.
    package init(runtime: TableRuntime, temporaryDirectory: String) {
        self.runtime = runtime
        self.temporaryDirectory = temporaryDirectory
    }

    var catalog: Catalog { runtime.services.catalog }

    package func all() async throws -> [TableDescription] {
        var all: [TableDescription] = []
        for table in runtime.registry.all() { all.append(try await describe(table)) }
        for table in runtime.keyed.all() { all.append(try await describe(table)) }
        return all
    }

    package func find(_ name: String) async throws -> TableDescription? {
        if let table = runtime.keyed.find(name) { return try await describe(table) }
        guard let table = runtime.registry.find(name) else { return nil }
        return try await describe(table)
    }

    package func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> TableDescription {
        try await create(document, by: caller, dryRun: dryRun, pipeline: nil)
    }

    /// Makes a table, for the pipeline whose manifest declares it where that is so.
    func create(
        _ document: Document,
        by caller: Caller,
        dryRun: Bool,
        pipeline: String?
    ) async throws -> TableDescription {
        let taken = try await takenNames()
        let draft = try TableDocument(document, taken: taken)
        let owner = ResourceMetadata.Owner(name: caller.name)
        var spec = draft.spec
        spec.pipelineGuid = pipeline
        let resource = try await catalog.transaction(dryRun: dryRun) { [spec] transaction in
            try transaction.create(
                name: draft.name,
                description: draft.description,
                tags: draft.tags,
                owner: owner,
                spec: spec
            )
        }
        if dryRun { return describe(resource) }
        do {
            guard resource.spec.key.isEmpty else {
                return try await describe(try await runtime.keyed.create(resource))
            }
            return try await runtime.keyed.reserving(resource.name, resource.spec) {
                try await begin(resource)
                return try await describe(try await runtime.open(resource))
            }
        } catch {
            _ = try? await catalog.tables.delete(resource.guid)  // The first error is the one that counts.
            throw error
        }
    }

    /// Writes the first commit, which says where in the topic the table begins.
    private func begin(_ resource: Resource<TableSpec>) async throws {
        let topic = resource.spec.topic
        guard let description = try await runtime.services.log.topic(topic) else {
            throw ServiceError.notFound(.topics, topic)
        }
        let ranges = try (0..<description.partitions).map { partition in
            let bounds = try runtime.services.log.bounds(TopicPartition(topic: topic, partition: partition))
            let start = resource.spec.start == .earliest ? bounds.start : bounds.stable
            return TableCommit.OffsetRange(partition: partition, from: start, to: start)
        }
        let columns = TableColumns.merged([], declared: resource.spec.columns)
        _ = try await catalog.appendTables.commit(
            resource.guid,
            AppendTableChange(
                kind: .schema,
                schema: AppendTableSchemaVersion(version: 1, columns: columns),
                ranges: ranges
            )
        )
    }

    package func update(
        _ name: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> TableDescription {
        if let table = runtime.keyed.find(name) { return try await update(table, document, dryRun: dryRun) }
        let table = try runtime.find(name)
        let inferred = table.read { $0.columns }
        func store(_ columns: [AppendTableSchemaVersion.Column], dryRun: Bool) async throws -> Resource<TableSpec> {
            try await catalog.transaction(dryRun: dryRun) { transaction in
                try transaction.update(TableSpec.self, table.guid) { resource in
                    try TableDocument.apply(document, to: &resource, columns: columns)
                }
            }
        }
        let wanted = try await store(inferred, dryRun: true)
        if dryRun { return describe(wanted) }
        guard TableColumns.merged(inferred, declared: wanted.spec.columns) != inferred else {
            let resource = try await store(inferred, dryRun: false)
            table.with { $0.resource = resource }
            return try await describe(table)
        }
        try await runtime.exclusively(table) {
            // The sink may have brought further columns meanwhile, and files that have them: what is declared must fit these too.
            let (version, current) = table.read { ($0.schemaVersion, $0.columns) }
            let resource = try await store(current, dryRun: false)
            let columns = TableColumns.merged(current, declared: resource.spec.columns)
            _ = try await TableMaintenance(table: table, services: runtime.services).store(
                AppendTableChange(
                    kind: .schema,
                    schema: AppendTableSchemaVersion(version: version + 1, columns: columns)
                )
            )
            table.with { state in
                state.resource = resource
                state.columns = columns
            }
        }
        return try await describe(table)
    }

    package func delete(_ name: String, by caller: Caller) async throws {
        if let table = runtime.keyed.find(name) { return try await delete(table) }
        let table = try runtime.find(name)
        guard !table.spec.isInternal else {
            throw ServiceError(
                .failedPrecondition,
                "'\(table.name)' is a table of the engine itself",
                fix: "its retention can be shortened: martlet tables update \(table.name) --retention 1d"
            )
        }
        try await catalog.tables.delete(table.guid)
        await runtime.close(table)
    }

    package func history(_ name: String, limit: Int, cursor: String?) async throws -> Page<TableCommit> {
        if let table = runtime.keyed.find(name) { throw TableRuntime.noHistory(table.name) }
        return try await catalog.appendTables.history(try runtime.find(name).guid, limit: limit, cursor: cursor)
    }

    package func commit(_ name: String) async throws -> TableCommit? {
        if let table = runtime.keyed.find(name) { return try await commit(table) }
        let table = try runtime.find(name)
        guard let sink = runtime.sink(of: table) else {
            throw ServiceError(.unavailable, "the table '\(table.name)' is being changed", fix: "try again in a moment")
        }
        return try await sink.commit()
    }

    package func compact(_ name: String) async throws -> TableCompaction {
        if let table = runtime.keyed.find(name) { throw Self.noFiles(table, "to compact") }
        return try await TableMaintenance(table: try runtime.find(name), services: runtime.services).compact()
    }

    package func repair(_ name: String, dryRun: Bool, quick: Bool) async throws -> [TableFinding] {
        if let table = runtime.keyed.find(name) { throw Self.noFiles(table, "to compare with a list") }
        return try await TableRepair(table: try runtime.find(name), services: runtime.services)
            .run(dryRun: dryRun, depth: quick ? .quick : .full)
    }

    package func replay(_ name: String) async throws -> TableReplay {
        if let table = runtime.keyed.find(name) { throw Self.noReplay(table) }
        let table = try runtime.find(name)
        return try await runtime.exclusively(table) {
            try await TableReplayer(table: table, services: runtime.services).run()
        }
    }

    package func export(_ name: String, format: TableFormat) async throws -> String {
        let path =
            "\(temporaryDirectory)/export-\(String(UInt64.random(in: .min ... .max), radix: 36)).\(format.rawValue)"
        if let table = runtime.keyed.find(name) { return try await export(table, format: format, to: path) }
        let table = try runtime.find(name)
        let snapshot = table.snapshot()
        // The snapshot keeps its files until the export is written.
        defer { withExtendedLifetime(snapshot) {} }
        _ = try await runtime.services.space.lake.export(
            query: snapshot.query(.rows),
            format: format == .parquet ? .parquet : .csv,
            to: path
        )
        return path
    }
}
