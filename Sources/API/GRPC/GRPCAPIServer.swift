// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import GRPCCore
import GRPCNIOTransportHTTP2Posix
package import Logging
import MartletCore
import NIOCore
import NIOPosix
import OTLP
import ServiceLifecycle

/// Where the gRPC server listens, whom it serves and how much it takes.
package struct GRPCConfiguration: Sendable {
    /// Name or address to listen on.
    package var host = "127.0.0.1"
    /// Port to listen on; 0 takes a free one.
    package var port = 8071
    /// Bearer token every caller must show; nil serves everybody who can reach the address.
    package var token: String?
    /// Token of those who may only read, and who are told so.
    package var readToken: String?
    /// Bytes of a message, before and after inflating, at which the call is broken off; services refuse less in their own words.
    package var messageBytesMax = 2 * OTLPLimits.messageBytesMax
    /// Most calls at work at once on one connection.
    package var callsPerConnectionMax = 64
    /// Bytes a client may send on one connection, and on one call, that nobody has read.
    package var windowBytes = 4 << 20
    /// Bytes of an HTTP/2 frame.
    package var frameBytesMax = 256 << 10
    /// How long a connection may be silent before it is asked whether it lives; it has 20 s to answer.
    package var keepalive: Duration = .seconds(30)

    package init() {}
}

/// The gRPC server: HTTP/2 without encryption, gzip, one token rule for all services.
///
/// A further service is one more element of `services`, no more.
/// Listens while ``run()`` runs; a graceful shutdown finishes the calls at work, for up to 8 s.
package struct GRPCAPIServer: Service {
    /// How long connections may take to end in order; longer than ``CallLife`` gives their calls.
    private static let stopMax = Duration.seconds(8)

    private let configuration: GRPCConfiguration
    private let services: [any RegistrableRPCService]
    private let interceptors: [any ServerInterceptor]
    private let logger: Logger
    private let onListening: @Sendable (_ port: Int) async -> Void

    /// Makes a server of the given services.
    package init(
        configuration: GRPCConfiguration,
        services: [any RegistrableRPCService],
        logger: Logger,
        onListening: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
    ) {
        self.configuration = configuration
        self.services = services
        interceptors =
            configuration.token.map { [TokenInterceptor(token: $0, readToken: configuration.readToken)] } ?? []
        self.logger = logger
        self.onListening = onListening
    }

    /// Listens and serves until shut down.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the address cannot be listened on.
    package func run() async throws {
        let transport = HTTP2ServerTransport.Posix(
            address: try await address(),
            transportSecurity: .plaintext,
            config: .defaults { config in
                config.compression.enabledAlgorithms = [.gzip]
                config.rpc.maxRequestPayloadSize = configuration.messageBytesMax
                config.http2.maxConcurrentStreams = configuration.callsPerConnectionMax
                config.http2.targetWindowSize = configuration.windowBytes
                config.http2.maxFrameSize = configuration.frameBytesMax
                config.connection.keepalive.time = configuration.keepalive
                config.connection.keepalive.clientBehavior.minPingIntervalWithoutCalls = .seconds(10)
                config.connection.keepalive.clientBehavior.allowWithoutCalls = true
            }
        )
        let server = GRPCServer(transport: transport, services: services, interceptors: interceptors)
        try await withGracefulShutdownHandler {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask {
                    try await serve(server)
                    return true
                }
                group.addTask {
                    // Where listening fails, serving says why.
                    guard let port = try? await transport.listeningAddress.port else { return false }
                    logger.debug("gRPC listens", metadata: ["port": "\(port)"])
                    await onListening(port)
                    return false
                }
                group.addTask {
                    // What was written to a client that takes nothing keeps its connection open though the call has ended.
                    guard (try? await gracefulShutdown()) != nil else { return false }
                    return (try? await Task.sleep(for: Self.stopMax)) != nil
                }
                while let isOver = try await group.next(), !isOver {}
                group.cancelAll()
            }
        } onGracefulShutdown: {
            // A server told to stop before it listens never says that it does not, and whoever waits for its address waits for ever.
            Task {
                _ = try? await transport.listeningAddress
                server.beginGracefulShutdown()
            }
        }
    }

    private func serve(_ server: GRPCServer<HTTP2ServerTransport.Posix>) async throws {
        do {
            try await server.serve()
        } catch {
            let cause = (error as? RuntimeError)?.cause ?? error
            guard let refused = cause as? IOError else { throw failure("\(cause)", fix: "choose another address") }
            switch refused.errnoCode {
            case EADDRINUSE:
                throw failure(
                    "another program uses that port",
                    fix: "choose another with grpc.port, or do without gRPC: grpc.enabled: false"
                )
            case EACCES: throw failure("not allowed", fix: "choose a port from 1024 on with grpc.port")
            default: throw failure("\(refused)", fix: "choose another address with grpc.host")
            }
        }
    }

    private func failure(_ why: String, fix: String) -> ServiceError {
        ServiceError(
            .failedPrecondition,
            "cannot listen for gRPC on \(configuration.host):\(configuration.port): \(why)",
            fix: fix
        )
    }

    /// The address of the host, which may be a name.
    private func address() async throws -> GRPCNIOTransportHTTP2Posix.SocketAddress {
        let host = configuration.host
        let port = configuration.port
        let resolved: NIOCore.SocketAddress
        do {
            resolved = try await NIOThreadPool.singleton.runIfActive {
                try NIOCore.SocketAddress.makeAddressResolvingHost(host, port: port)
            }
        } catch {
            throw failure("\(error)", fix: "name an address of this machine with grpc.host")
        }
        let text = resolved.ipAddress ?? host
        if case .v6 = resolved { return .ipv6(host: text, port: port) }
        return .ipv4(host: text, port: port)
    }
}

extension GRPCNIOTransportHTTP2Posix.SocketAddress {
    fileprivate var port: Int? { ipv4?.port ?? ipv6?.port }
}
