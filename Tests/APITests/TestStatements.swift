// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Synchronization

/// Statements whose rows a test can foresee, and what was asked for.
final class TestStatements: StatementServices {
    private let requests = Mutex<[StatementRequest]>([])

    var received: [StatementRequest] { requests.withLock { $0 } }

    static func status(_ state: StatementStatus.State = .running) -> StatementStatus {
        StatementStatus(
            id: "s1",
            sql: "SELECT 1",
            state: state,
            write: false,
            caller: "local",
            createdAt: Date(timeIntervalSince1970: 0),
            progress: .init(fraction: 0.25, rowsProcessed: 5, rowsTotal: 20, secondsLeft: 1.5)
        )
    }

    func start(_ request: StatementRequest, by caller: Caller) async throws -> StatementStatus {
        requests.withLock { $0.append(request) }
        return Self.status(.queued)
    }

    func statements(by caller: Caller) async throws -> [StatementStatus] { [Self.status()] }

    func statement(_ id: String, by caller: Caller) async throws -> StatementStatus {
        guard id == "s1" else { throw ServiceError(.notFound, "no statement '\(id)'") }
        return Self.status()
    }

    func rows(_ id: String, _ query: StatementRowsQuery, by caller: Caller) async throws -> StatementPage? {
        _ = try await statement(id, by: caller)
        if query.cursor == "late" { return nil }
        return StatementPage(
            columns: [.init(name: "a", type: "INTEGER")],
            rows: query.format == .json ? Array("[[1],[2]]".utf8) : [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
            rowCount: 2,
            nextCursor: query.cursor == nil ? "2" : nil
        )
    }

    func cancel(_ id: String, by caller: Caller) async throws { _ = try await statement(id, by: caller) }
}
