// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// A user whom Kafka's clients log in as; of the password only what checks it is kept.
package struct KafkaUser: Codable, Sendable, Equatable {
    /// What clients give as user name.
    package var name: String
    /// SCRAM mechanisms there is something to check with; PLAIN works with any of them.
    package var mechanisms: [String]
    /// Rounds of hashing between the password and what is kept.
    package var iterations: Int
    /// When it was made.
    package var createdAt: Date
    /// When the password last changed.
    package var updatedAt: Date

    /// Describes a user.
    package init(name: String, mechanisms: [String], iterations: Int, createdAt: Date, updatedAt: Date) {
        self.name = name
        self.mechanisms = mechanisms
        self.iterations = iterations
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }
}

/// An access rule: who may, or may not, do what with what; Kafka's ACL.
package struct KafkaACL: Codable, Sendable, Hashable {
    /// Kinds of things that rules are about.
    package enum ResourceType: String, Codable, Sendable, CaseIterable {
        case topic
        case group
        case cluster
        case transactionalID = "transactional-id"
    }

    /// How the name of a rule is compared.
    package enum Pattern: String, Codable, Sendable, CaseIterable {
        /// The same name; `*` is every name.
        case literal
        /// Every name that begins so.
        case prefixed
    }

    /// What is done.
    package enum Operation: String, Codable, Sendable, CaseIterable {
        case all
        case read
        case write
        case create
        case delete
        case alter
        case describe
        case clusterAction = "cluster-action"
        case describeConfigs = "describe-configs"
        case alterConfigs = "alter-configs"
        case idempotentWrite = "idempotent-write"
    }

    /// What a rule says.
    package enum Permission: String, Codable, Sendable, CaseIterable {
        case allow
        case deny
    }

    /// The only name a cluster has.
    package static let clusterName = "kafka-cluster"

    /// The kind of thing.
    package var resourceType: ResourceType
    /// Its name, or the beginning of it.
    package var resourceName: String
    /// How the name is compared.
    package var pattern: Pattern
    /// `User:NAME`, or `User:*` for everybody.
    package var principal: String
    /// The client's address, or `*`.
    package var host: String
    /// What is done.
    package var operation: Operation
    /// Whether it may be.
    package var permission: Permission

    /// Makes a rule.
    package init(
        _ permission: Permission,
        _ principal: String,
        _ operation: Operation,
        on resourceType: ResourceType,
        _ resourceName: String,
        pattern: Pattern = .literal,
        host: String = "*"
    ) {
        self.resourceType = resourceType
        self.resourceName = resourceName
        self.pattern = pattern
        self.principal = principal
        self.host = host
        self.operation = operation
        self.permission = permission
    }
}

/// A stored access rule; encoded, the rule's fields stand beside its number.
package struct StoredKafkaACL: Codable, Sendable, Equatable {
    private enum CodingKeys: String, CodingKey {
        case id
    }

    /// Its number, which no other rule ever gets.
    package var id: Int64
    /// What it says.
    package var acl: KafkaACL

    /// Joins a number and a rule.
    package init(id: Int64, acl: KafkaACL) {
        self.id = id
        self.acl = acl
    }

    package init(from decoder: any Decoder) throws {
        acl = try KafkaACL(from: decoder)
        id = try decoder.container(keyedBy: CodingKeys.self).decode(Int64.self, forKey: .id)
    }

    package func encode(to encoder: any Encoder) throws {
        try acl.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(id, forKey: .id)
    }
}

/// Who may use the Kafka door and for what, as people manage it.
package protocol KafkaAccessServices: Sendable {
    /// Returns every user, by name.
    func users() async throws -> [KafkaUser]
    /// Makes a user; durable on return.
    ///
    /// - Throws: `ServiceError`: `.alreadyExists`, `.invalid`.
    func createUser(_ name: String, password: String) async throws -> KafkaUser
    /// Gives a user another password and ends its connections at their next request; durable on return.
    ///
    /// - Throws: `ServiceError`: `.notFound`, `.invalid`.
    func updateUser(_ name: String, password: String) async throws -> KafkaUser
    /// Removes a user and ends its connections at their next request; durable on return.
    ///
    /// - Throws: `ServiceError.notFound`.
    func deleteUser(_ name: String) async throws
    /// Returns every access rule, oldest first.
    func acls() async throws -> [StoredKafkaACL]
    /// Adds a rule, which holds from the next request on; durable on return. One that is there already is returned.
    ///
    /// - Throws: `ServiceError.invalid`.
    func createACL(_ acl: KafkaACL) async throws -> StoredKafkaACL
    /// Removes a rule; durable on return.
    ///
    /// - Throws: `ServiceError.notFound`.
    func deleteACL(_ id: Int64) async throws
}
