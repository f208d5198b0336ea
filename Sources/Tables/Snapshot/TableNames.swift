// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import Lake
import MartletCore
import Synchronization

/// What the names of append tables mean in one query.
///
/// Each table is read as it was when it was first named, however often it is named after that. `trips` is the table, `trips@12` the
/// table after commit 12, `trips@2026-11-21T10:00:00Z` what was committed by then, `trips__rejected` its rejects.
final class TableNames: QueryNames {
    private let registry: TableRegistry
    private let keyed: KeyedTables
    private let maxStaleness: Duration?
    /// Snapshots of AS OF, by table and then by what follows the `@`; the empty text is for the table's plain name.
    private let pinned: [String: [String: TableSnapshot]]
    private let predicates: QueryPredicates
    private let seen = Mutex<[String: TableSnapshot]>([:])

    init(
        registry: TableRegistry,
        keyed: KeyedTables,
        maxStaleness: Duration?,
        pinned: [String: [String: TableSnapshot]],
        predicates: QueryPredicates
    ) {
        self.registry = registry
        self.keyed = keyed
        self.maxStaleness = maxStaleness
        self.pinned = pinned
        self.predicates = predicates
    }

    func query(for name: String) throws -> String? {
        var name = name.lowercased()
        var version = ""
        if let mark = name.firstIndex(of: "@") {
            version = String(name[name.index(after: mark)...])
            name = String(name[..<mark])
        }
        var part = AppendTableFile.Part.rows
        if registry.find(name) == nil, name.hasSuffix(TableRegistry.rejectsSuffix) {
            name = String(name.dropLast(TableRegistry.rejectsSuffix.count))
            part = .rejects
        }
        guard let table = registry.find(name) else {
            return name == TableList.name && version.isEmpty ? TableList.query(registry, keyed: keyed.all()) : nil
        }
        let key = TableRegistry.key(name)
        let snapshot: TableSnapshot
        if let pinned = pinned[key]?[version] {
            snapshot = pinned
        } else if version.isEmpty {
            snapshot = current(table, key)
        } else {
            throw ServiceError(
                .invalid,
                "the table '\(table.name)' has no state '\(version)'",
                fix:
                    "name a commit (\"\(table.name)@12\", see martlet tables history \(table.name)) or a time (\"\(table.name)@2026-11-21T10:00:00Z\")"
            )
        }
        let filter = predicates.filter(for: key)
        return snapshot.query(part, filter)
    }

    private func current(_ table: AppendTable, _ key: String) -> TableSnapshot {
        seen.withLock { seen in
            if let snapshot = seen[key] { return snapshot }
            var snapshot = table.snapshot()
            if let maxStaleness, snapshot.fresh.allSatisfy({ $0.isYounger(than: maxStaleness) }) {
                snapshot = snapshot.filesOnly()
            }
            seen[key] = snapshot
            return snapshot
        }
    }
}

extension FreshRows {
    /// Whether its oldest row was taken less than some time ago.
    fileprivate func isYounger(than age: Duration) -> Bool {
        guard let oldest else { return true }
        return ContinuousClock.now - oldest < age
    }
}
