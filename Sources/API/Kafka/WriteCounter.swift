// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// Counts the bytes that are handed to the socket; stands in front of everything else, so that it sees them as they are sent.
///
/// What the socket still holds taken off, it is what the client has taken: with encryption too, and while a large answer goes out in
/// pieces.
final class WriteCounter: ChannelOutboundHandler {
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    private(set) var bytes = 0

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        bytes += unwrapOutboundIn(data).readableBytes
        context.write(data, promise: promise)
    }
}
