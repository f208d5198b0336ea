// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// What is known of the client at the other end of a connection.
struct KafkaSession: Sendable {
    /// Where the client is.
    let peer: String
    /// The address of this machine that the client reached.
    let local: String?
    /// Who the client is.
    let login: Login

    init(_ channel: any Channel, _ login: Login) {
        self.login = login
        let address = channel.remoteAddress?.ipAddress ?? "unknown"
        // As rules write it, also where one socket serves both versions of IP.
        peer = address.hasPrefix("::ffff:") && address.contains(".") ? String(address.dropFirst(7)) : address
        local = channel.localAddress?.ipAddress
    }
}
