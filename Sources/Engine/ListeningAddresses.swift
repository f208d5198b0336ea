// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Where the engine listens: the HTTP API, and the doors that are open.
package struct EngineAddresses: Sendable {
    /// URL of the HTTP API.
    package var api = ""
    /// Host and port of gRPC; nil where it is switched off.
    package var grpc: String?
    /// Host and port for Kafka's clients; nil where it is switched off.
    package var kafka: String?
}

/// Where the servers listen, known once they do; says so when all do.
final class ListeningAddresses: Sendable {
    private struct State {
        var addresses = EngineAddresses()
        var awaited: Int
    }

    private let onReady: @Sendable (EngineAddresses) -> Void
    private let state: Mutex<State>

    init(servers: Int, _ onReady: @escaping @Sendable (EngineAddresses) -> Void) {
        self.onReady = onReady
        state = Mutex(State(awaited: servers))
    }

    /// What is known so far.
    var now: EngineAddresses { state.withLock { $0.addresses } }

    func apiListens(_ host: String, _ port: Int) {
        add { $0.api = "http://\(Self.place(host, port))" }
    }

    func grpcListens(_ host: String, _ port: Int) {
        add { $0.grpc = Self.place(host, port) }
    }

    func kafkaListens(_ host: String, _ port: Int) {
        add { $0.kafka = Self.place(host, port) }
    }

    private func add(_ change: (inout EngineAddresses) -> Void) {
        let all = state.withLock { state -> EngineAddresses? in
            change(&state.addresses)
            state.awaited -= 1
            return state.awaited == 0 ? state.addresses : nil
        }
        if let all { onReady(all) }
    }

    private static func place(_ host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
