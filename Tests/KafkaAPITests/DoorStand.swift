// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Foundation
import Groups
import Identity
import KafkaAPI
import KafkaCodec
import Logging
import MartletCore
import NIOCore
import NIOPosix
import NIOSSL
import ServiceLifecycle
import Synchronization
import Topics
import Transactions

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A door to a log of its own, listening on a port of its own.
struct DoorStand {
    let log: LocalLog
    let port: Int

    /// Runs `body` with an open door, and closes it.
    static func with(
        _ change: (inout KafkaConfiguration) -> Void = { _ in },
        log settings: LocalLogSettings = LocalLogSettings(),
        tls: TLSSettings? = nil,
        _ body: (DoorStand) async throws -> Void
    ) async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "martlet-door-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let log = try await LocalLog.open(directory: directory.path, settings: settings, logger: quietLogger)
        var configuration = KafkaConfiguration()
        configuration.port = 0
        change(&configuration)
        let transactions = TransactionCoordinator(log: log, logger: quietLogger)
        try await transactions.recover()
        let catalog = try Catalog.open(path: directory.appending(path: "catalog.sqlite").path)
        let access = KafkaAccessStore(
            catalog: catalog,
            secrets: try await SecretStore(catalog: catalog, keyPath: directory.appending(path: "secret.key").path)
        )
        var security = KafkaSecurity(
            users: KafkaUsers(store: access),
            access: try await AccessControl(store: access, isEnabled: false, metrics: MetricRegistry())
        )
        security.tls = tls
        let door = KafkaDoor(
            configuration: configuration,
            log: log,
            topics: TopicService(
                catalog: catalog,
                log: log,
                producer: RecordProducer(log: log)
            ),
            groups: GroupCoordinator(store: LogGroupStore(log: log), logger: quietLogger),
            transactions: transactions,
            security: security,
            logger: quietLogger
        )
        let (ports, listening) = AsyncStream.makeStream(of: Int.self)
        let server = KafkaServer(door: door) { listening.yield($0) }
        let running = Task { try await server.run() }
        var iterator = ports.makeAsyncIterator()
        guard let port = await iterator.next() else { return }
        do {
            try await body(DoorStand(log: log, port: port))
        } catch {
            running.cancel()
            _ = try? await running.value
            await log.close()
            throw error
        }
        running.cancel()
        try await running.value
        await log.close()
    }

    func connect(reads: Bool = true, isEncrypted: Bool = false) async throws -> Wire {
        try await Wire.open(port: port, reads: reads, isEncrypted: isEncrypted)
    }
}

/// One connection to the door, as a client has it.
final class Wire: Sendable {
    private struct State {
        var bytes = ByteBuffer()
        var receivedBytes = 0
        var isClosed = false
        var arrivals = 0
        var seenArrivals = 0
        var waiter: CheckedContinuation<Void, Never>?
    }

    let channel: any Channel
    private let state: SharedState

    private final class SharedState: Sendable {
        let value = Mutex(State())

        func change(_ body: (inout State) -> Void) {
            let waiter = value.withLock { state in
                body(&state)
                state.arrivals += 1
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume()
        }
    }

    private final class Receiver: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let state: SharedState

        init(_ state: SharedState) {
            self.state = state
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            state.change { state in
                state.receivedBytes += bytes.readableBytes
                state.bytes.writeBuffer(&bytes)
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            state.change { $0.isClosed = true }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }
    }

    private init(_ channel: any Channel, _ state: SharedState) {
        self.channel = channel
        self.state = state
    }

    static func open(port: Int, reads: Bool, isEncrypted: Bool) async throws -> Wire {
        let state = SharedState()
        var security = TLSConfiguration.makeClientConfiguration()
        security.certificateVerification = .none
        let tls = isEncrypted ? try NIOSSLContext(configuration: security) : nil
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .channelOption(.autoRead, value: reads)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: nil)
                        )
                    }
                    try channel.pipeline.syncOperations.addHandler(Receiver(state))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return Wire(channel, state)
    }

    var isClosed: Bool { state.value.withLock { $0.isClosed } }
    var receivedBytes: Int { state.value.withLock { $0.receivedBytes } }

    func send(_ bytes: some Sequence<UInt8>) async throws {
        try await channel.writeAndFlush(ByteBuffer(bytes: bytes))
    }

    /// Sends without waiting until the system has taken the bytes.
    func start(_ bytes: [UInt8]) {
        channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
    }

    func send(_ request: some KafkaRequest, version: Int16, correlationID: Int32 = 1) async throws {
        try await send(request.frame(correlationID: correlationID, clientID: "test", version: version).bytes)
    }

    /// The next answer without its length; nil where the connection ended.
    func answer() async -> [UInt8]? {
        while true {
            let (frame, isOver) = state.value.withLock { state in
                var bytes = state.bytes
                let frame = bytes.readInteger(as: Int32.self).flatMap { bytes.readBytes(length: Int($0)) }
                if frame != nil { state.bytes = bytes }
                return (frame, state.isClosed)
            }
            if frame != nil || isOver { return frame }
            await arrival()
        }
    }

    /// The next answer, read as what this request is answered with.
    func answer<Request: KafkaRequest>(to type: Request.Type, version: Int16) async throws -> Request.Response {
        guard let frame = await answer() else { throw Closed() }
        return try frame.withUnsafeBytes { bytes in
            var reader = KafkaReader(bytes)
            _ = reader.int32()
            reader.isFlexible = version >= Request.Response.flexibleFrom && Request.api != .apiVersions
            reader.skipTags()
            return try Request.Response(from: &reader, version: version)
        }
    }

    /// Asks and waits for the answer.
    func ask<Request: KafkaRequest>(_ request: Request, version: Int16) async throws -> Request.Response {
        try await send(request, version: version)
        return try await answer(to: Request.self, version: version)
    }

    struct Closed: Error {}

    /// Waits until something arrives, or the end.
    private func arrival() async {
        await withCheckedContinuation { continuation in
            let isLate = state.value.withLock { state in
                guard state.arrivals == state.seenArrivals, !state.isClosed else {
                    state.seenArrivals = state.arrivals
                    return true
                }
                state.waiter = continuation
                return false
            }
            if isLate { continuation.resume() }
        }
    }

    /// Takes what has arrived out of memory.
    func discard() {
        state.value.withLock { $0.bytes.clear() }
    }

    func close() async throws {
        try await channel.close()
    }
}
