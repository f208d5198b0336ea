// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Users and access rules as the API offers them.
package struct KafkaAccessService: KafkaAccessServices {
    private let userStore: KafkaUsers
    private let access: AccessControl

    /// Joins users and rules.
    package init(users: KafkaUsers, access: AccessControl) {
        userStore = users
        self.access = access
    }

    package func users() async throws -> [KafkaUser] { try await userStore.list() }

    package func createUser(_ name: String, password: String) async throws -> KafkaUser {
        try await userStore.create(name, password: password)
    }

    package func updateUser(_ name: String, password: String) async throws -> KafkaUser {
        try await userStore.update(name, password: password)
    }

    package func deleteUser(_ name: String) async throws { try await userStore.delete(name) }

    package func acls() async throws -> [StoredKafkaACL] { access.acls() }

    package func createACL(_ acl: KafkaACL) async throws -> StoredKafkaACL {
        guard let stored = try await access.add([acl]).first else {
            throw ServiceError(.internal, "no rule was stored")
        }
        return stored
    }

    package func deleteACL(_ id: Int64) async throws {
        guard try await !access.remove(where: { $0.id == id }).isEmpty else {
            throw ServiceError(
                .notFound,
                "there is no access rule \(id)",
                fix: "list what exists with: martlet kafka acls list"
            )
        }
    }
}
