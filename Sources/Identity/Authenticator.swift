// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
package import Logging
package import MartletCore
import Synchronization

/// Decides who a client is: runs logins, slows down who guesses, counts and logs.
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

    /// Names of those who show one of the engine's own tokens.
    private static let tokenUser = "admin"
    private static let readTokenUser = "reader"

    package let settings: Settings
    let users: KafkaUsers
    private let tokens: TokenVerifier?
    private let metrics: MetricRegistry
    private let logger: Logger
    private let delays = FailureDelays()

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

    /// Begins a login; nil where the mechanism is not offered.
    package func begin(_ mechanism: String) -> SaslExchange? {
        guard let mechanism = SaslMechanism(rawValue: mechanism), settings.mechanisms.contains(mechanism) else {
            return nil
        }
        return SaslExchange(mechanism, self)
    }

    /// Whether a login still holds: the user is there and has the same password.
    package func isCurrent(_ login: SaslExchange.Success) -> Bool {
        guard let revision = login.revision else { return true }
        return users.isCurrent(login.principal.name, revision)
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
        delays.forget(peer)
        logger.debug(
            "a Kafka client has logged in",
            metadata: ["user": "\(principal.name)", "mechanism": "\(mechanism.rawValue)", "peer": "\(peer)"]
        )
    }

    /// Counts and logs a login that failed, and waits: longer each time the same address fails.
    package func failed(_ failure: SaslFailure, user: String?, _ mechanism: SaslMechanism, peer: String) async {
        count(mechanism, "failure")
        logger.notice(
            "a Kafka client could not log in",
            metadata: [
                "user": "\(Self.printable(user ?? ""))", "mechanism": "\(mechanism.rawValue)", "peer": "\(peer)",
                "reason": "\(failure.reason)",
            ]
        )
        try? await Task.sleep(for: delays.next(peer))  // The client is gone: then there is nobody to wait for.
    }

    private func count(_ mechanism: SaslMechanism, _ outcome: String) {
        metrics.counter(EngineMetrics.kafkaLogins, ["mechanism": mechanism.rawValue, "outcome": outcome]).add()
    }

    /// A name as a log can bear it, whatever a client made up.
    private static func printable(_ name: String) -> String {
        String(
            String.UnicodeScalarView(
                name.unicodeScalars.prefix(100).map { $0.properties.generalCategory == .control ? "?" : $0 }
            )
        )
    }
}

/// How long to wait before an address is told that its login failed.
final class FailureDelays: Sendable {
    private static let first = Duration.milliseconds(500)
    private static let most = Duration.seconds(8)
    private static let memory = Duration.seconds(60)
    /// Addresses that are remembered; a flood of them empties the table, which costs the guesser a new start only.
    private static let addressesMax = 10_000

    private let state = Mutex<[String: (failures: Int, last: ContinuousClock.Instant)]>([:])

    func next(_ peer: String, now: ContinuousClock.Instant = .now) -> Duration {
        state.withLock { state in
            if state.count >= Self.addressesMax, state[peer] == nil { state.removeAll() }
            let before = state[peer].flatMap { now - $0.last < Self.memory ? $0.failures : nil } ?? 0
            state[peer] = (before + 1, now)
            return min(Self.most, Self.first * (1 << min(before, 10)))
        }
    }

    func forget(_ peer: String) { state.withLock { _ = $0.removeValue(forKey: peer) } }
}
