// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The append tables of this engine by the names SQL calls them, in any case.
final class TableRegistry: Sendable {
    /// What follows a table's name in that of its rejects.
    static let rejectsSuffix = "__rejected"

    private let tables = Mutex<[String: AppendTable]>([:])
    private let views = Mutex<[String: SystemView]>([:])

    func setViews(_ all: [SystemView]) {
        let named = Dictionary(all.map { ($0.name, $0) }) { first, _ in first }
        views.withLock { $0 = named }
    }

    /// A view of the engine's own by its name without the schema, in any case.
    func view(_ name: String) -> SystemView? { views.withLock { $0[name.lowercased()] } }
    func allViews() -> [SystemView] { views.withLock { $0.values.sorted { $0.name < $1.name } } }

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
