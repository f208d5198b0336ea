// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation
import MartletCore

/// One login of one client, message by message; not for two at once.
package struct SaslExchange: Sendable {
    /// Who has logged in.
    package struct Success: Sendable {
        /// Who it is.
        package let principal: Principal
        /// The user's revision, where the engine keeps the user.
        let revision: Int?
        /// When it ends by itself.
        package let expiresAt: Date?
    }

    /// What to do with an answer.
    package enum Step: Sendable {
        /// Send this and wait for more.
        case challenge([UInt8])
        /// Send this; the login is done.
        case done([UInt8], Success)
        /// The login failed, for `user` where one was named.
        case failed(SaslFailure, user: String?)
        /// Nothing was checked, as too many logins wait; the text is for the client.
        case refused(String)
    }

    private enum State {
        case new
        case scram(ScramExchange, user: String, revision: Int?)
        /// The client has been told why and says that it has heard.
        case refused(SaslFailure)
    }

    package let mechanism: SaslMechanism
    private let authenticator: Authenticator
    private let peer: String
    private var state = State.new

    init(_ mechanism: SaslMechanism, _ authenticator: Authenticator, peer: String) {
        self.mechanism = mechanism
        self.authenticator = authenticator
        self.peer = peer
    }

    /// Takes the client's next message; a password, a proof or a token is checked when it is its turn.
    package mutating func respond(_ message: [UInt8]) async throws -> Step {
        var user: String?
        do {
            switch mechanism {
            case .plain:
                let given = try PlainMessage(message)
                user = given.user
                let users = authenticator.users
                let revision = try await authenticator.checked(given.user, peer: peer) {
                    guard let revision = try await users.check(given.user, password: given.password) else {
                        throw SaslFailure("the user or the password is wrong")
                    }
                    return revision
                }
                return .done([], success(given.user, revision))
            case .scramSHA256: return try await scram(.sha256, message, &user)
            case .scramSHA512: return try await scram(.sha512, message, &user)
            case .oauthBearer: return try await bearer(message)
            }
        } catch let failure as SaslFailure {
            return .failed(failure, user: user)
        } catch let error as ServiceError where error.code == .unavailable {
            return .refused(error.fix.map { "\(error.message); \($0)" } ?? error.message)
        }
    }

    private mutating func scram(
        _ mechanism: ScramMechanism,
        _ message: [UInt8],
        _ user: inout String?
    ) async throws -> Step {
        switch state {
        case .new:
            var exchange = ScramExchange(mechanism)
            let name = try exchange.begin(message)
            user = name
            let (verifier, revision) = try await authenticator.users.verifier(of: name, mechanism)
            let challenge = try exchange.challenge(verifier)
            state = .scram(exchange, user: name, revision: revision)
            return .challenge(challenge)
        case .scram(let exchange, let name, let revision):
            user = name
            let (answer, revision) = try await authenticator.checked(name, peer: peer) {
                var exchange = exchange
                let answer = try exchange.finish(message)
                guard let revision else { throw SaslFailure("the user or the password is wrong") }
                return (answer, revision)
            }
            return .done(answer, success(name, revision))
        case .refused(let failure): throw failure
        }
    }

    private mutating func bearer(_ message: [UInt8]) async throws -> Step {
        if case .refused(let failure) = state { throw failure }
        do {
            let given = try BearerMessage(message)
            let authenticator = authenticator
            let (principal, expiresAt) = try await authenticator.checked(nil, peer: peer) {
                let (principal, expiresAt) = try await authenticator.bearer(given.token)
                guard given.authorization.isEmpty || given.authorization == principal.name else {
                    throw SaslFailure("the client wants to act for somebody else")
                }
                return (principal, expiresAt)
            }
            return .done([], Success(principal: principal, revision: nil, expiresAt: expiresAt))
        } catch let failure as SaslFailure {
            state = .refused(failure)
            return .challenge(Array(#"{"status":"invalid_token"}"#.utf8))
        }
    }

    private func success(_ user: String, _ revision: Int) -> Success {
        Success(principal: Principal(name: user), revision: revision, expiresAt: nil)
    }
}
