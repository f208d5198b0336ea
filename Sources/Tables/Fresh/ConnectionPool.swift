// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Lake
import Synchronization

/// Keeps the few connections that rounds of sinks use, since opening one costs more than a small round.
final class ConnectionPool: Sendable {
    // SAFETY: a connection is either in the pool, where nobody uses it, or with the one caller of `with` that took it out.
    private struct Idle: @unchecked Sendable {
        let connection: Connection
    }

    private static let idleMax = 4

    private let lake: Lake
    private let idle = Mutex<[Idle]?>([])

    init(lake: Lake) {
        self.lake = lake
    }

    /// Runs `body` with a connection of its own; it is kept unless `body` throws.
    ///
    /// - Throws: ``DuckDBError`` `closed` where the database is not open, and what `body` throws.
    func with<R>(_ body: (Connection) throws -> R) throws -> R {
        let connection = try take()
        let result = try body(connection)
        let returned = Idle(connection: connection)
        idle.withLock { if let count = $0?.count, count < Self.idleMax { $0?.append(returned) } }
        return result
    }

    private func take() throws -> Connection {
        if let kept = idle.withLock({ $0?.popLast() }) { return kept.connection }
        guard let database = lake.openedDatabase else { throw DuckDBError(.closed, "The tables are closed.") }
        return try database.connect()
    }

    /// Lets go of all, also of those in use once they come back; the database can close then.
    func close() {
        idle.withLock { $0 = nil }
    }
}
