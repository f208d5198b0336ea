// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// What is known of the client at the other end of a connection.
final class KafkaSession: Sendable {
    /// Where the client is.
    let peer: String
    /// The address of this machine that the client reached.
    let local: String?

    private struct State {
        var software = ""
    }

    private let state = Mutex(State())

    init(_ channel: any Channel) {
        peer = channel.remoteAddress?.ipAddress ?? "unknown"
        local = channel.localAddress?.ipAddress
    }

    /// Name and version of the client's library, as it told.
    var software: String { state.withLock { $0.software } }

    func tells(software: String) {
        state.withLock { $0.software = software }
    }
}
