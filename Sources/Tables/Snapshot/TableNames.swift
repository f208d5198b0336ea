// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import DuckDB
import Foundation
import Lake
import MartletCore
import Synchronization

/// What the names of append tables mean in one query.
///
/// Each table is read as it was when it was first named, however often it is named after that. `trips` is the table, `trips@12` the
/// table after commit 12, `trips@2026-11-21T10:00:00Z` what was committed by then, `trips__rejected` its rejects.
final class TableNames: QueryNames {
    private let services: SinkServices
    private let registry: TableRegistry
    private let keyed: KeyedTables
    private let maxStaleness: Duration?
    /// Snapshots of AS OF, by table and then by what follows the `@`; the empty text is for the table's plain name.
    private let pinned: [String: [String: TableSnapshot]]
    private let predicates: QueryPredicates
    private let seen = Mutex<[String: TableSnapshot]>([:])

    init(
        services: SinkServices,
        registry: TableRegistry,
        keyed: KeyedTables,
        maxStaleness: Duration?,
        pinned: [String: [String: TableSnapshot]],
        predicates: QueryPredicates
    ) {
        self.services = services
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
            guard version.isEmpty else { return nil }
            if name == TableList.name { return TableList.query(registry, keyed: keyed.all()) }
            return view(name)
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

    /// The query of a view of the engine.
    ///
    /// The statement's conditions on the table it reads are not its own, so they leave out no files.
    private func view(_ name: String) -> String? {
        guard let view = registry.view(name), let table = registry.find(view.table) else { return nil }
        return view.query("(\(current(table, TableRegistry.key(view.table)).query(.rows)))")
    }

    // MARK: Damage

    func fault(behind error: DuckDBError) -> LakeError? {
        guard Self.mayBeDamage.contains(error.code) else { return nil }
        let read =
            seen.withLock { $0 }.map { (key: $0.key, snapshot: $0.value) }
            + pinned.flatMap { key, versions in versions.values.map { (key: key, snapshot: $0) } }
        for (key, snapshot) in read {
            guard let table = registry.find(key) else { continue }
            let found = damage(of: snapshot, behind: error)
            guard let first = found.first else { continue }
            services.note(damage: Dictionary(found) { first, _ in first }, of: table)
            let others = found.count > 1 ? "; \(found.count - 1) more \(found.count == 2 ? "is" : "are") damaged" : ""
            var fault = LakeError(
                .damaged,
                "the table '\(table.name)' has a damaged file, \(first.0): \(first.1)\(others) (\(error.message))"
            )
            fault.fix =
                "see what a repair would do, and do it: martlet tables repair \(table.name) --dry-run, then without"
            return fault
        }
        return nil
    }

    /// Errors that a damaged file can give; a wrong statement gives some of them too.
    private static let mayBeDamage: Set<DuckDBError.Code> = [.io, .damaged, .invalidInput, .conversion, .fatal, .other]
    /// Those that a wrong statement seldom gives, for which every byte is looked at.
    private static let isLikelyDamage: Set<DuckDBError.Code> = [.io, .damaged, .fatal, .other]
    /// Who waits for an answer does not wait longer for a better reason.
    private static let searchMax = Duration.seconds(10)

    /// Paths and problems of damaged files: the one that the error names, or else what can be found in time.
    private func damage(of snapshot: TableSnapshot, behind error: DuckDBError) -> [(String, String)] {
        let folder = snapshot.layout.folder
        let inspector = FileInspector(folder: folder)
        if let named = snapshot.files.first(where: { error.message.contains(folder.absolute($0.path)) }) {
            return [(named.path, inspector.problem(named, .full, nil) ?? "it cannot be read")]
        }
        let quick = snapshot.files.compactMap { file in inspector.problem(file, .quick, nil).map { (file.path, $0) } }
        guard quick.isEmpty, Self.isLikelyDamage.contains(error.code) else { return quick }
        let end = ContinuousClock.now + Self.searchMax
        return snapshot.files.compactMap { file in
            guard ContinuousClock.now < end else { return nil }
            return inspector.problem(file, .full, nil).map { (file.path, $0) }
        }
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
