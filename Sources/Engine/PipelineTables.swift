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

    func apply(_ table: PipelineManifest.Table, by caller: Caller) async throws {
        do { try await tables.apply(table, by: caller) } catch { throw error.asServiceError }
    }

    func delete(_ name: String, by caller: Caller) async throws {
        do { try await tables.deleteDeclared(name, by: caller) } catch { throw error.asServiceError }
    }
}
