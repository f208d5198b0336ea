// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Identity

/// Who the Kafka door lets in, and for what.
package struct KafkaSecurity: Sendable {
    /// Encrypts connections; nil leaves them in the clear.
    package var tls: TLSSettings?
    /// Asks clients who they are; nil lets everybody in.
    package var authenticator: Authenticator?
    /// Users that clients may manage.
    package var users: KafkaUsers
    /// What whoever is let in may do.
    package var access: AccessControl

    /// Lets everybody in, in the clear.
    package init(users: KafkaUsers, access: AccessControl) {
        self.users = users
        self.access = access
    }

    /// Seconds a client may take until it is known who it is.
    static let loginSeconds: Int64 = 30
    /// Share of all connections that may be of clients not known yet.
    static let loginShare = 4
    /// Largest request of a client not known yet; also the largest message of a login.
    static let loginBytesMax = 64 << 10
}
