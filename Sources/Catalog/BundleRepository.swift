// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
import GRDB
package import MartletCore

/// A built bundle and where its files are.
package struct BundleRecord: Sendable, Equatable {
    /// What was built.
    package var description: BundleDescription
    /// Directory of the bundle.
    package var path: String
    /// When it was last built under this name and tag.
    package var createdAt: Date

    /// Makes a record.
    package init(description: BundleDescription, path: String, createdAt: Date) {
        self.description = description
        self.path = path
        self.createdAt = createdAt
    }
}

/// The bundles that were built, by name and tag and by digest.
package struct BundleRepository: Sendable {
    private let store: SQLiteFile

    init(_ store: SQLiteFile) {
        self.store = store
    }

    /// Stores a bundle under its name and tag, replacing the one there is; durable on return.
    package func put(_ record: BundleRecord) async throws {
        try await store.write { try CatalogTransaction($0).putBundle(record) }
    }

    /// The bundle built under a name and tag, or nil.
    package func find(name: String, tag: String) async throws -> BundleRecord? {
        try await store.read { try CatalogTransaction($0).bundle(name: name, tag: tag) }
    }

    /// A bundle with a digest, the newest where several names have it, or nil.
    package func find(digest: String) async throws -> BundleRecord? {
        try await store.read { try CatalogTransaction($0).bundle(digest: digest) }
    }

    /// One page, oldest first; the query's name keeps bundle names that contain it.
    package func list(_ query: ListQuery) async throws -> Page<BundleRecord> {
        try await store.read { db in
            let start = try ListCursor.check(query, scope: "bundles")
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT description, path, created_micros, id FROM bundles
                    WHERE id > ? AND (? IS NULL OR instr(name, ?) > 0) ORDER BY id LIMIT ?
                    """,
                arguments: [start, query.name, query.name, query.limit + 1]
            )
            let items = try rows.prefix(query.limit).map(CatalogTransaction.bundle)
            guard rows.count > query.limit else { return Page(items: items) }
            return Page(items: items, nextCursor: ListCursor.text(scope: "bundles", rows[query.limit - 1][3]))
        }
    }

    /// Forgets the bundle of a name and tag; true where there was one.
    @discardableResult
    package func remove(name: String, tag: String) async throws -> Bool {
        try await store.write { db in
            try db.execute(sql: "DELETE FROM bundles WHERE name = ? AND tag = ?", arguments: [name, tag])
            return db.changesCount > 0
        }
    }
}

extension CatalogTransaction {
    /// Stores a bundle under its name and tag, replacing the one there is.
    package func putBundle(_ record: BundleRecord) throws {
        let description = record.description
        try db.execute(
            sql: """
                INSERT INTO bundles (name, tag, digest, path, description, created_micros) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (name, tag) DO UPDATE SET digest = excluded.digest, path = excluded.path,
                    description = excluded.description, created_micros = excluded.created_micros
                """,
            arguments: [
                description.name, description.tag, description.digest, record.path, try Self.json(description),
                Timestamp.microseconds(record.createdAt),
            ]
        )
    }

    /// The bundle built under a name and tag, or nil.
    package func bundle(name: String, tag: String) throws -> BundleRecord? {
        try Row.fetchOne(
            db,
            sql: "SELECT description, path, created_micros FROM bundles WHERE name = ? AND tag = ?",
            arguments: [name, tag]
        ).map(Self.bundle)
    }

    /// A bundle with a digest, the newest where several names have it, or nil.
    package func bundle(digest: String) throws -> BundleRecord? {
        try Row.fetchOne(
            db,
            sql:
                "SELECT description, path, created_micros FROM bundles WHERE digest = ? ORDER BY created_micros DESC LIMIT 1",
            arguments: [digest]
        ).map(Self.bundle)
    }

    static func bundle(_ row: Row) throws -> BundleRecord {
        let text: String = row[0]
        return BundleRecord(
            description: try ResourceCoding.decoder().decode(BundleDescription.self, from: Data(text.utf8)),
            path: row[1],
            createdAt: date(row[2])
        )
    }
}
