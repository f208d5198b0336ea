// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB
package import MartletCore

extension CatalogTransaction {
    /// Who refers to a resource, by kind and name.
    package func users(of target: ResourceReference) throws -> [ResourceReference] {
        let rows = try Row.fetchAll(
            db.cachedStatement(
                sql: """
                    SELECT user_kind, user_name FROM resource_references
                    WHERE kind = ? AND name = ? ORDER BY user_kind, user_name
                    """
            ),
            arguments: [target.kind.rawValue, target.name]
        )
        return rows.compactMap { row in
            ResourceKind(rawValue: row[0]).map { ResourceReference(kind: $0, name: row[1]) }
        }
    }

    /// Whether there is a resource of that kind and name.
    package func exists(_ target: ResourceReference) throws -> Bool {
        try Int.fetchOne(
            db.cachedStatement(sql: "SELECT 1 FROM \(CatalogSchema.table(target.kind)) WHERE name = ?"),
            arguments: [target.name]
        ) != nil
    }

    /// Throws `.notFound` naming every target that does not exist.
    func checkTargets(_ targets: [ResourceReference], of user: ResourceReference) throws {
        let missing = try targets.filter { try $0 != user && !exists($0) }
        guard let first = missing.first else { return }
        let list = missing.map { "the \($0.kind.noun) '\($0.name)'" }.joined(separator: ", ")
        let kinds = missing.map(\.kind.rawValue)
        let listing = kinds.enumerated().filter { !kinds[..<$0].contains($1) }.map { "martlet \($1) list" }
        let isOne = missing.count == 1
        let needs =
            isOne
            ? "the \(first.kind.noun) '\(first.name)', which does not exist"
            : "\(missing.count) things that do not exist: \(list)"
        throw ServiceError(
            .notFound,
            "the \(user.kind.noun) '\(user.name)' needs \(needs)",
            fix: "create \(isOne ? "it" : "them") first, or list what exists with: "
                + listing.joined(separator: ", and: ")
        )
    }

    func setReferences<Spec: ResourceSpec>(of resource: Resource<Spec>) throws {
        let targets = resource.spec.references
        let user = ResourceReference(kind: Spec.kind, name: resource.name)
        try checkTargets(targets, of: user)
        try removeReferences(of: resource)
        let insert = try db.cachedStatement(
            sql: """
                INSERT OR IGNORE INTO resource_references (user_kind, user_guid, user_name, kind, name)
                VALUES (?, ?, ?, ?, ?)
                """
        )
        for target in targets {
            try insert.execute(arguments: [
                Spec.kind.rawValue, resource.guid, resource.name, target.kind.rawValue, target.name,
            ])
        }
    }

    func removeReferences<Spec: ResourceSpec>(of resource: Resource<Spec>) throws {
        try db.cachedStatement(sql: "DELETE FROM resource_references WHERE user_kind = ? AND user_guid = ?")
            .execute(arguments: [Spec.kind.rawValue, resource.guid])
    }

    static func inUse(_ kind: ResourceKind, _ name: String, by users: [ResourceReference]) -> ServiceError {
        let shown = users.prefix(20).map { "\($0.kind.noun) '\($0.name)'" }.joined(separator: ", ")
        let more = users.count > 20 ? " and \(users.count - 20) more" : ""
        return ServiceError(
            .inUse,
            "the \(kind.noun) '\(name)' is in use by \(shown)\(more)",
            fix: "delete or change what uses it first",
            fields: users.map {
                ServiceError.FieldError(field: "\($0.kind.rawValue)/\($0.name)", message: "uses \(kind.noun) '\(name)'")
            }
        )
    }
}
