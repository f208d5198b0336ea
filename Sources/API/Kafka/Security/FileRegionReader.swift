// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import NIOCore
import NIOPosix

/// Reads stretches of files in pieces where they cannot go from the file to the socket, as through TLS.
///
/// One piece is held at a time: the next is read when the one before has been written.
final class FileRegionReader: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundIn = IOData
    typealias OutboundOut = ByteBuffer

    private static let pieceBytes = 256 << 10

    private var waiting: Deque<(data: IOData, promise: EventLoopPromise<Void>?)> = []
    private var isReading = false
    private var isClosed = false
    private let files = NonBlockingFileIO(threadPool: .singleton)

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isClosed else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        waiting.append((unwrapOutboundIn(data), promise))
        drain(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { end() }

    private func end() {
        isClosed = true
        // What is being read ends by itself: the next write fails.
        for item in waiting { item.promise?.fail(ChannelError.ioOnClosedChannel) }
        waiting.removeAll()
    }

    private func drain(_ context: ChannelHandlerContext) {
        while !isReading, !isClosed, let (data, promise) = waiting.popFirst() {
            switch data {
            case .byteBuffer(let buffer): context.write(wrapOutboundOut(buffer), promise: promise)
            case .fileRegion(let region): read(region, promise, context)
            }
        }
    }

    private func read(_ region: FileRegion, _ promise: EventLoopPromise<Void>?, _ context: ChannelHandlerContext) {
        isReading = true
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let count = NIOLoopBoundBox(region.readableBytes, eventLoop: loop)
        files.readChunked(
            fileRegion: region,
            chunkSize: Self.pieceBytes,
            allocator: context.channel.allocator,
            eventLoop: loop
        ) { piece in
            count.value -= piece.readableBytes
            let (reader, context) = bound.value
            guard !reader.isClosed else { return loop.makeFailedFuture(ChannelError.ioOnClosedChannel) }
            return context.writeAndFlush(reader.wrapOutboundOut(piece))
        }.assumeIsolated().whenComplete { result in
            let (reader, context) = bound.value
            reader.isReading = false
            let error: (any Error)? =
                switch result {
                case .success: count.value == 0 ? nil : ChannelError.eof
                case .failure(let error): error
                }
            if let error {
                promise?.fail(error)
                // What follows would be misread.
                context.close(promise: nil)
                return
            }
            promise?.succeed()
            reader.drain(context)
            context.flush()
        }
    }
}
