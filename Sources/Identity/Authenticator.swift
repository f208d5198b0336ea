// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import Logging
package import MartletCore
import Synchronization

/// Decides who a client is: runs logins, makes guessing slow, counts and logs.
package final class Authenticator: Sendable {
    /// What it is told to do.
    package struct Settings: Sendable {
        /// Ways to log in, in the order clients are told.
        package var mechanisms: [SaslMechanism] = SaslMechanism.allCases
        /// After how long a client must log in again; nil for never.
        ///
        /// Bearer tokens end with their own time at the latest.
        package var sessionLifetime: Duration?
        /// The engine's own token, taken as a bearer token too: its bearer may do everything.
        package var token: String?
        /// The engine's token for reading, taken as a bearer token too.
        package var readToken: String?

        /// Sets nothing but defaults.
        package init() {}
    }

    /// No failure is told sooner after the check began, so that the time of the check tells nothing.
    private static let failureTime = Duration.milliseconds(500)
    /// How often it is logged that logins are refused, in seconds.
    private static let refusalLogSeconds = 10

    /// Names of those who show one of the engine's own tokens.
    private static let tokenUser = "admin"
    private static let readTokenUser = "reader"

    package let settings: Settings
    let users: KafkaUsers
    private let tokens: TokenVerifier?
    private let metrics: MetricRegistry
    private let logger: Logger
    private let gate = LoginGate()
    private let refusals = Mutex(Refusals())

    /// Logins that were not checked since that was last logged.
    private struct Refusals {
        var count = 0
        var loggedAt: ContinuousClock.Instant?
    }

    /// Makes one.
    ///
    /// `tokens` checks bearer tokens of others; nil takes none.
    package init(settings: Settings, users: KafkaUsers, tokens: TokenVerifier?, metrics: MetricRegistry, logger: Logger)
    {
        self.settings = settings
        self.users = users
        self.tokens = tokens
        self.metrics = metrics
        self.logger = logger
    }

    /// Begins a login of a client at an address; nil where the mechanism is not offered.
    package func begin(_ mechanism: String, peer: String) -> SaslExchange? {
        guard let mechanism = SaslMechanism(rawValue: mechanism), settings.mechanisms.contains(mechanism) else {
            return nil
        }
        return SaslExchange(mechanism, self, peer: peer)
    }

    /// Whether a login still holds: the user is there and has the same password.
    package func isCurrent(_ login: SaslExchange.Success) -> Bool {
        guard let revision = login.revision else { return true }
        return users.isCurrent(login.principal.name, revision)
    }

    /// Checks a password or token when it is its turn; `user` is nil where only the check says who it is.
    ///
    /// - Throws: What `check` throws, where that is a ``SaslFailure`` no sooner than failures are told; `ServiceError.unavailable`
    ///   where too many logins wait.
    func checked<R>(_ user: String?, peer: String, _ check: () async throws -> R) async throws -> R {
        let turn = try await gate.take(peer: peer, user: user)
        let began = ContinuousClock.now
        do {
            let result = try await check()
            gate.end(turn, .passed)
            return result
        } catch let failure as SaslFailure {
            gate.end(turn, .failed)
            // Cut short where the client is gone, and there is nobody to wait for.
            try? await Task.sleep(until: began + Self.failureTime, clock: .continuous)
            throw failure
        } catch {
            gate.end(turn, .undecided)
            throw error
        }
    }

    /// Whom a bearer token names.
    func bearer(_ token: String) async throws -> (principal: Principal, expiresAt: Date?) {
        let given = Array(token.utf8)
        // Both are compared whatever the first comparison says, so that the time tells nothing.
        let hasAll = settings.token.map { SecretText.areEqual(given, Array($0.utf8)) } ?? false
        let mayRead = settings.readToken.map { SecretText.areEqual(given, Array($0.utf8)) } ?? false
        if hasAll { return (Principal(name: Self.tokenUser, isSuper: true), nil) }
        if mayRead { return (Principal(name: Self.readTokenUser, isReadOnly: true), nil) }
        guard let tokens else { throw SaslFailure("the token is not the engine's, and no others are taken") }
        let (name, expiresAt) = try await tokens.check(token)
        return (Principal(name: name), expiresAt)
    }

    // MARK: What is told of it

    /// Counts and logs a login.
    package func succeeded(_ principal: Principal, _ mechanism: SaslMechanism, peer: String) {
        count(mechanism, "success")
        logger.debug(
            "a Kafka client has logged in",
            metadata: [
                "user": "\(Self.printable(principal.name))", "mechanism": "\(mechanism.rawValue)", "peer": "\(peer)",
            ]
        )
    }

    /// Counts and logs a login that failed.
    package func failed(_ failure: SaslFailure, user: String?, _ mechanism: SaslMechanism, peer: String) {
        count(mechanism, "failure")
        logger.notice(
            "a Kafka client could not log in",
            metadata: [
                "user": "\(Self.printable(user ?? ""))", "mechanism": "\(mechanism.rawValue)", "peer": "\(peer)",
                "reason": "\(failure.reason)",
            ]
        )
    }

    /// Counts a login that was not checked because too many wait, and logs it now and then.
    package func refused(_ mechanism: SaslMechanism, peer: String) {
        count(mechanism, "refused")
        let count = refusals.withLock { refusals -> Int? in
            refusals.count += 1
            let now = ContinuousClock.now
            guard refusals.loggedAt.map({ now - $0 > .seconds(Self.refusalLogSeconds) }) ?? true else { return nil }
            defer { refusals = Refusals(loggedAt: now) }
            return refusals.count
        }
        guard let count else { return }
        logger.warning(
            "logins of Kafka clients are refused unchecked: too many wait",
            metadata: ["refused": "\(count)", "peer": "\(peer)", "mechanism": "\(mechanism.rawValue)"]
        )
    }

    private func count(_ mechanism: SaslMechanism, _ outcome: String) {
        metrics.counter(EngineMetrics.kafkaLogins, ["mechanism": mechanism.rawValue, "outcome": outcome]).add()
    }

    /// A name as a log can bear it, whatever a client made up.
    package static func printable(_ name: String) -> String {
        String(
            String.UnicodeScalarView(
                name.unicodeScalars.prefix(100).map { $0.properties.generalCategory == .control ? "?" : $0 }
            )
        )
    }
}
