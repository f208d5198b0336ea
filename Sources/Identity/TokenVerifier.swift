// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import AsyncHTTPClient
package import Foundation
package import Logging
import MartletCore
import JWTKit
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// Checks bearer tokens (JWT) with the keys of whoever issues them.
///
/// Keys are public ones; they are read again every few minutes, and when a token is signed with one that is not known.
package final class TokenVerifier: Sendable {
    private static let documentBytesMax = 1 << 20
    private static let tokenBytesMax = 32 << 10
    /// How old keys may become.
    private static let refreshSeconds = 300.0
    /// How soon a further attempt may follow, whatever tokens come.
    private static let attemptSeconds = 10.0

    private struct State {
        var keys: [JWK] = []
        var readAt = Date.distantPast
        var attemptAt = Date.distantPast
    }

    private let rules: TokenRules
    /// A path, or an address that begins with `https://`.
    private let place: String
    private let logger: Logger
    private let state = Mutex(State())

    /// Makes a verifier with the keys at a place: the path of a JWKS file, or its `https://` address.
    ///
    /// `http://` is taken for this machine only.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` for another one.
    package init(rules: TokenRules, keys: String, logger: Logger) throws {
        if keys.hasPrefix("http://") {
            let host = URL(string: keys)?.host ?? ""
            guard ["127.0.0.1", "localhost", "::1"].contains(host) else {
                throw ServiceError(
                    .failedPrecondition,
                    "kafka.oauth.jwks: keys from \(host) over http could be replaced on their way",
                    fix: "use https://"
                )
            }
        }
        self.rules = rules
        place = keys
        self.logger = logger
    }

    /// Reads the keys, so that a wrong setting is found at the start.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where a file cannot be used; an address that does not answer is only logged.
    package func prepare() async throws {
        do {
            try await refresh(now: Date())
        } catch {
            guard place.contains("://") else {
                throw ServiceError(
                    .failedPrecondition,
                    "kafka.oauth.jwks: \(place) cannot be used: \(error)",
                    fix: "name a JWKS file, or its https:// address"
                )
            }
            logger.warning(
                "keys for Kafka's bearer tokens cannot be read; it is tried again",
                metadata: ["jwks": "\(place)", "error": "\(error)"]
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
        let mayTry = state.withLock { state in
            guard now.timeIntervalSince(state.attemptAt) > Self.attemptSeconds else { return false }
            state.attemptAt = now
            return true
        }
        guard mayTry else { return false }
        do {
            try await refresh(now: now)
            return true
        } catch {
            logger.warning(
                "keys for Kafka's bearer tokens cannot be read; those that were known stay",
                metadata: ["jwks": "\(place)", "error": "\(error)"]
            )
            return false
        }
    }

    private func refresh(now: Date) async throws {
        var keys: [JWK] = []
        for (number, key) in try Self.keys(in: try await read()).enumerated() {
            // Keys of other kinds or for other uses are not for us.
            guard var key = try? JSONDecoder().decode(JWK.self, from: Data(key.bytes)) else { continue }
            if key.keyIdentifier == nil { key.keyIdentifier = JWKIdentifier(string: "martlet-\(number)") }
            guard (try? await JWTKeyCollection().add(jwk: key)) != nil else { continue }
            keys.append(key)
        }
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

    private func read() async throws -> [UInt8] {
        let place = place
        guard place.contains("://") else {
            return try await NIOThreadPool.singleton.runIfActive {
                guard let bytes = FileManager.default.contents(atPath: place) else {
                    throw SaslFailure("there is no such file, or it cannot be read")
                }
                guard bytes.count <= Self.documentBytesMax else { throw SaslFailure("it is too large") }
                return Array(bytes)
            }
        }
        let answer = try await HTTPClient.shared.execute(HTTPClientRequest(url: place), timeout: .seconds(5))
        guard answer.status == .ok else { throw SaslFailure("the answer was \(answer.status.code)") }
        let body = try await answer.body.collect(upTo: Self.documentBytesMax)
        return Array(body.readableBytesView)
    }
}
