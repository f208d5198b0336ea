// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// The resources of one kind, each call one transaction.
///
/// `id` is a name, a GUID, a full resource name or the number. For several changes at once use ``Catalog/transaction(_:)``.
package struct ResourceRepository<Spec: ResourceSpec>: Sendable {
    let store: SQLiteFile

    init(_ store: SQLiteFile) {
        self.store = store
    }

    /// Stores a new resource; durable on return.
    ///
    /// - Throws: `ServiceError` `.alreadyExists`; `.notFound` naming every missing thing `spec` refers to.
    package func create(
        name: String,
        description: String = "",
        tags: [String] = [],
        owner: ResourceMetadata.Owner,
        spec: Spec
    ) async throws -> Resource<Spec> {
        try await store.write { [observer = store.observer] db in
            try CatalogTransaction(db, observer: observer).create(
                name: name,
                description: description,
                tags: tags,
                owner: owner,
                spec: spec
            )
        }
    }

    /// The resource, or `.notFound`.
    package func get(_ id: String) async throws -> Resource<Spec> {
        try await store.read { try CatalogTransaction($0).get(Spec.self, id) }
    }

    /// The resource, or nil.
    package func find(_ id: String) async throws -> Resource<Spec>? {
        try await store.read { try CatalogTransaction($0).find(Spec.self, id) }
    }

    /// One page, oldest first.
    package func list(_ query: ListQuery) async throws -> Page<Resource<Spec>> {
        try await store.read { try CatalogTransaction($0).list(Spec.self, query) }
    }

    /// All resources, oldest first.
    package func all() async throws -> [Resource<Spec>] {
        try await store.read { try CatalogTransaction($0).all(Spec.self) }
    }

    /// Changes description, tags, owner or spec in one transaction and returns what is stored.
    ///
    /// - Throws: `ServiceError` `.notFound`, also for something `spec` newly refers to; what `change` throws, with nothing changed.
    @discardableResult
    package func update(
        _ id: String,
        _ change: @escaping @Sendable (inout Resource<Spec>) throws -> Void
    ) async throws -> Resource<Spec> {
        try await store.write { [observer = store.observer] in
            try CatalogTransaction($0, observer: observer).update(Spec.self, id, change)
        }
    }

    /// Removes a resource and returns what it was; refused with `.inUse` and the list of users.
    @discardableResult
    package func delete(_ id: String) async throws -> Resource<Spec> {
        try await store.write { [observer = store.observer] in
            try CatalogTransaction($0, observer: observer).delete(Spec.self, id)
        }
    }

    /// Who refers to a resource, by kind and name.
    package func users(of name: String) async throws -> [ResourceReference] {
        try await store.read { try CatalogTransaction($0).users(of: ResourceReference(kind: Spec.kind, name: name)) }
    }
}
