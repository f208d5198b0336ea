// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Secrets as the API offers them: values go in, names and keys come out.
package struct SecretService: SecretServices {
    private let catalog: Catalog
    private let store: SecretStore

    /// Makes the service over a catalog and the store that seals its values.
    package init(catalog: Catalog, store: SecretStore) {
        self.catalog = catalog
        self.store = store
    }

    package func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<SecretSpec> {
        let secret = try SecretDocument(document)
        guard let name = secret.name else {
            throw ServiceError.invalid(
                field: "name",
                "is missing",
                fix: "add name: <the secret's name>",
                line: document.lines[""]
            )
        }
        try ResourceName.check(name)
        guard let entries = secret.entries else {
            throw ServiceError.invalid(
                field: "entries",
                "is missing",
                fix: "add entries: [{key: <key>, value: <value>}]",
                line: document.lines[""]
            )
        }
        let store = store
        return try await catalog.transaction(dryRun: dryRun) { tx in
            let resource = try tx.create(
                name: name,
                description: secret.description ?? "",
                tags: secret.tags ?? [],
                owner: ResourceMetadata.Owner(name: caller.name),
                spec: SecretSpec(keys: entries.map(\.key).sorted())
            )
            try store.set(entries, of: resource, in: tx)
            return resource
        }
    }

    package func update(
        _ id: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<SecretSpec> {
        let secret = try SecretDocument(document)
        let store = store
        return try await catalog.transaction(dryRun: dryRun) { tx in
            let resource = try tx.update(SecretSpec.self, id) { resource in
                if let name = secret.name { resource.metadata.name = name }
                if let description = secret.description { resource.metadata.description = description }
                if let tags = secret.tags { resource.metadata.tags = tags }
                if let entries = secret.entries { resource.spec.keys = entries.map(\.key).sorted() }
            }
            if let entries = secret.entries { try store.set(entries, of: resource, in: tx) }
            return resource
        }
    }

    package func get(_ id: String) async throws -> Resource<SecretSpec> {
        try await catalog.secrets.get(id)
    }

    package func list(_ query: ListQuery) async throws -> Page<Resource<SecretSpec>> {
        try await catalog.secrets.list(query)
    }

    /// Removes the secret with its values; refused while a pipeline uses it.
    package func delete(_ id: String, by caller: Caller) async throws {
        try await catalog.secrets.delete(id)
    }
}
