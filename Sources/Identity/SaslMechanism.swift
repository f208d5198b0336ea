// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Ways for Kafka's clients to say who they are.
package enum SaslMechanism: String, Sendable, CaseIterable {
    case plain = "PLAIN"
    case scramSHA256 = "SCRAM-SHA-256"
    case scramSHA512 = "SCRAM-SHA-512"
    case oauthBearer = "OAUTHBEARER"

    /// Whether somebody who sees the messages learns the password or token.
    package var showsSecret: Bool { self == .plain || self == .oauthBearer }
}
