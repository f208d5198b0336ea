// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import Logging
import MartletCore
import NIOHTTP1
import ServiceLifecycle

/// Tables that fail in one way.
protocol FailingTables: TableServices {
    var code: ServiceError.Code { get }
}

extension FailingTables {
    private var error: ServiceError { ServiceError(code, "made to fail", fix: "nothing") }

    func list(_ query: TableListQuery) async throws -> Page<TableDescription> { throw error }
    func get(_ name: String) async throws -> TableDescription { throw error }
    func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> TableDescription { throw error }
    func update(
        _ name: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> TableDescription { throw error }
    func delete(_ name: String, by caller: Caller) async throws { throw error }
    func history(_ name: String, limit: Int, cursor: String?) async throws -> Page<TableCommit> { throw error }
    func commit(_ name: String) async throws -> TableCommit? { throw error }
    func compact(_ name: String) async throws -> TableCompaction { throw error }
    func repair(_ name: String, dryRun: Bool, quick: Bool) async throws -> [TableFinding] { throw error }
    func replay(_ name: String) async throws -> TableReplay { throw error }
    func export(_ name: String, format: TableFormat) async throws -> String { throw error }
    func query(
        _ sql: String,
        parameters: [JSONValue],
        timeout: Duration,
        options: QueryOptions
    ) async throws -> QueryAnswer { throw error }
}

extension Harness {
    /// The status of a call to tables that fail.
    static func runFailing(with tables: some TableServices) async throws -> Int {
        try await run(replacing: { $0.tables = tables }) { http in
            try await http.send(.GET, "/api/v1/tables/x").status
        }
    }
}

/// Tables whose queries last until they are cancelled.
struct WaitingTables: FailingTables {
    let code = ServiceError.Code.internal
    let started: AsyncStream<Void>.Continuation
    let cancelled: AsyncStream<Void>.Continuation

    func query(
        _ sql: String,
        parameters: [JSONValue],
        timeout: Duration,
        options: QueryOptions
    ) async throws -> QueryAnswer {
        started.yield()
        do {
            try await Task.sleep(for: .seconds(300))
        } catch {
            cancelled.yield()
            throw error
        }
        throw ServiceError(.timeout, "nobody cancelled the query")
    }
}
