// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Hummingbird
import MartletCore
import NIOCore
import NIOHTTP1

/// Sits at the HTTP decoder of each connection: closes it when its client leaves answers unread, answers `Expect: 100-continue`,
/// answers what is no HTTP with a problem, and says when the connection could give way to another.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    private let stall: TimeAmount
    private let seat: ConnectionLimit.Seat
    private var stalled: Scheduled<Void>?
    private var requestsInProgress = 0
    /// Whether a request is not here as a whole yet: then the client is waited for.
    private var isReading = false
    /// Answers that are not wholly handed to the system.
    private var unsentAnswers = 0

    init(stall: TimeAmount, seat: ConnectionLimit.Seat) {
        self.stall = stall
        self.seat = seat
    }

    private func tellSeat() {
        if requestsInProgress + unsentAnswers > (isReading ? 1 : 0) { seat.works() } else { seat.rests() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        defer { tellSeat() }
        if case .end = part { isReading = false }
        if case .head(let head) = part {
            isReading = true
            requestsInProgress += 1
            if head.version == .http1_1, head.headers["expect"].contains(where: { $0.lowercased() == "100-continue" }) {
                context.writeAndFlush(
                    wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))),
                    promise: nil
                )
            }
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else { return context.write(data, promise: promise) }
        requestsInProgress -= 1
        unsentAnswers += 1
        let sent = promise ?? context.eventLoop.makePromise()
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        sent.futureResult.whenComplete { _ in
            bound.value.unsentAnswers -= 1
            bound.value.tellSeat()
        }
        context.write(data, promise: sent)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stalled?.cancel()
        stalled = nil
        if !context.channel.isWritable {
            let channel = context.channel
            stalled = context.eventLoop.scheduleTask(in: stall) { channel.close(promise: nil) }
        }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is HTTPParserError else {
            context.fireErrorCaught(error)
            return
        }
        guard requestsInProgress == 0 else {
            context.close(promise: nil)
            return
        }
        let isTooLong = error as? HTTPParserError == .headerOverflow
        let status: HTTPResponse.Status = isTooLong ? .requestHeaderFieldsTooLarge : .badRequest
        let refusal = Refusal(
            status,
            code: "invalid",
            isTooLong ? "the head of the request is too large" : "this is not HTTP: \(error)"
        )
        let body = refusal.problem(instance: "urn:martlet:request:none").bytes
        var head = HTTPResponseHead(version: .http1_1, status: isTooLong ? .requestHeaderFieldsTooLarge : .badRequest)
        head.headers.add(name: "content-type", value: "application/problem+json")
        head.headers.add(name: "content-length", value: "\(body.count)")
        head.headers.add(name: "connection", value: "close")
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: body)))), promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in bound.value.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        stalled?.cancel()
        stalled = nil
    }
}

/// Puts a ``ConnectionGuard`` behind the HTTP decoder, where Hummingbird itself offers no place.
final class ConnectionGuardInstaller: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let stall: TimeAmount
    private let connections: ConnectionLimit

    init(stall: TimeAmount, connections: ConnectionLimit) {
        self.stall = stall
        self.connections = connections
    }

    func handlerAdded(context: ChannelHandlerContext) {
        do {
            let operations = context.pipeline.syncOperations
            let decoder = try operations.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
            let channel = context.channel
            let address = channel.remoteAddress?.ipAddress ?? ""
            guard let seat = connections.add(from: address, close: { channel.close(promise: nil) }) else {
                throw ChannelError.eof
            }
            channel.closeFuture.whenComplete { _ in seat.leave() }
            try operations.addHandler(ConnectionGuard(stall: stall, seat: seat), position: .after(decoder))
        } catch {
            // Serving without the guard would be unsafe.
            context.fireErrorCaught(error)
            context.close(promise: nil)
        }
    }
}
