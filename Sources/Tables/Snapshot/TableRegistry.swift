// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The append tables of this engine by the names SQL calls them, in any case.
final class TableRegistry: Sendable {
    /// What follows a table's name in that of its rejects.
    static let rejectsSuffix = "__rejected"

    private let tables = Mutex<[String: AppendTable]>([:])

    func add(_ table: AppendTable) { tables.withLock { $0[Self.key(table.name)] = table } }
    func remove(_ table: AppendTable) { tables.withLock { $0[Self.key(table.name)] = nil } }
    func find(_ name: String) -> AppendTable? { tables.withLock { $0[Self.key(name)] } }
    func all() -> [AppendTable] { tables.withLock { $0.values.sorted { $0.name < $1.name } } }

    /// SQL says `system.logs` for the table `system.logs`, and DuckDB asks for `logs`.
    static func key(_ name: String) -> String {
        let folded = name.lowercased()
        return folded.hasPrefix(systemPrefix) ? String(folded.dropFirst(systemPrefix.count)) : folded
    }

    /// What the engine's own tables are called with.
    static let systemPrefix = "system."
}
