// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore
import Pipelines
import Tables

/// The tables of manifests, kept by the tables of topics.
struct PipelineTables: ManifestTables {
    let tables: TableService

    func read(_ entry: DocumentReader) -> PipelineManifest.Table? { tables.read(entry) }

    func apply(
        _ table: PipelineManifest.Table,
        of pipeline: String,
        by caller: Caller
    ) async throws -> ManifestTableChange? {
        do {
            guard let change = try await tables.apply(table, of: pipeline, by: caller) else { return nil }
            return ManifestTableChange(table: table.name, isNew: change.before == nil) {
                do { return try await tables.putBack(change, by: caller) } catch { throw error.asServiceError }
            }
        } catch {
            throw error.asServiceError
        }
    }

    func made(by pipeline: String) async throws -> [String] {
        do { return try await tables.made(by: pipeline) } catch { throw error.asServiceError }
    }

    func delete(_ name: String, by caller: Caller) async throws {
        do { try await tables.deleteDeclared(name, by: caller) } catch { throw error.asServiceError }
    }
}
