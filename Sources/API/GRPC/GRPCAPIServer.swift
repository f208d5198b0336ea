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
    /// Most calls at work at once on all connections.
    package var callsMax = 2048
    /// Most connections; where there are as many, a new one takes the place of the one that has gone without a call for longest.
    package var connectionsMax = 1024
    /// How long a connection may go without a call.
    package var idle: Duration = .seconds(600)
    /// Bytes of large messages that are held at once for all calls, apart from one that may always go on.
    package var requestMemoryBytes = 256 << 20
    /// How long a client may let a request rest that it has begun.
    package var stall: Duration = .seconds(30)
    /// The same where others wait for the memory it holds.
    package var contendedStall: Duration = .seconds(5)
    /// Lowest rate at which a message must arrive, in bytes a second.
    package var requestBytesPerSecondMin = 64 << 10
    /// Bytes a client may send in one call that were not looked at.
    package var windowBytes = 256 << 10
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
    private let rules: IntakeRules
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
        rules = IntakeRules(configuration, logger: logger)
        self.logger = logger
        self.onListening = onListening
    }

    /// Listens and serves until shut down.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the address cannot be listened on.
    package func run() async throws {
        let connections = OpenConnections(
            connectionsMax: configuration.connectionsMax,
            callsMax: configuration.callsMax
        )
        let transport = HTTP2ServerTransport.Posix(
            address: try await address(),
            transportSecurity: .plaintext,
            config: .defaults { config in
                config.compression.enabledAlgorithms = [.gzip]
                config.rpc.maxRequestPayloadSize = configuration.messageBytesMax
                config.http2.maxConcurrentStreams = configuration.callsPerConnectionMax
                config.http2.targetWindowSize = configuration.windowBytes
                config.http2.maxFrameSize = configuration.frameBytesMax
                config.connection.maxIdleTime = configuration.idle
                config.channelDebuggingCallbacks.onAcceptTCPConnection = { take($0, connections) }
                config.channelDebuggingCallbacks.onAcceptHTTP2Stream = { takeCall($0, connections) }
                config.connection.keepalive.time = configuration.keepalive
                config.connection.keepalive.clientBehavior.minPingIntervalWithoutCalls = .seconds(10)
                config.connection.keepalive.clientBehavior.allowWithoutCalls = true
            }
        )
        let interceptors: [any ServerInterceptor] =
            [IntakeInterceptor(calls: rules.calls)] + (rules.token.map { [$0] } ?? [])
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

    private func take(_ channel: any Channel, _ connections: OpenConnections) -> EventLoopFuture<Void> {
        guard connections.add(channel) else {
            return refuse(
                channel,
                "a gRPC connection was refused: all there may be are at work",
                configuration.connectionsMax
            )
        }
        return channel.eventLoop.makeSucceededVoidFuture()
    }

    private func takeCall(_ call: any Channel, _ connections: OpenConnections) -> EventLoopFuture<Void> {
        guard let connection = call.parent, connections.addCall(call, of: connection) else {
            return refuse(call, "a gRPC call was refused: there are too many", configuration.callsMax)
        }
        return call.eventLoop.makeCompletedFuture { try rules.bound(call) }
    }

    private func refuse(_ channel: any Channel, _ why: Logger.Message, _ most: Int) -> EventLoopFuture<Void> {
        logger.warning(why, metadata: ["most": "\(most)"])
        channel.close(promise: nil)
        return channel.eventLoop.makeFailedFuture(ChannelError.eof)
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
