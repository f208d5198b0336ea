// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Identity
import Logging
import MartletCore
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// The Kafka door: a broker that Kafka's clients connect to.
///
/// Listens while ``run()`` runs; a graceful shutdown answers the requests at work and closes the connections.
package struct KafkaServer: Service {
    let door: KafkaDoor
    private let onListening: @Sendable (_ port: Int) async -> Void

    /// Makes a server of a door.
    package init(door: KafkaDoor, onListening: @escaping @Sendable (_ port: Int) async -> Void = { _ in }) {
        self.door = door
        self.onListening = onListening
    }

    /// Listens and serves until shut down.
    ///
    /// - Throws: `ServiceError` `.failedPrecondition` where the address cannot be listened on.
    package func run() async throws {
        // Loops of its own: what a file makes one of them wait for holds up nobody else's requests.
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: Self.loopCount)
        do {
            try await serve(on: loops)
        } catch {
            try? await loops.shutdownGracefully()
            throw error
        }
        // Nothing runs on them any more; what cannot be shut down ends with the process.
        try? await loops.shutdownGracefully()
    }

    /// Two where there are two processors or one, so that a slow file does not stop all connections.
    private static let loopCount = min(8, max(2, System.coreCount))

    private func serve(on loops: MultiThreadedEventLoopGroup) async throws {
        let connections = OpenConnections(most: door.configuration.connectionsMax)
        let tls = try await readCertificates()
        let pending = PendingLogins(most: door.configuration.connectionsMax / KafkaSecurity.loginShare)
        let listener = try await listen(connections, tls, pending, on: loops)
        let port = listener.localAddress?.port ?? 0
        door.listens(port: port)
        door.logger.debug("Kafka listens", metadata: ["port": "\(port)"])
        await onListening(port)
        await withTaskGroup(of: Void.self) { group in
            if let tls { group.addTask { await followCertificates(tls) } }
            await withTaskCancellationOrGracefulShutdownHandler {
                // Ends when the listener does.
                try? await listener.closeFuture.get()
            } onCancelOrGracefulShutdown: {
                listener.close(promise: nil)
            }
            group.cancelAll()
        }
        await connections.closeAll(within: .seconds(5))
    }

    private func listen(
        _ connections: OpenConnections,
        _ tls: TLSContext?,
        _ pending: PendingLogins,
        on loops: MultiThreadedEventLoopGroup
    ) async throws -> any Channel {
        let configuration = door.configuration
        let door = door
        let bootstrap = ServerBootstrap(group: loops)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 256 << 10, high: 1 << 20))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let seat = connections.add(channel, logger: door.logger) else {
                        door.logger.warning(
                            "a Kafka connection was refused: there are too many, and all are being served",
                            metadata: ["most": "\(configuration.connectionsMax)"]
                        )
                        throw ChannelError.eof
                    }
                    let pipeline = channel.pipeline.syncOperations
                    // Counts what goes to the socket: behind encryption, where there is any.
                    let counter = WriteCounter()
                    try pipeline.addHandler(counter)
                    let login = door.login(channel, pending)
                    if let tls { try pipeline.encrypt(tls, login, door.logger) }
                    try pipeline.addHandler(
                        IdleStateHandler(allTimeout: .seconds(Int64(configuration.idleSeconds)))
                    )
                    let reader = FrameReader(
                        limits: FrameReader.Limits(configuration),
                        memory: door.memory,
                        login: login,
                        logger: door.logger
                    )
                    try pipeline.addHandler(reader)
                    try pipeline.addHandler(
                        KafkaConnection(
                            door: door,
                            session: KafkaSession(channel, login),
                            reader: reader,
                            counter: counter,
                            seat: seat
                        )
                    )
                }
            }
        do {
            return try await bootstrap.bind(host: configuration.host, port: configuration.port).get()
        } catch {
            throw failure(error)
        }
    }

    private func failure(_ error: any Error) -> ServiceError {
        let place = "cannot listen for Kafka on \(door.configuration.host):\(door.configuration.port)"
        switch (error as? IOError)?.errnoCode {
        case EADDRINUSE:
            return ServiceError(
                .failedPrecondition,
                "\(place): another program uses that port",
                fix: "choose another with kafka.port, or do without Kafka clients: kafka.enabled: false"
            )
        case EACCES:
            return ServiceError(
                .failedPrecondition,
                "\(place): not allowed",
                fix: "choose a port from 1024 on with kafka.port"
            )
        default:
            return ServiceError(
                .failedPrecondition,
                "\(place): \(error)",
                fix: "choose another address with kafka.host"
            )
        }
    }
}

extension FrameReader.Limits {
    init(_ configuration: KafkaConfiguration) {
        self.init(
            appendBytesMax: configuration.requestBytesMax,
            otherBytesMax: configuration.otherRequestBytesMax,
            stall: .seconds(Int64(configuration.stallSeconds)),
            contendedStall: .seconds(Int64(configuration.contendedStallSeconds)),
            bytesPerSecondMin: configuration.requestBytesPerSecondMin
        )
    }
}

/// The connections that are open, so that one gives way where there are too many and all can be closed.
private final class OpenConnections: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var isClosing = false
    }

    private let limit: ConnectionLimit
    private let state = Mutex(State())

    init(most: Int) {
        limit = ConnectionLimit(most: most, limit: most)
    }

    /// Takes a connection in; nil where there are enough, and none without a request under way.
    func add(_ channel: any Channel, logger: Logger) -> ConnectionLimit.Seat? {
        let key = ObjectIdentifier(channel)
        let isTaken = state.withLock { state in
            if !state.isClosing { state.channels[key] = channel }
            return !state.isClosing
        }
        guard isTaken else { return nil }
        let address = channel.clientAddress
        let seat = limit.add(from: ClientAddress.network(address)) {
            logger.info(
                "a Kafka connection without a request gave way to a new one: there are too many",
                metadata: ["peer": "\(address)"]
            )
            channel.close(promise: nil)
        }
        channel.closeFuture.whenComplete { _ in
            self.remove(key)
            seat?.leave()
        }
        return seat
    }

    private func remove(_ key: ObjectIdentifier) {
        state.withLock { _ = $0.channels.removeValue(forKey: key) }
    }

    /// Asks every connection to finish what it has begun, and closes what is left after a while.
    func closeAll(within patience: Duration) async {
        let channels = state.withLock { state in
            state.isClosing = true
            return Array(state.channels.values)
        }
        for channel in channels { channel.pipeline.fireUserInboundEventTriggered(ConnectionShouldEnd()) }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { for channel in channels { try? await channel.closeFuture.get() } }
            group.addTask { try? await Task.sleep(for: patience) }
            await group.next()
            for channel in channels { channel.close(promise: nil) }
            group.cancelAll()
        }
    }
}

/// Tells a connection to end as soon as nothing is at work.
struct ConnectionShouldEnd: Sendable {}
