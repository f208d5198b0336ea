// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Where the servers listen, known once they do; says so when all do.
final class ListeningAddresses: Sendable {
    private struct State {
        var api: String?
        var grpc: String?
    }

    private let awaitsGRPC: Bool
    private let onReady: @Sendable (_ address: String, _ grpc: String?) -> Void
    private let state = Mutex(State())

    init(awaitsGRPC: Bool, _ onReady: @escaping @Sendable (_ address: String, _ grpc: String?) -> Void) {
        self.awaitsGRPC = awaitsGRPC
        self.onReady = onReady
    }

    /// Host and port of the gRPC server.
    var grpc: String? { state.withLock { $0.grpc } }

    func apiListens(_ host: String, _ port: Int) {
        add { $0.api = "http://\(Self.place(host, port))" }
    }

    func grpcListens(_ host: String, _ port: Int) {
        add { $0.grpc = Self.place(host, port) }
    }

    private func add(_ change: (inout State) -> Void) {
        let now = state.withLock { state in
            change(&state)
            return state
        }
        guard let api = now.api, now.grpc != nil || !awaitsGRPC else { return }
        onReady(api, now.grpc)
    }

    private static func place(_ host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
