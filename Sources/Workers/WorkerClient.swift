// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore
import NIOHTTP1
import NIOPosix

/// Posts events to one worker over its Unix socket and reports result lines as they arrive.
///
/// Connections are kept alive and reused; several requests may be open at once, each on its own connection. All state lives on one event loop.
package final class WorkerClient: Sendable {
    private let loop: any EventLoop
    private let socketPath: String
    private let connections: NIOLoopBound<ConnectionPool>

    /// Makes a client; nothing connects until the first request.
    ///
    /// - Parameters:
    ///   - loop: The event loop all connections live on.
    ///   - socketPath: The worker's socket.
    ///   - onEvent: Receives `.line` and `.requestEnded`, in order per request, on the event loop.
    /// - Returns: The client.
    /// - Throws: `EventLoopError` where the loop is shut down.
    package static func make(
        loop: any EventLoop,
        socketPath: String,
        onEvent: @escaping @Sendable (WorkerEvent) -> Void
    ) async throws -> WorkerClient {
        try await loop.submit {
            WorkerClient(
                loop: loop,
                socketPath: socketPath,
                connections: NIOLoopBound(ConnectionPool(onEvent: onEvent), eventLoop: loop)
            )
        }.get()
    }

    private init(loop: any EventLoop, socketPath: String, connections: NIOLoopBound<ConnectionPool>) {
        self.loop = loop
        self.socketPath = socketPath
        self.connections = connections
    }

    /// Sends a batch of `count` events; what comes back is reported through `onEvent`.
    package func invoke(request: Int, body: ByteBuffer, count: Int) {
        loop.execute {
            let pool = self.connections.value
            let call = InvokeHandler.Call(request: request, count: count, body: body)
            if let idle = pool.takeIdle() {
                idle.start(call)
            } else {
                self.connect(pool, call)
            }
        }
    }

    /// Closes all connections; open requests end with an error.
    package func close() {
        loop.execute { self.connections.value.closeAll() }
    }

    private func connect(_ pool: ConnectionPool, _ call: InvokeHandler.Call) {
        let bound = NIOLoopBound(pool, eventLoop: loop)
        ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pool = bound.value
                    let handler = InvokeHandler(pool: pool)
                    try channel.pipeline.syncOperations.addHTTPClientHandlers(leftOverBytesStrategy: .dropBytes)
                    try channel.pipeline.syncOperations.addHandler(handler)
                    pool.add(handler)
                    handler.first(call)
                }
            }
            .connect(unixDomainSocketPath: socketPath)
            .whenFailure { error in
                bound.value.onEvent(.requestEnded(request: call.request, error: "cannot connect: \(error)"))
            }
    }
}

/// The connections of one worker; used on its event loop only.
final class ConnectionPool {
    let onEvent: @Sendable (WorkerEvent) -> Void
    private var idle: [InvokeHandler] = []
    private var open: [ObjectIdentifier: InvokeHandler] = [:]
    private var isClosed = false

    init(onEvent: @escaping @Sendable (WorkerEvent) -> Void) {
        self.onEvent = onEvent
    }

    func takeIdle() -> InvokeHandler? { idle.popLast() }

    func add(_ handler: InvokeHandler) { open[ObjectIdentifier(handler)] = handler }

    func becameIdle(_ handler: InvokeHandler) {
        if isClosed { handler.close() } else { idle.append(handler) }
    }

    func closed(_ handler: InvokeHandler) {
        open[ObjectIdentifier(handler)] = nil
        idle.removeAll { $0 === handler }
    }

    func closeAll() {
        isClosed = true
        for handler in Array(open.values) { handler.close() }
    }
}
