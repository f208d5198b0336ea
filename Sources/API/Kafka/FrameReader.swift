// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Logging
import NIOCore
import RequestLimits

/// One request as it arrived: everything behind the length field.
struct Frame: Sendable {
    let bytes: ByteBuffer
    /// The memory of a large request, given back when nobody holds this any more.
    let loan: RequestLoan?
}

/// Cuts what a connection receives into requests.
///
/// A length outside the limits closes the connection, as does a request that arrives more slowly than at the lowest rate; the time in
/// which the engine itself does not read counts for nothing. Memory for a large request is taken in steps as it arrives; while
/// there is none, nothing is read from this connection.
final class FrameReader: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = Frame
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    struct Limits: Sendable {
        /// The largest request that appends.
        var appendBytesMax: Int
        /// The largest of all others.
        var otherBytesMax: Int
        /// How long a request may rest.
        var stall: TimeAmount
        /// How long it may rest where others wait for the memory it holds.
        var contendedStall: TimeAmount
        /// Lowest rate at which a request must arrive.
        var bytesPerSecondMin: Int
    }

    private static let lengthBytes = 4
    private let limits: Limits
    private let memory: RequestMemory
    private let login: Login
    private let logger: Logger

    private var buffer = ByteBuffer()
    /// Size of the request that has begun.
    private var frameBytes: Int?
    private var loan: RequestLoan?
    /// Bytes of it that memory was taken for.
    private var allowedBytes = RequestMemory.freeBytes
    private var isWaitingForMemory = false
    /// Whether large requests are to wait, because those in front of them may take long.
    private var isHeld = false
    private var isStoppedByHold = false
    private var holdsRead = false
    /// Since when the client is waited for.
    private var readingSince: NIODeadline?
    private var patience: Patience
    private var timer: Scheduled<Void>?
    private var context: ChannelHandlerContext?
    private var isClosed = false

    /// Whether nothing of a further request has arrived.
    var isEmpty: Bool { buffer.readableBytes == 0 && frameBytes == nil }

    init(limits: Limits, memory: RequestMemory, login: Login, logger: Logger) {
        self.limits = limits
        self.memory = memory
        self.login = login
        self.logger = logger
        patience = Patience(limits.stall, bytesPerSecond: limits.bytesPerSecondMin)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // Where no request was under way, the client owed nothing.
        if frameBytes == nil, buffer.readableBytes == 0 { begun() } else { countWaiting() }
        var received = unwrapInboundIn(data)
        patience.earn(bytes: received.readableBytes)
        if buffer.readableBytes == 0 { buffer = received } else { buffer.writeBuffer(&received) }
        cut(context)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        countWaiting()
        readingSince = nil
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        guard !isHeldUp else {
            holdsRead = true
            return
        }
        if readingSince == nil { readingSince = .now() }
        context.read()
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
        timer?.cancel()
        timer = nil
        loan = nil
        context = nil
        buffer = ByteBuffer()
    }

    /// Keeps large requests from taking memory while those in front of them may take long, or lets them go on.
    func hold(_ isHeld: Bool) {
        self.isHeld = isHeld
        guard !isHeld, isStoppedByHold, let context else { return }
        isStoppedByHold = false
        goOn(context)
    }

    /// Whether the engine keeps a request from going on.
    var isHeldUp: Bool { isWaitingForMemory || isStoppedByHold }

    // MARK: Requests

    private func cut(_ context: ChannelHandlerContext) {
        while !isClosed, begin(context), let size = frameBytes {
            guard size <= RequestMemory.freeBytes || hasRoom(size, context) else { break }
            guard let frame = buffer.readSlice(length: size) else { break }
            let finished = Frame(bytes: frame, loan: loan)
            if loan != nil {
                // A buffer of its own for what follows, or the large one would be copied to be written to.
                buffer = ByteBuffer(bytes: buffer.readableBytesView)
            }
            frameBytes = nil
            loan = nil
            allowedBytes = RequestMemory.freeBytes
            begun()
            context.fireChannelRead(wrapInboundOut(finished))
        }
        if buffer.readableBytes == 0, frameBytes == nil { buffer = ByteBuffer() } else { watch(context) }
    }

    /// Whether there is a request under way, reading its length where one begins.
    private func begin(_ context: ChannelHandlerContext) -> Bool {
        guard frameBytes == nil else { return true }
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: Int32.self).map(Int.init) else { return false }
        guard login.frameBytes.contains(length), length <= max(limits.appendBytesMax, limits.otherBytesMax) else {
            refuse(context, length)
            return false
        }
        if length > RequestMemory.freeBytes {
            // What the request is says how large it may be.
            guard let api = buffer.getInteger(at: buffer.readerIndex + Self.lengthBytes, as: Int16.self) else {
                return false
            }
            let isAppend = api == KafkaAPIKey.produce.rawValue
            guard length <= (isAppend ? limits.appendBytesMax : limits.otherBytesMax) else {
                refuse(context, length)
                return false
            }
            loan = memory.open(mayUseReserve: isAppend)
        }
        buffer.moveReaderIndex(forwardBy: Self.lengthBytes)
        frameBytes = length
        return true
    }

    private func hasRoom(_ size: Int, _ context: ChannelHandlerContext) -> Bool {
        guard !isWaitingForMemory else { return false }
        // What was only announced takes nothing.
        guard allowedBytes < size, buffer.readableBytes > allowedBytes else { return true }
        guard !isHeld else {
            isStoppedByHold = true
            return false
        }
        let wanted = min(size, max(buffer.readableBytes, allowedBytes * 2))
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let isTaken = loan?.raise(to: wanted) { loop.execute { bound.value.memoryGranted(wanted) } } ?? true
        if isTaken { allowedBytes = wanted }
        isWaitingForMemory = !isTaken
        return isTaken
    }

    private func memoryGranted(_ bytes: Int) {
        guard isWaitingForMemory, !isClosed, let context else { return }
        isWaitingForMemory = false
        allowedBytes = bytes
        goOn(context)
    }

    private func goOn(_ context: ChannelHandlerContext) {
        cut(context)
        guard holdsRead, !isHeldUp, !isClosed else { return }
        holdsRead = false
        read(context: context)
    }

    // MARK: Time

    private func begun() {
        patience.refill()
        if readingSince != nil { readingSince = .now() }
    }

    private func countWaiting() {
        guard let since = readingSince else { return }
        let now = NIODeadline.now()
        // Looked at later than that, the loop was held up, with what the client had sent long since perhaps.
        patience.spend(min(now - since, pause))
        readingSince = now
    }

    /// How often a request that has begun is looked at.
    private var pause: TimeAmount {
        let nanoseconds = min(limits.stall.nanoseconds, limits.contendedStall.nanoseconds, 4_000_000_000) / 4
        return .nanoseconds(max(nanoseconds, 10_000_000))
    }

    /// Looks at the request that has begun now and then: it must not matter how small the steps are in which a client goes on.
    private func watch(_ context: ChannelHandlerContext) {
        guard timer == nil, !isClosed else { return }
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: pause) { bound.value.look() }
    }

    private func look() {
        timer = nil
        guard let context, frameBytes != nil || buffer.readableBytes > 0 else { return }
        countWaiting()
        // Only of a client that is waited for: one that waits for memory itself is no reason to hurry it.
        if loan != nil, readingSince != nil, memory.isContended { patience.limit(to: limits.contendedStall) }
        guard patience.isOver else { return watch(context) }
        logger.info(
            "a Kafka connection was closed: its request did not arrive in time",
            metadata: ["peer": "\(context.channel.peer)", "bytes": "\(frameBytes ?? 0)"]
        )
        context.close(promise: nil)
    }

    private func refuse(_ context: ChannelHandlerContext, _ length: Int) {
        logger.info(
            "a Kafka connection was closed: it sent a length no request has",
            metadata: ["peer": "\(context.channel.peer)", "length": "\(length)", "most": "\(limits.appendBytesMax)"]
        )
        isClosed = true
        buffer = ByteBuffer()
        context.close(promise: nil)
    }
}

extension Channel {
    /// Address of the other side, for messages.
    var peer: String { remoteAddress?.description ?? "unknown" }
}
