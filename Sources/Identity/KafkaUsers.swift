// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import Crypto
import Foundation
package import MartletCore
import Synchronization

/// Users whom Kafka's clients log in as; passwords are checked and not kept.
package final class KafkaUsers: Sendable {
    /// The longest name.
    static let nameBytesMax = 249
    private static let passwordBytesMax = 1024

    /// What is sealed for a user.
    private struct Content: Codable {
        var verifiers: [ScramVerifier]
    }

    private struct State {
        /// Counts the changes of each user since the start, so that connections find out.
        var revisions: [String: Int] = [:]
    }

    private let store: KafkaAccessStore
    /// Makes up what unknown users are asked, the same each time and after each start, so that nobody learns who there is.
    private let disguise: SymmetricKey
    private let threads: PasswordThreads
    private let state = Mutex(State())

    /// Makes users of a store, whose passwords are hashed on `threads`.
    package init(store: KafkaAccessStore, threads: PasswordThreads = PasswordThreads()) {
        self.store = store
        self.threads = threads
        disguise = SymmetricKey(data: store.derivedKey("martlet-kafka-unknown-users-v1"))
    }

    // MARK: Logging in

    /// What checks a user's password, and the user's revision; something that nothing matches where there is no such user.
    func verifier(of user: String, _ mechanism: ScramMechanism) async throws -> (ScramVerifier, revision: Int?) {
        let revision = revision(of: user)
        let disguised = disguised(user, mechanism)
        let verifiers = try await verifiers(of: user)
        guard let found = verifiers?.first(where: { $0.mechanism == mechanism }) else { return (disguised, nil) }
        return (found, revision)
    }

    /// Checks a password against whatever there is of the user; returns the revision, or nil for a wrong one or no user.
    func check(_ user: String, password: String) async throws -> Int? {
        let revision = revision(of: user)
        let disguised = disguised(user, .sha512)
        let found = try await verifiers(of: user)?.max { $0.mechanism.hashBytes < $1.mechanism.hashBytes }
        let verifier = found ?? disguised
        let matches = try await threads.run { verifier.matches(password) }
        return matches && found != nil ? revision : nil
    }

    /// Whether nothing about a user has changed since a revision.
    package func isCurrent(_ user: String, _ revision: Int) -> Bool { self.revision(of: user) == revision }

    private func revision(of user: String) -> Int { state.withLock { $0.revisions[user] ?? 0 } }

    private func content(_ user: String) async throws -> Content? {
        try await store.user(user).map { try Self.decode($0.content) }
    }

    /// What is sealed for a user, or nil, for which it takes the same work.
    private func verifiers(of user: String) async throws -> [ScramVerifier]? {
        guard user.utf8.count <= Self.nameBytesMax, let content = try await content(user) else {
            let other = ScramMechanism.allCases.map { disguised("", $0) }
            _ = try Self.decode(try Self.encode(Content(verifiers: other)))
            return nil
        }
        return content.verifiers
    }

    private func disguised(_ user: String, _ mechanism: ScramMechanism) -> ScramVerifier {
        let code = HMAC<SHA512>.authenticationCode(for: Array("\(mechanism.rawValue)\n\(user)".utf8), using: disguise)
        let bytes = Array(code)
        return ScramVerifier(
            mechanism,
            salt: Array(bytes.prefix(ScramVerifier.saltBytes)),
            iterations: ScramVerifier.iterationsDefault,
            // Of nobody's password: the same bytes that no client sees.
            saltedPassword: mechanism.hash(bytes)
        )
    }

    // MARK: Managing

    /// Every user, by name.
    package func list() async throws -> [KafkaUser] { try await store.users().map(Self.describe) }

    /// Makes a user with both mechanisms; durable on return.
    package func create(_ name: String, password: String) async throws -> KafkaUser {
        try Self.check(name: name)
        return try await set(name, password) { existing in
            guard existing == nil else {
                throw ServiceError(
                    .alreadyExists,
                    "there is a Kafka user '\(name)' already",
                    fix: "change its password with: martlet kafka users update \(name)"
                )
            }
        }
    }

    /// Gives a user another password; durable on return.
    package func update(_ name: String, password: String) async throws -> KafkaUser {
        try await set(name, password) { if $0 == nil { throw Self.unknown(name) } }
    }

    private func set(
        _ name: String,
        _ password: String,
        _ check: @escaping @Sendable ([UInt8]?) throws -> Void
    ) async throws -> KafkaUser {
        guard (1...Self.passwordBytesMax).contains(password.utf8.count), !password.utf8.contains(0) else {
            throw ServiceError.invalid(
                field: "password",
                "must have 1 to \(Self.passwordBytesMax) bytes, none of them zero"
            )
        }
        let content = try await threads.run {
            try Self.encode(
                Content(verifiers: try ScramMechanism.allCases.map { try ScramVerifier($0, password: password) })
            )
        }
        let user = try await store.change(name) { existing in
            try check(existing)
            return content
        }
        changed(name)
        guard let user else { throw ServiceError(.internal, "the user was not stored") }
        return try Self.describe(user)
    }

    /// Removes a user; durable on return.
    package func delete(_ name: String) async throws {
        guard try await store.removeUser(name) else { throw Self.unknown(name) }
        changed(name)
    }

    /// Sets what checks a password that another program has salted; durable on return.
    package func set(_ name: String, _ verifier: ScramVerifier) async throws {
        try Self.check(name: name)
        _ = try await store.change(name) { existing in
            var content = try existing.map(Self.decode) ?? Content(verifiers: [])
            content.verifiers.removeAll { $0.mechanism == verifier.mechanism }
            content.verifiers.append(verifier)
            return try Self.encode(content)
        }
        changed(name)
    }

    /// Removes one mechanism of a user, and the user with its last; durable on return.
    ///
    /// - Throws: `ServiceError.notFound`.
    package func remove(_ name: String, _ mechanism: ScramMechanism) async throws {
        _ = try await store.change(name) { existing in
            guard var content = try existing.map(Self.decode),
                content.verifiers.contains(where: { $0.mechanism == mechanism })
            else { throw Self.unknown(name) }
            content.verifiers.removeAll { $0.mechanism == mechanism }
            return content.verifiers.isEmpty ? nil : try Self.encode(content)
        }
        changed(name)
    }

    /// Mechanisms and rounds of a user; nil where there is none.
    package func mechanisms(of name: String) async throws -> [(ScramMechanism, iterations: Int)]? {
        try await content(name)?.verifiers.map { ($0.mechanism, $0.iterations) }
    }

    private func changed(_ name: String) { state.withLock { $0.revisions[name, default: 0] += 1 } }

    private static func describe(_ user: KafkaAccessStore.User) throws -> KafkaUser {
        let verifiers = try decode(user.content).verifiers
        return KafkaUser(
            name: user.name,
            mechanisms: verifiers.map(\.mechanism.rawValue).sorted(),
            iterations: verifiers.map(\.iterations).min() ?? 0,
            createdAt: user.createdAt,
            updatedAt: user.updatedAt
        )
    }

    private static func encode(_ content: Content) throws -> [UInt8] { Array(try JSONEncoder().encode(content)) }

    private static func decode(_ bytes: [UInt8]) throws -> Content {
        try JSONDecoder().decode(Content.self, from: Data(bytes))
    }

    private static func check(name: String) throws {
        let isUsable = name.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
        guard (1...nameBytesMax).contains(name.utf8.count), isUsable, name != "*", name != Principal.anonymous.name,
            name.isInOneForm
        else {
            throw ServiceError.invalid(
                field: "name",
                "'\(name.prefix(260))' is no usable name of a user",
                fix:
                    "use 1 to \(nameBytesMax) bytes without control characters; * and \(Principal.anonymous.name) have a meaning"
            )
        }
    }

    private static func unknown(_ name: String) -> ServiceError {
        ServiceError(
            .notFound,
            "there is no Kafka user '\(name)'",
            fix: "list what exists with: martlet kafka users list"
        )
    }
}
