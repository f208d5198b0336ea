// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Small durable state of the engine, such as when a schedule last fired.
package struct EngineState: Sendable {
    private let store: SQLiteFile

    init(_ store: SQLiteFile) {
        self.store = store
    }

    /// The value of a key, or nil.
    package func get(_ key: String) async throws -> String? {
        try await store.read { try CatalogTransaction($0).state([key])[key] }
    }

    /// The values of those keys that have one, from one snapshot.
    package func get(_ keys: [String]) async throws -> [String: String] {
        try await store.read { try CatalogTransaction($0).state(keys) }
    }

    /// The values of all keys that start with `prefix`, from one snapshot.
    package func all(prefix: String) async throws -> [String: String] {
        try await store.read { db in
            let rows = try Row.fetchAll(
                db,
                sql: "SELECT key, value FROM engine_state WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1",
                arguments: [prefix]
            )
            return Dictionary(rows.map { ($0[0], $0[1]) }) { $1 }
        }
    }

    /// Sets one key, or removes it where `value` is nil; durable on return.
    package func set(_ key: String, _ value: String?) async throws {
        try await set([key: value])
    }

    /// Sets many keys in one transaction, durable on return; nil removes a key.
    package func set(_ values: [String: String?]) async throws {
        try await store.write { try CatalogTransaction($0).setState(values) }
    }
}

extension CatalogTransaction {
    /// The values of those keys that have one.
    package func state(_ keys: [String]) throws -> [String: String] {
        let select = try db.cachedStatement(sql: "SELECT value FROM engine_state WHERE key = ?")
        var values: [String: String] = [:]
        for key in keys { values[key] = try String.fetchOne(select, arguments: [key]) }
        return values
    }

    /// Sets keys; nil removes.
    package func setState(_ values: [String: String?]) throws {
        let upsert = try db.cachedStatement(
            sql:
                "INSERT INTO engine_state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        )
        let remove = try db.cachedStatement(sql: "DELETE FROM engine_state WHERE key = ?")
        for (key, value) in values {
            if let value { try upsert.execute(arguments: [key, value]) } else { try remove.execute(arguments: [key]) }
        }
    }
}
