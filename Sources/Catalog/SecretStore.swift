// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Crypto
import Foundation
import GRDB
import MartletCore

/// Seals the values of secrets into the catalog (AES-GCM, 256 bits) and opens them for workers.
///
/// A sealed value is bound to its secret and its key, so that swapping rows in the file is found out.
package struct SecretStore: Sendable {
    private static let fingerprintKey = "secret-key-fingerprint"

    private let catalog: Catalog
    private let key: SecretKey

    /// Reads the key file, making it where nothing was sealed yet.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the key is absent, unreadable or not the one the values are sealed under.
    package init(catalog: Catalog, keyPath: String) async throws {
        let hasValues = try await catalog.snapshot { tx in
            try Bool.fetchOne(
                tx.db,
                sql: "SELECT EXISTS (SELECT 1 FROM secret_values UNION ALL SELECT 1 FROM kafka_users)"
            ) ?? false
        }
        let key = try SecretKey.load(path: keyPath, mayCreate: !hasValues)
        let known = try await catalog.state.get(Self.fingerprintKey)
        if known != key.fingerprint {
            guard !hasValues else {
                throw ServiceError(
                    .failedPrecondition,
                    "\(keyPath): this is not the key the stored secrets are sealed under",
                    fix: "restore the key file that belongs to this data directory"
                )
            }
            try await catalog.state.set(Self.fingerprintKey, key.fingerprint)
        }
        self.catalog = catalog
        self.key = key
    }

    /// The values of secrets, by secret name and key, from one snapshot.
    ///
    /// - Throws: `ServiceError` `.notFound` naming a secret that does not exist; `.internal` where a value was tampered with.
    package func values(_ names: [String]) async throws -> [String: [String: String]] {
        let key = key
        return try await catalog.snapshot { tx in
            var values: [String: [String: String]] = [:]
            for name in names {
                let secret = try tx.get(SecretSpec.self, name)
                let rows = try Row.fetchAll(
                    tx.db,
                    sql: "SELECT key, sealed FROM secret_values WHERE secret_guid = ?",
                    arguments: [secret.guid]
                )
                var entries: [String: String] = [:]
                for row in rows {
                    let entry: String = row[0]
                    entries[entry] = try Self.open(row[1], key, secret: secret, entry: entry)
                }
                values[name] = entries
            }
            return values
        }
    }

    /// Replaces all values of a secret, inside the transaction that stores its resource.
    func set(_ entries: [SecretDocument.Entry], of secret: Resource<SecretSpec>, in tx: CatalogTransaction) throws {
        try tx.db.execute(sql: "DELETE FROM secret_values WHERE secret_guid = ?", arguments: [secret.guid])
        for entry in entries {
            let box = try AES.GCM.seal(
                Array(entry.value.utf8),
                using: key.key,
                authenticating: Self.binding(secret.guid, entry.key)
            )
            guard let sealed = box.combined else { throw ServiceError(.internal, "a secret value could not be sealed") }
            try tx.db.execute(
                sql: "INSERT INTO secret_values (secret_guid, key, sealed) VALUES (?, ?, ?)",
                arguments: [secret.guid, entry.key, Data(sealed)]
            )
        }
    }

    /// A key for one purpose, the same for as long as the key file is: 32 bytes that tell nothing of it.
    func derivedKey(_ purpose: String) -> [UInt8] {
        let derived = HKDF<SHA256>.deriveKey(inputKeyMaterial: key.key, info: Array(purpose.utf8), outputByteCount: 32)
        return derived.withUnsafeBytes { Array($0) }
    }

    /// Seals bytes; they can be opened with the same `binding` only.
    func seal(_ bytes: [UInt8], binding: String) throws -> [UInt8] {
        let box = try AES.GCM.seal(bytes, using: key.key, authenticating: Array(binding.utf8))
        guard let sealed = box.combined else { throw ServiceError(.internal, "bytes could not be sealed") }
        return Array(sealed)
    }

    /// Opens what ``seal(_:binding:)`` made; nil where it is damaged, or was sealed otherwise.
    func open(_ sealed: [UInt8], binding: String) -> [UInt8]? {
        guard let box = try? AES.GCM.SealedBox(combined: sealed) else { return nil }
        return (try? AES.GCM.open(box, using: key.key, authenticating: Array(binding.utf8))).map(Array.init)
    }

    private static func open(
        _ sealed: Data,
        _ key: SecretKey,
        secret: Resource<SecretSpec>,
        entry: String
    ) throws -> String {
        do {
            let box = try AES.GCM.SealedBox(combined: sealed)
            let bytes = try AES.GCM.open(box, using: key.key, authenticating: binding(secret.guid, entry))
            return String(decoding: bytes, as: UTF8.self)
        } catch {
            throw ServiceError(
                .internal,
                "the value '\(entry)' of the secret '\(secret.name)' is damaged or was changed outside of Martlet",
                fix: "set the secret again: martlet secrets update \(secret.name)"
            )
        }
    }

    private static func binding(_ guid: String, _ entry: String) -> [UInt8] {
        Array("martlet-secret-v1\n\(guid)\n\(entry)".utf8)
    }
}
