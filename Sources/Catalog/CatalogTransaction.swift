// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
package import MartletCore

/// One open transaction on the catalog; usable only inside the closure it was passed to.
package struct CatalogTransaction {
    let db: Database
    let observer: ResourceObserver?

    init(_ db: Database, observer: ResourceObserver? = nil) {
        self.db = db
        self.observer = observer
    }

    /// Stores a new resource.
    ///
    /// - Throws: `ServiceError` `.alreadyExists`; `.notFound` naming every missing thing `spec` refers to.
    package func create<Spec: ResourceSpec>(
        name: String,
        description: String = "",
        tags: [String] = [],
        owner: ResourceMetadata.Owner,
        spec: Spec
    ) throws -> Resource<Spec> {
        let now = Self.now()
        let guid = UUID().uuidString.lowercased()
        let table = CatalogSchema.table(Spec.kind)
        guard try Int.fetchOne(db, sql: "SELECT 1 FROM \(table) WHERE name = ?", arguments: [name]) == nil else {
            throw ServiceError(
                .alreadyExists,
                "a \(Spec.kind.noun) named '\(name)' exists already",
                fix: "choose another name, or update the one there is",
                fields: [ServiceError.FieldError(field: "name", message: "'\(name)' is taken")]
            )
        }
        try db.cachedStatement(
            sql: """
                INSERT INTO \(table) (guid, name, description, tags, owner, created_micros, updated_micros, spec)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            guid, name, description, try Self.json(tags), try Self.json(owner), now, now, try Self.json(spec),
        ])
        let metadata = ResourceMetadata(
            kind: Spec.kind,
            id: db.lastInsertedRowID,
            guid: guid,
            name: name,
            description: description,
            tags: tags,
            owner: owner,
            createdAt: Self.date(now),
            updatedAt: Self.date(now)
        )
        let resource = Resource(metadata: metadata, spec: spec)
        try setReferences(of: resource)
        note(resource, before: nil, after: spec)
        return resource
    }

    /// The resource of that name, GUID, full resource name or number, or nil.
    package func find<Spec: ResourceSpec>(_ type: Spec.Type, _ id: String) throws -> Resource<Spec>? {
        var name = id
        if let full = ResourceName(id) {
            guard full.kind == Spec.kind.rawValue else { return nil }
            name = Spec.kind == .topics ? full.topicName : full.name
        }
        if let found: Resource<Spec> = try first("name = ?", [name]) { return found }
        if id.utf8.count == 36, let found: Resource<Spec> = try first("guid = ?", [id.lowercased()]) { return found }
        guard let number = Int64(id) else { return nil }
        return try first("id = ?", [number])
    }

    /// The resource of that name, GUID, full resource name or number.
    ///
    /// - Throws: `ServiceError` `.notFound`.
    package func get<Spec: ResourceSpec>(_ type: Spec.Type, _ id: String) throws -> Resource<Spec> {
        guard let found = try find(type, id) else { throw ServiceError.notFound(Spec.kind, id) }
        return found
    }

    /// All resources of a kind, oldest first.
    package func all<Spec: ResourceSpec>(_ type: Spec.Type) throws -> [Resource<Spec>] {
        try fetch("1 ORDER BY id", [])
    }

    /// One page, oldest first.
    package func list<Spec: ResourceSpec>(_ type: Spec.Type, _ query: ListQuery) throws -> Page<Resource<Spec>> {
        let start = try ListCursor.check(query, scope: Spec.kind.rawValue)
        var items: [Resource<Spec>] = try fetch(
            "id > ? AND (? IS NULL OR instr(name, ?) > 0) ORDER BY id LIMIT ?",
            [start, query.name, query.name, query.limit + 1]
        )
        guard items.count > query.limit else { return Page(items: items) }
        items.removeLast()
        return Page(
            items: items,
            nextCursor: items.last.map { ListCursor.text(scope: Spec.kind.rawValue, $0.metadata.id) }
        )
    }

    /// Changes description, tags, owner or spec of a resource and returns what is stored.
    ///
    /// - Throws: `ServiceError` `.notFound`, also for something `spec` newly refers to; `.invalid` where `change` sets another name.
    @discardableResult
    package func update<Spec: ResourceSpec>(
        _ type: Spec.Type,
        _ id: String,
        _ change: (inout Resource<Spec>) throws -> Void
    ) throws -> Resource<Spec> {
        let old = try get(type, id)
        var new = old
        try change(&new)
        guard new.metadata.name == old.metadata.name else {
            throw ServiceError.invalid(
                field: "name",
                "the name '\(old.name)' cannot be changed",
                fix: "leave name out, or create another \(Spec.kind.noun)"
            )
        }
        let now = max(Self.now(), Timestamp.microseconds(old.metadata.updatedAt) + 1)
        new.metadata = ResourceMetadata(
            kind: Spec.kind,
            id: old.metadata.id,
            guid: old.guid,
            name: old.name,
            description: new.metadata.description,
            tags: new.metadata.tags,
            owner: new.metadata.owner,
            createdAt: old.metadata.createdAt,
            updatedAt: Self.date(now)
        )
        try db.cachedStatement(
            sql: """
                UPDATE \(CatalogSchema.table(Spec.kind))
                SET description = ?, tags = ?, owner = ?, updated_micros = ?, spec = ? WHERE id = ?
                """
        ).execute(arguments: [
            new.metadata.description, try Self.json(new.metadata.tags), try Self.json(new.metadata.owner), now,
            try Self.json(new.spec), old.metadata.id,
        ])
        if new.spec.references != old.spec.references { try setReferences(of: new) }
        note(new, before: old.spec, after: new.spec)
        return new
    }

    /// Removes a resource and returns what it was.
    ///
    /// - Throws: `ServiceError` `.notFound`; `.inUse` listing the users by kind and name.
    @discardableResult
    package func delete<Spec: ResourceSpec>(_ type: Spec.Type, _ id: String) throws -> Resource<Spec> {
        let resource = try get(type, id)
        let users = try users(of: ResourceReference(kind: Spec.kind, name: resource.name))
            .filter { $0 != ResourceReference(kind: Spec.kind, name: resource.name) }
        guard users.isEmpty else { throw Self.inUse(Spec.kind, resource.name, by: users) }
        try db.cachedStatement(sql: "DELETE FROM \(CatalogSchema.table(Spec.kind)) WHERE id = ?")
            .execute(arguments: [resource.metadata.id])
        try removeReferences(of: resource)
        note(resource, before: resource.spec, after: nil)
        return resource
    }
}

extension CatalogTransaction {
    func first<Spec: ResourceSpec>(_ condition: String, _ arguments: StatementArguments) throws -> Resource<Spec>? {
        let found: [Resource<Spec>] = try fetch("\(condition) LIMIT 1", arguments)
        return found.first
    }

    func fetch<Spec: ResourceSpec>(_ condition: String, _ arguments: StatementArguments) throws -> [Resource<Spec>] {
        let statement = try db.cachedStatement(
            sql: """
                SELECT id, guid, name, description, tags, owner, created_micros, updated_micros, spec
                FROM \(CatalogSchema.table(Spec.kind)) WHERE \(condition)
                """
        )
        let decoder = ResourceCoding.decoder()
        var resources: [Resource<Spec>] = []
        let rows = try Row.fetchCursor(statement, arguments: arguments)
        while let row = try rows.next() { resources.append(try Self.resource(row, decoder)) }
        return resources
    }

    private static func resource<Spec: ResourceSpec>(_ row: Row, _ decoder: JSONDecoder) throws -> Resource<Spec> {
        let id: Int64 = row[0]
        let name: String = row[2]
        func decode<T: Decodable>(_ type: T.Type, _ column: Int) throws -> T {
            let text: String = row[column]
            do {
                return try decoder.decode(type, from: Data(text.utf8))
            } catch {
                throw ServiceError(
                    .internal,
                    "the catalog's row \(id) of \(Spec.kind.rawValue), '\(name)', cannot be read: \(error)",
                    fix: "restore the catalog from a backup, or delete this \(Spec.kind.noun)"
                )
            }
        }
        let metadata = ResourceMetadata(
            kind: Spec.kind,
            id: id,
            guid: row[1],
            name: name,
            description: row[3],
            tags: try decode([String].self, 4),
            owner: try decode(ResourceMetadata.Owner.self, 5),
            createdAt: date(row[6]),
            updatedAt: date(row[7])
        )
        return Resource(metadata: metadata, spec: try decode(Spec.self, 8))
    }

    static func json(_ value: some Encodable) throws -> String {
        String(decoding: try ResourceCoding.encoder().encode(value), as: UTF8.self)
    }

    static func date(_ micros: Int64) -> Date {
        Date(timeIntervalSince1970: Double(micros) / 1_000_000)
    }

    static func now() -> Int64 { Timestamp.nowMicroseconds() }
}
