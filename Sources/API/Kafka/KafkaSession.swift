// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
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
        peer = channel.clientAddress
        local = channel.localAddress?.ipAddress.map { ClientAddress.normalised($0) ?? $0 }
    }
}

extension Channel {
    /// The client's address as rules write it, also where one socket serves both versions of IP.
    var clientAddress: String {
        guard let address = remoteAddress?.ipAddress else { return "unknown" }
        return ClientAddress.normalised(address) ?? address
    }
}
