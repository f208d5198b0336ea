// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
package import Logging
import JWTKit
import MartletCore
import Synchronization

/// Checks bearer tokens (JWT) with the keys of whoever issues them.
///
/// Keys are public ones; they are read again every few minutes, and when a token is signed with one that is not known.
package final class TokenVerifier: Sendable {
    private static let tokenBytesMax = 32 << 10
    private static let keysMax = 100
    /// How old keys may become.
    private static let refreshSeconds = 300.0
    /// How soon a further attempt may follow, whatever tokens come.
    private static let attemptSeconds = 10.0

    private struct State {
        var keys: [JWK] = []
        var readAt = Date.distantPast
        var attemptAt = Date.distantPast
        var refreshing: Task<Bool, Never>?
    }

    private let rules: TokenRules
    private let source: KeySource
    private let logger: Logger
    private let state = Mutex(State())

    /// Makes a verifier with the keys at a place: the path of a JWKS file, or its `https://` address.
    ///
    /// `http://` is taken for this machine only. `authorities` is a PEM file of those that vouch for the address; nil stands for those
    /// the system trusts. Blocks while it is read.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` for another one, or a file that cannot be used.
    package init(rules: TokenRules, keys: String, authorities: String? = nil, logger: Logger) throws {
        self.rules = rules
        source = try KeySource(keys, authorities: authorities)
        self.logger = logger
    }

    /// Reads the keys, so that a wrong setting is found at the start.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where a file cannot be used; an address that does not answer is only logged.
    package func prepare() async throws {
        do {
            try await refresh(now: Date())
        } catch {
            guard source.isRemote else {
                throw ServiceError(
                    .failedPrecondition,
                    "kafka.oauth.jwks: \(source.place) cannot be used: \(error)",
                    fix: "name a JWKS file, or its https:// address"
                )
            }
            logger.warning(
                "keys for Kafka's bearer tokens cannot be read; it is tried again",
                metadata: ["jwks": "\(source.place)", "error": "\(error)"]
            )
        }
    }

    /// Checks a token.
    ///
    /// - Returns: The user it names and when it ends.
    /// - Throws: ``SaslFailure``.
    package func check(_ token: String) async throws -> (name: String, expiresAt: Date) {
        guard token.utf8.count <= Self.tokenBytesMax else { throw SaslFailure("the token is too long") }
        let now = Date()
        let isOld = state.withLock { now.timeIntervalSince($0.readAt) > Self.refreshSeconds }
        if isOld { await tryRefresh(now) }
        if let claims = await claims(token) { return try rules.check(claims, now: now) }
        // The issuer may have begun to use another key.
        guard await tryRefresh(now), let claims = await claims(token) else {
            throw SaslFailure("the token is not signed with a known key")
        }
        return try rules.check(claims, now: now)
    }

    private func claims(_ token: String) async -> TokenClaims? {
        // Made anew for each token: a key that names no algorithm takes that of the first token it is tried with, and would keep it.
        let keys = JWTKeyCollection()
        for key in state.withLock({ $0.keys }) { _ = try? await keys.add(jwk: key) }
        // Which of the many things was wrong with the bytes helps nobody but who forged them.
        return try? await keys.verify(token, as: TokenClaims.self, iteratingKeys: true)
    }

    @discardableResult
    private func tryRefresh(_ now: Date) async -> Bool {
        let attempt = state.withLock { held -> Task<Bool, Never>? in
            if let attempt = held.refreshing { return attempt }
            guard now.timeIntervalSince(held.attemptAt) > Self.attemptSeconds else { return nil }
            held.attemptAt = now
            // Not a part of this login: whoever hangs up must not end what others wait for.
            held.refreshing = Task { [self] in
                defer { state.withLock { $0.refreshing = nil } }
                return await attemptRefresh(now)
            }
            return held.refreshing
        }
        return await attempt?.value ?? false
    }

    private func attemptRefresh(_ now: Date) async -> Bool {
        do {
            try await refresh(now: now)
            return true
        } catch {
            logger.warning(
                "keys for Kafka's bearer tokens cannot be read; those that were known stay",
                metadata: ["jwks": "\(source.place)", "error": "\(error)"]
            )
            return false
        }
    }

    private func refresh(now: Date) async throws {
        var keys: [JWK] = []
        for (number, key) in try Self.keys(in: try await source.read()).enumerated() {
            // Keys of other kinds or for other uses are not for us.
            guard var key = try? JSONDecoder().decode(JWK.self, from: Data(key.bytes)) else { continue }
            if key.keyIdentifier == nil { key.keyIdentifier = JWKIdentifier(string: "martlet-\(number)") }
            guard (try? await JWTKeyCollection().add(jwk: key)) != nil else { continue }
            keys.append(key)
        }
        // Each token is tried with each key.
        guard keys.count <= Self.keysMax else { throw SaslFailure("there are more than \(Self.keysMax) keys in it") }
        guard !keys.isEmpty else { throw SaslFailure("there is no key in it that could be used (RSA, EC or OKP)") }
        state.withLock { state in
            state.keys = keys
            state.readAt = now
        }
    }

    private static func keys(in document: [UInt8]) throws -> [JSONValue] {
        guard let keys = try JSONValue(parsing: document)["keys"]?.arrayValue else {
            throw SaslFailure("it is no JWKS: {\"keys\": […]}")
        }
        return keys.filter { $0["use"]?.stringValue ?? "sig" == "sig" }
    }
}
