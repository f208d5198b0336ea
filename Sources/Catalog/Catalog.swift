// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
package import MartletCore

/// The metadata catalog: every resource, what refers to what, and the engine's small durable state, in one SQLite file.
///
/// Writes are serialised, and on disk when they return. Reads see a consistent snapshot and never wait for writers.
/// Errors are `ServiceError`, except from ``open(path:)``.
package final class Catalog: Sendable {
    /// Watched places.
    package let views: ResourceRepository<ViewSpec>
    /// Triggers.
    package let triggers: ResourceRepository<TriggerSpec>
    /// Functions.
    package let functions: ResourceRepository<FunctionSpec>
    /// Revisions of functions.
    package let functionRevisions: ResourceRepository<FunctionRevisionSpec>
    /// Pipelines.
    package let pipelines: ResourceRepository<PipelineSpec>
    /// Revisions of pipelines.
    package let pipelineRevisions: ResourceRepository<PipelineRevisionSpec>
    /// Topics.
    package let topics: ResourceRepository<TopicSpec>
    /// Secrets, without their values.
    package let secrets: ResourceRepository<SecretSpec>
    /// Tables that follow topics.
    package let tables: ResourceRepository<TableSpec>
    /// What append tables hold.
    package let appendTables: AppendTableRepository
    /// Built function bundles.
    package let bundles: BundleRepository
    /// The engine's own key-value pairs.
    package let state: EngineState

    private let store: SQLiteFile

    private init(_ store: SQLiteFile) {
        self.store = store
        views = ResourceRepository(store)
        triggers = ResourceRepository(store)
        functions = ResourceRepository(store)
        functionRevisions = ResourceRepository(store)
        pipelines = ResourceRepository(store)
        pipelineRevisions = ResourceRepository(store)
        topics = ResourceRepository(store)
        secrets = ResourceRepository(store)
        tables = ResourceRepository(store)
        appendTables = AppendTableRepository(store)
        bundles = BundleRepository(store)
        state = EngineState(store)
    }

    /// Opens the catalog, making the file where there is none and bringing an older schema up to date.
    ///
    /// Blocks in the file system. The directory must exist. `observer` is told of every change of a resource, `onTrouble` of what should be
    /// known of the disk: see ``troubles()``.
    package static func open(
        path: String,
        observer: ResourceObserver? = nil,
        onTrouble: @escaping @Sendable (CatalogError) -> Void = { _ in }
    ) throws(CatalogError) -> Catalog {
        var store = try SQLiteFile(
            path: path,
            durability: .full,
            migrator: CatalogSchema.migrator,
            isGuarded: true,
            troubles: StoreTroubles(onTrouble)
        )
        store.observer = observer
        return Catalog(store)
    }

    /// What is wrong with the file or its disk: commits that failed, and what could not be checked when it was opened.
    package func troubles() -> [CatalogError] { store.troubles.all }

    /// Closes the file; what is called afterwards fails with `.unavailable`.
    package func close() throws {
        try store.close()
    }

    /// Runs one transaction over any number of kinds: all of it is stored, or, where `body` throws, none of it.
    ///
    /// `body` runs on the catalog's writing thread, so it must not wait for anything.
    package func transaction<T: Sendable>(
        _ body: @escaping @Sendable (CatalogTransaction) throws -> T
    ) async throws -> T {
        try await store.write { [observer = store.observer] in try body(CatalogTransaction($0, observer: observer)) }
    }

    /// Runs a transaction with all its checks, returns its result and stores nothing.
    package func rehearsal<T: Sendable>(
        _ body: @escaping @Sendable (CatalogTransaction) throws -> T
    ) async throws -> T {
        try await store.rehearse { try body(CatalogTransaction($0)) }
    }

    /// Runs `body` as a transaction, or only as a rehearsal where `dryRun` is set.
    package func transaction<T: Sendable>(
        dryRun: Bool,
        _ body: @escaping @Sendable (CatalogTransaction) throws -> T
    ) async throws -> T {
        dryRun ? try await rehearsal(body) : try await transaction(body)
    }

    /// Runs `body` on one consistent snapshot; writing in it fails.
    package func snapshot<T: Sendable>(
        _ body: @escaping @Sendable (CatalogTransaction) throws -> T
    ) async throws -> T {
        try await store.read { try body(CatalogTransaction($0)) }
    }
}
