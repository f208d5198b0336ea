// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Logging
import NIOCore

/// One request as it arrived: everything behind the length field.
struct Frame: Sendable {
    let bytes: ByteBuffer
    /// What has to be given back to the ``RequestMemory`` when the request is done.
    let memoryTaken: Int
}

/// Cuts what a connection receives into requests.
///
/// A length outside the limits closes the connection, as does a request that does not arrive in its time. Room for a large request is taken
/// before the rest of it is read; until there is some, nothing is read from this connection.
final class FrameReader: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = Frame
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    private static let lengthBytes = 4
    /// Lowest rate at which a large request must arrive.
    private static let bytesPerSecondMin = 256 << 10

    private let bytesMax: Int
    private let memory: RequestMemory
    private let login: Login
    private let stall: TimeAmount
    private let logger: Logger

    private var buffer = ByteBuffer()
    /// Size of the request that has begun.
    private var frameBytes: Int?
    private var memoryTaken = 0
    private var isWaitingForMemory = false
    private var holdsRead = false
    private var stallTimer: Scheduled<Void>?
    private var isClosed = false

    init(bytesMax: Int, memory: RequestMemory, login: Login, stall: TimeAmount, logger: Logger) {
        self.bytesMax = bytesMax
        self.memory = memory
        self.login = login
        self.stall = stall
        self.logger = logger
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var received = unwrapInboundIn(data)
        if buffer.readableBytes == 0 { buffer = received } else { buffer.writeBuffer(&received) }
        cut(context)
    }

    func read(context: ChannelHandlerContext) {
        if isWaitingForMemory { holdsRead = true } else { context.read() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    private func end() {
        isClosed = true
        stallTimer?.cancel()
        stallTimer = nil
        if memoryTaken > 0 { memory.giveBack(memoryTaken) }
        memoryTaken = 0
    }

    private func cut(_ context: ChannelHandlerContext) {
        defer {
            if buffer.readableBytes == 0, frameBytes == nil { buffer = ByteBuffer() } else { watch(context) }
        }
        while !isClosed {
            if frameBytes == nil {
                guard let length = buffer.readInteger(as: Int32.self) else { break }
                guard login.frameBytes.contains(Int(length)), length <= bytesMax else {
                    refuse(context, Int(length))
                    return
                }
                frameBytes = Int(length)
            }
            guard let size = frameBytes else { break }
            if size > RequestMemory.freeBytes, memoryTaken == 0, !takeMemory(size, context) { break }
            guard let frame = buffer.readSlice(length: size) else {
                // One growth instead of many while the rest arrives.
                buffer.discardReadBytes()
                buffer.reserveCapacity(minimumWritableBytes: size - buffer.readableBytes)
                break
            }
            let taken = memoryTaken
            memoryTaken = 0
            frameBytes = nil
            stallTimer?.cancel()
            stallTimer = nil
            context.fireChannelRead(wrapInboundOut(Frame(bytes: frame, memoryTaken: taken)))
        }
    }

    private func takeMemory(_ size: Int, _ context: ChannelHandlerContext) -> Bool {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let isTaken = memory.take(size) {
            loop.execute {
                let (reader, context) = bound.value
                reader.tryAgain(context)
            }
        }
        isWaitingForMemory = !isTaken
        guard isTaken else {
            // Waiting for others is not the client's fault.
            stallTimer?.cancel()
            stallTimer = nil
            return false
        }
        memoryTaken = size
        return true
    }

    private func tryAgain(_ context: ChannelHandlerContext) {
        guard !isClosed, isWaitingForMemory else { return }
        isWaitingForMemory = false
        cut(context)
        guard !isWaitingForMemory, holdsRead else { return }
        holdsRead = false
        context.read()
    }

    /// Gives the request that has begun its time: it must not matter how small the steps are in which a client goes on.
    private func watch(_ context: ChannelHandlerContext) {
        guard stallTimer == nil, !isClosed, !isWaitingForMemory else { return }
        let transfer = TimeAmount.seconds(Int64((frameBytes ?? 0) / Self.bytesPerSecondMin))
        let channel = context.channel
        let logger = logger
        stallTimer = context.eventLoop.scheduleTask(in: stall + transfer) {
            logger.info(
                "a Kafka connection was closed: its request did not arrive in time",
                metadata: ["peer": "\(channel.peer)"]
            )
            channel.close(promise: nil)
        }
    }

    private func refuse(_ context: ChannelHandlerContext, _ length: Int) {
        logger.info(
            "a Kafka connection was closed: it sent a length no request has",
            metadata: ["peer": "\(context.channel.peer)", "length": "\(length)", "most": "\(bytesMax)"]
        )
        isClosed = true
        buffer.clear()
        context.close(promise: nil)
    }
}

extension Channel {
    /// Address of the other side, for messages.
    var peer: String { remoteAddress?.description ?? "unknown" }
}
