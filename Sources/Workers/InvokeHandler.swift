// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHTTP1

/// One connection to a worker: writes a request, cuts the answer into lines, then serves the next request.
final class InvokeHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    /// A request as the client hands it over.
    struct Call {
        var request: Int
        var count: Int
        var body: ByteBuffer
    }

    /// Kept of an answer that refuses a request.
    private static let refusalBytesMax = 64 << 10
    /// Longest result line accepted: one event's output may be large.
    private static let lineBytesMax = 256 << 20

    private let pool: ConnectionPool
    private var context: ChannelHandlerContext?
    private var call: Call?
    private var line = ByteBuffer()
    /// Bytes of `line` known to hold no end of line.
    private var scanned = 0
    private var status: HTTPResponseStatus = .ok

    init(pool: ConnectionPool) {
        self.pool = pool
    }

    /// Remembers the call to make once the connection is up.
    func first(_ call: Call) {
        self.call = call
    }

    func start(_ call: Call) {
        guard let context, context.channel.isActive else {
            pool.onEvent(.requestEnded(request: call.request, error: "the connection is closed"))
            return
        }
        self.call = call
        send(call, context)
    }

    func close() {
        context?.close(promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        pool.closed(self)
    }

    func channelActive(context: ChannelHandlerContext) {
        if let call { send(call, context) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        pool.closed(self)
        end(error: "the worker closed the connection")
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        end(error: "\(error)")
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            status = head.status
            line.clear()
            scanned = 0
        case .body(var bytes):
            guard status == .ok || line.readableBytes < Self.refusalBytesMax else { return }
            if line.readableBytes == 0 { line = bytes } else { line.writeBuffer(&bytes) }
            if status == .ok { readLines(context) }
        case .end:
            finish(context)
        }
    }

    private func send(_ call: Call, _ context: ChannelHandlerContext) {
        var headers = HTTPHeaders()
        headers.add(name: "Host", value: "worker")
        headers.add(name: "Content-Type", value: "application/cloudevents-batch+json")
        headers.add(name: "Content-Length", value: String(call.body.readableBytes))
        let head = HTTPRequestHead(version: .http1_1, method: .POST, uri: "/v1/invoke", headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(call.body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        self.call?.body = ByteBuffer()
    }

    private func readLines(_ context: ChannelHandlerContext) {
        guard let call else { return }
        while let length = lineLength() {
            scanned = 0
            guard let bytes = line.readSlice(length: length) else { return }
            line.moveReaderIndex(forwardBy: 1)
            do {
                let parsed = try bytes.withUnsafeReadableBytes { try ResultLine.parse($0, count: call.count) }
                pool.onEvent(.line(request: call.request, parsed))
            } catch {
                self.end(error: "\(error)")
                context.close(promise: nil)
                return
            }
        }
        scanned = line.readableBytes
        line.discardReadBytes()
        if line.readableBytes > Self.lineBytesMax {
            self.end(error: "a result line is longer than \(Self.lineBytesMax >> 20) MiB")
            context.close(promise: nil)
        }
    }

    /// Bytes before the next end of line; looks only at what came since the last look.
    private func lineLength() -> Int? {
        line.withUnsafeReadableBytes { bytes in
            bytes[scanned...].firstIndex(of: 0x0A)
        }
    }

    private func finish(_ context: ChannelHandlerContext) {
        if status == .ok {
            end(error: nil)
        } else {
            end(error: "the worker answered \(status.code): \(String(buffer: line).prefix(500))")
        }
        line.clear()
        pool.becameIdle(self)
    }

    private func end(error: String?) {
        guard let ended = call else { return }
        call = nil
        pool.onEvent(.requestEnded(request: ended.request, error: error))
    }
}
