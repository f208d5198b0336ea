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

    func tables(_ query: ListQuery) async throws -> Page<TableDescription> { throw error }
    func table(_ name: String) async throws -> TableDescription { throw error }
    func drop(_ name: String) async throws { throw error }
    func export(_ name: String, format: TableFormat) async throws -> String { throw error }
    func query(_ sql: String, parameters: [JSONValue], timeout: Duration) async throws -> QueryAnswer { throw error }
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

    func query(_ sql: String, parameters: [JSONValue], timeout: Duration) async throws -> QueryAnswer {
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
