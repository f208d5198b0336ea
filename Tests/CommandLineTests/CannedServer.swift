// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// A real HTTP server on loopback that records requests and gives the answers a test wrote down.
final class CannedServer: Sendable {
    struct Request: Sendable {
        var method: String
        var target: String
        var headers: [String: String]
        var body: [UInt8]

        var json: JSONValue? { try? JSONValue(parsing: body) }
        var line: String { "\(method) \(target)" }
    }

    struct Answer: Sendable {
        enum Ending: Sendable { case complete, hang, cut }

        var status = 200
        var contentType = "application/json"
        var body: [UInt8] = []
        /// What happens after the body: the end, silence, or a closed connection.
        var ending = Ending.complete
        /// Whether not even the head is sent.
        var isMute = false

        static func json(_ text: String, status: Int = 200) -> Self {
            Self(status: status, body: Array(text.utf8))
        }

        static func problem(_ text: String, status: Int) -> Self {
            Self(status: status, contentType: "application/problem+json", body: Array(text.utf8))
        }
    }

    typealias Handler = @Sendable (Request) -> Answer

    private struct State {
        var requests: [Request] = []
        var waiting: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())
    let port: Int

    private init(port: Int) { self.port = port }

    var address: String { "http://127.0.0.1:\(port)" }
    var requests: [Request] { state.withLock { $0.requests } }

    /// Returns as soon as `count` requests have come in.
    func waitForRequests(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                guard state.requests.count < count else { return true }
                state.waiting.append((count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    private func append(_ request: Request) {
        let ready = state.withLock { state in
            state.requests.append(request)
            let ready = state.waiting.filter { $0.count <= state.requests.count }
            state.waiting.removeAll { $0.count <= state.requests.count }
            return ready
        }
        for waiter in ready { waiter.continuation.resume() }
    }

    /// Runs `body` while the server answers.
    static func with(_ handler: @escaping Handler, _ body: (CannedServer) async throws -> Void) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let box = Mutex<CannedServer?>(nil)
        let shared = Box(box)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(
                        Recorder(handler: handler) { request in shared.record(request) }
                    )
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = CannedServer(port: channel.localAddress?.port ?? 0)
        shared.set(server)
        do {
            try await body(server)
            try await channel.close()
            try await group.shutdownGracefully()
        } catch {
            try? await channel.close()
            try? await group.shutdownGracefully()
            throw error
        }
    }

    private final class Box: Sendable {
        private let server: Mutex<CannedServer?>
        init(_ server: consuming Mutex<CannedServer?>) { self.server = server }
        func set(_ value: CannedServer) { server.withLock { $0 = value } }
        func record(_ request: Request) { server.withLock { $0 }?.append(request) }
    }

    private final class Recorder: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart

        private let handler: Handler
        private let record: @Sendable (Request) -> Void
        private var request = Request(method: "", target: "", headers: [:], body: [])

        init(handler: @escaping Handler, record: @escaping @Sendable (Request) -> Void) {
            self.handler = handler
            self.record = record
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head(let head):
                request = Request(method: head.method.rawValue, target: head.uri, headers: [:], body: [])
                for (name, value) in head.headers { request.headers[name.lowercased()] = value }
            case .body(let buffer): request.body += buffer.readableBytesView
            case .end:
                record(request)
                let answer = handler(request)
                guard !answer.isMute else { return }
                var headers = HTTPHeaders([("Content-Type", answer.contentType)])
                if answer.ending == .complete { headers.add(name: "Content-Length", value: "\(answer.body.count)") }
                let head = HTTPResponseHead(
                    version: .http1_1,
                    status: .init(statusCode: answer.status),
                    headers: headers
                )
                context.write(wrapOutboundOut(.head(head)), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: answer.body)))), promise: nil)
                switch answer.ending {
                case .complete: context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
                case .cut: context.close(promise: nil)
                case .hang: break
                }
            }
        }
    }
}
