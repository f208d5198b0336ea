// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB
import MartletCore

/// The inventory of every view's elements, in its own SQLite file because it is written in bursts.
///
/// A view is named by its GUID. Errors are `ServiceError`, except from ``open(path:durability:)``.
package final class ElementInventory: Sendable {
    private let store: SQLiteFile

    private init(_ store: SQLiteFile) {
        self.store = store
    }

    /// Opens the inventory, making the file where there is none and bringing an older schema up to date.
    ///
    /// Blocks in the file system. The directory must exist.
    package static func open(path: String, durability: CommitDurability = .full) throws(CatalogError)
        -> ElementInventory
    {
        ElementInventory(try SQLiteFile(path: path, durability: durability, migrator: migrator, isGuarded: false))
    }

    /// What went wrong with the file or its disk.
    package func troubles() -> [CatalogError] { store.troubles.all }

    /// Closes the file; what is called afterwards fails with `.unavailable`.
    package func close() throws {
        try store.close()
    }

    /// Applies what was seen of a view, and the checkpoints that go with it, in one transaction; durable on return.
    ///
    /// Removals are applied before upserts.
    package func apply(
        view: String,
        upserts: [InventoryElement] = [],
        removals: [String] = [],
        checkpoints: [InventoryCheckpoint] = []
    ) async throws {
        try await store.write { db in
            let remove = try db.cachedStatement(sql: "DELETE FROM elements WHERE view_guid = ? AND key = ?")
            for key in removals {
                try remove.execute(arguments: [view, key])
            }
            let upsert = try db.cachedStatement(
                sql: """
                    INSERT INTO elements (view_guid, key, inode, size, mtime_ns, ctime_ns, tags, version)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT (view_guid, key) DO UPDATE SET inode = excluded.inode, size = excluded.size,
                        mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, tags = excluded.tags,
                        version = excluded.version
                    """
            )
            for element in upserts {
                try upsert.execute(arguments: [
                    view, element.key, Int64(bitPattern: element.inode), element.sizeBytes, element.modifiedNanos,
                    element.changedNanos, element.tagsText, element.version,
                ])
            }
            let checkpoint = try db.cachedStatement(
                sql: """
                    INSERT INTO checkpoints (view_guid, trigger_guid, topic, "partition", "offset") VALUES (?, ?, ?, ?, ?)
                    ON CONFLICT (view_guid, trigger_guid, topic, "partition") DO UPDATE SET "offset" = excluded."offset"
                    """
            )
            for item in checkpoints {
                try checkpoint.execute(arguments: [view, item.triggerGuid, item.topic, item.partition, item.offset])
            }
        }
    }

    /// At most `limit` elements in key order (by UTF-8 bytes) whose key starts with `prefix` and comes after `after`.
    package func elements(
        view: String,
        prefix: String = "",
        after: String? = nil,
        limit: Int
    ) async throws -> [InventoryElement] {
        try await store.read { db in
            let end = Self.endOfPrefix(prefix)
            let rows = try Row.fetchCursor(
                db.cachedStatement(
                    sql: """
                        SELECT \(Self.columns) FROM elements
                        WHERE view_guid = ?1 AND key >= ?2 AND key > ?3 AND substr(key, 1, length(?2)) = ?2
                        \(end == nil ? "" : "AND key < ?5 ")ORDER BY key LIMIT ?4
                        """
                ),
                arguments: end.map { [view, prefix, after ?? "", limit, $0] } ?? [view, prefix, after ?? "", limit]
            )
            var elements: [InventoryElement] = []
            while let row = try rows.next() { elements.append(try Self.element(row)) }
            return elements
        }
    }

    /// One element, or nil.
    package func element(view: String, key: String) async throws -> InventoryElement? {
        try await store.read { db in
            try Row.fetchOne(
                db.cachedStatement(sql: "SELECT \(Self.columns) FROM elements WHERE view_guid = ? AND key = ?"),
                arguments: [view, key]
            ).map(Self.element)
        }
    }

    /// Calls `body` with every element in key order (by UTF-8 bytes), from one snapshot, without loading them all.
    ///
    /// `body` runs on a database thread; what it throws ends the walk.
    package func forEach(view: String, _ body: @escaping @Sendable (InventoryElement) throws -> Void) async throws {
        try await store.read { db in
            let rows = try Row.fetchCursor(
                db.cachedStatement(sql: "SELECT \(Self.columns) FROM elements WHERE view_guid = ? ORDER BY key"),
                arguments: [view]
            )
            while let row = try rows.next() { try body(try Self.element(row)) }
        }
    }

    /// How many elements a view has.
    package func count(view: String) async throws -> Int {
        try await store.read { db in
            try Int.fetchOne(db, sql: "SELECT count(*) FROM elements WHERE view_guid = ?", arguments: [view]) ?? 0
        }
    }

    /// The checkpoints of a view, by trigger, topic and partition.
    package func checkpoints(view: String) async throws -> [InventoryCheckpoint] {
        try await store.read { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT trigger_guid, topic, "partition", "offset" FROM checkpoints WHERE view_guid = ?
                    ORDER BY trigger_guid, topic, "partition"
                    """,
                arguments: [view]
            ).map { InventoryCheckpoint(triggerGuid: $0[0], topic: $0[1], partition: $0[2], offset: $0[3]) }
        }
    }

    /// Forgets a trigger's checkpoints in a view.
    package func removeCheckpoints(view: String, triggerGuid: String) async throws {
        try await store.write { db in
            try db.execute(
                sql: "DELETE FROM checkpoints WHERE view_guid = ? AND trigger_guid = ?",
                arguments: [view, triggerGuid]
            )
        }
    }

    /// Forgets everything about a view.
    package func removeView(_ view: String) async throws {
        try await store.write { db in
            try db.execute(sql: "DELETE FROM elements WHERE view_guid = ?", arguments: [view])
            try db.execute(sql: "DELETE FROM checkpoints WHERE view_guid = ?", arguments: [view])
        }
    }

    private static let columns = "key, inode, size, mtime_ns, ctime_ns, tags, version"

    private static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        migrator.registerMigration("1-elements") { db in
            try db.execute(
                sql: """
                    CREATE TABLE elements (
                        view_guid TEXT NOT NULL,
                        key TEXT NOT NULL,
                        inode INTEGER NOT NULL,
                        size INTEGER NOT NULL,
                        mtime_ns INTEGER NOT NULL,
                        ctime_ns INTEGER NOT NULL,
                        tags TEXT NOT NULL,
                        version INTEGER NOT NULL,
                        PRIMARY KEY (view_guid, key)
                    ) STRICT, WITHOUT ROWID;
                    CREATE TABLE checkpoints (
                        view_guid TEXT NOT NULL,
                        trigger_guid TEXT NOT NULL,
                        topic TEXT NOT NULL,
                        "partition" INTEGER NOT NULL,
                        "offset" INTEGER NOT NULL,
                        PRIMARY KEY (view_guid, trigger_guid, topic, "partition")
                    ) STRICT, WITHOUT ROWID;
                    """
            )
        }
        return migrator
    }

    private static func element(_ row: Row) throws -> InventoryElement {
        InventoryElement(
            key: row[0],
            inode: UInt64(bitPattern: row[1]),
            sizeBytes: row[2],
            modifiedNanos: row[3],
            changedNanos: row[4],
            tags: try InventoryElement.tags(row[5]),
            version: row[6]
        )
    }

    /// The smallest text above all that start with `prefix`, so that the index range ends there; nil where there is none.
    private static func endOfPrefix(_ prefix: String) -> String? {
        var scalars = Array(prefix.unicodeScalars)
        while let last = scalars.popLast() {
            let next = last.value == 0xD7FF ? 0xE000 : last.value + 1
            guard let scalar = Unicode.Scalar(next) else { continue }
            scalars.append(scalar)
            return String(String.UnicodeScalarView(scalars))
        }
        return nil
    }
}
