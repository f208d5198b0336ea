// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
import GRDB
package import MartletCore

/// Users of Kafka's clients and access rules, in the catalog.
///
/// What belongs to a user is bytes that this store seals as it does secrets; what they say is the caller's.
package struct KafkaAccessStore: Sendable {
    /// A stored user.
    package struct User: Sendable {
        /// What clients give as user name.
        package let name: String
        /// What was put in.
        package let content: [UInt8]
        /// When it was made.
        package let createdAt: Date
        /// When it last changed.
        package let updatedAt: Date
    }

    private let catalog: Catalog
    private let secrets: SecretStore

    /// Makes a store over a catalog and the key that seals its secrets.
    package init(catalog: Catalog, secrets: SecretStore) {
        self.catalog = catalog
        self.secrets = secrets
    }

    /// A key for one purpose, 32 bytes, made of the key that seals users and the same after each start.
    package func derivedKey(_ purpose: String) -> [UInt8] { secrets.derivedKey(purpose) }

    /// Every user, by name.
    ///
    /// - Throws: `ServiceError.internal` where one was changed outside of Martlet.
    package func users() async throws -> [User] {
        try await catalog.snapshot { tx in
            let rows = try Row.fetchAll(
                tx.db,
                sql: "SELECT name, sealed, created_micros, updated_micros FROM kafka_users ORDER BY name"
            )
            return try rows.map(user)
        }
    }

    /// One user, or nil.
    ///
    /// - Throws: `ServiceError.internal` where it was changed outside of Martlet.
    package func user(_ name: String) async throws -> User? {
        try await catalog.snapshot { try find(name, $0) }
    }

    /// Replaces what belongs to a user, by what it is now: nil is no user, before and after.
    ///
    /// `change` runs on the catalog's writing thread, so it must not wait for anything.
    ///
    /// - Returns: The user as it is then; durable on return.
    package func change(
        _ name: String,
        _ change: @escaping @Sendable ([UInt8]?) throws -> [UInt8]?
    ) async throws -> User? {
        try await catalog.transaction { tx in
            guard let content = try change(try find(name, tx)?.content) else {
                try tx.db.execute(sql: "DELETE FROM kafka_users WHERE name = ?", arguments: [name])
                return nil
            }
            let now = Int64(Date().timeIntervalSince1970 * 1_000_000)
            let sealed = try secrets.seal(content, binding: Self.binding(name))
            try tx.db.execute(
                sql: """
                    INSERT INTO kafka_users (name, sealed, created_micros, updated_micros) VALUES (?1, ?2, ?3, ?3)
                    ON CONFLICT (name) DO UPDATE SET sealed = ?2, updated_micros = ?3
                    """,
                arguments: [name, Data(sealed), now]
            )
            return try find(name, tx)
        }
    }

    private func find(_ name: String, _ tx: CatalogTransaction) throws -> User? {
        try Row.fetchOne(
            tx.db,
            sql: "SELECT name, sealed, created_micros, updated_micros FROM kafka_users WHERE name = ?",
            arguments: [name]
        ).map(user)
    }

    private func user(_ row: Row) throws -> User {
        let name: String = row[0]
        let sealed: Data = row[1]
        guard let content = secrets.open(Array(sealed), binding: Self.binding(name)) else {
            throw ServiceError(
                .internal,
                "the Kafka user '\(name)' is damaged or was changed outside of Martlet",
                fix: "delete the user and create it again: martlet kafka users delete \(name)"
            )
        }
        return User(name: name, content: content, createdAt: Self.date(row[2]), updatedAt: Self.date(row[3]))
    }

    private static func date(_ micros: Int64) -> Date { Date(timeIntervalSince1970: Double(micros) / 1_000_000) }

    private static func binding(_ name: String) -> String { "martlet-kafka-user-v1\n\(name)" }

    /// Removes a user without reading what belongs to it; false where there is none.
    ///
    /// Durable on return.
    package func removeUser(_ name: String) async throws -> Bool {
        try await catalog.transaction { tx in
            try tx.db.execute(sql: "DELETE FROM kafka_users WHERE name = ?", arguments: [name])
            return tx.db.changesCount > 0
        }
    }

    // MARK: Rules

    /// Every access rule, oldest first.
    package func acls() async throws -> [StoredKafkaACL] {
        try await catalog.snapshot { tx in
            try Row.fetchAll(tx.db, sql: "SELECT \(Self.columns) FROM kafka_acls ORDER BY id").map(Self.acl)
        }
    }

    /// Adds rules, all or none; those that are there already are returned as they are.
    ///
    /// Durable on return.
    package func addACLs(_ acls: [KafkaACL]) async throws -> [StoredKafkaACL] {
        try await catalog.transaction { tx in
            try acls.map { acl in
                let values: StatementArguments = [
                    acl.resourceType.rawValue, acl.resourceName, acl.pattern.rawValue, acl.principal, acl.host,
                    acl.operation.rawValue, acl.permission.rawValue,
                ]
                try tx.db.execute(
                    sql: """
                        INSERT INTO kafka_acls
                        (resource_type, resource_name, pattern, principal, host, operation, permission)
                        VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
                        """,
                    arguments: values
                )
                let row = try Row.fetchOne(
                    tx.db,
                    sql: """
                        SELECT \(Self.columns) FROM kafka_acls WHERE resource_type = ? AND resource_name = ?
                        AND pattern = ? AND principal = ? AND host = ? AND operation = ? AND permission = ?
                        """,
                    arguments: values
                )
                guard let row else { throw ServiceError(.internal, "an access rule was not stored") }
                return try Self.acl(row)
            }
        }
    }

    /// Removes rules; those that are not there are passed over.
    ///
    /// Durable on return.
    package func removeACLs(_ ids: [Int64]) async throws {
        try await catalog.transaction { tx in
            for id in ids { try tx.db.execute(sql: "DELETE FROM kafka_acls WHERE id = ?", arguments: [id]) }
        }
    }

    private static let columns = "id, resource_type, resource_name, pattern, principal, host, operation, permission"

    private static func acl(_ row: Row) throws -> StoredKafkaACL {
        guard let type = KafkaACL.ResourceType(rawValue: row[1]), let pattern = KafkaACL.Pattern(rawValue: row[3]),
            let operation = KafkaACL.Operation(rawValue: row[6]),
            let permission = KafkaACL.Permission(rawValue: row[7])
        else {
            // Left out, a rule that denies would allow.
            throw ServiceError(.internal, "a stored Kafka access rule cannot be read", fix: "restore the catalog")
        }
        return StoredKafkaACL(
            id: row[0],
            acl: KafkaACL(permission, row[4], operation, on: type, row[2], pattern: pattern, host: row[5])
        )
    }
}

extension CatalogSchema {
    static func createKafkaAccess(_ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TABLE kafka_users (
                    name TEXT NOT NULL PRIMARY KEY,
                    sealed BLOB NOT NULL,
                    created_micros INTEGER NOT NULL,
                    updated_micros INTEGER NOT NULL
                ) STRICT;
                CREATE TABLE kafka_acls (
                    id INTEGER PRIMARY KEY AUTOINCREMENT,
                    resource_type TEXT NOT NULL,
                    resource_name TEXT NOT NULL,
                    pattern TEXT NOT NULL,
                    principal TEXT NOT NULL,
                    host TEXT NOT NULL,
                    operation TEXT NOT NULL,
                    permission TEXT NOT NULL,
                    UNIQUE (resource_type, resource_name, pattern, principal, host, operation, permission)
                ) STRICT;
                """
        )
    }
}
