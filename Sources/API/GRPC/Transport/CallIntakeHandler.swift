// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Logging
import MartletCore
import NIOCore
import NIOHPACK
import NIOHTTP2
import NIOPosix
import OTLP
import RequestLimits

/// Stands between HTTP/2 and gRPC in one call, and bounds what the engine holds of what its client sends.
///
/// Messages go on whole and inflated, and only as many as the call's service has not done with: so all that is held is what
/// this has counted. Memory for a large one is taken in steps while it arrives; whoever gets none waits, and HTTP/2 makes its client
/// wait. A client that lets a request rest has its call broken off. What a caller sends who may not is thrown away unread.
final class CallIntakeHandler: ChannelDuplexHandler {
    typealias InboundIn = HTTP2Frame.FramePayload
    typealias InboundOut = HTTP2Frame.FramePayload
    typealias OutboundIn = HTTP2Frame.FramePayload
    typealias OutboundOut = HTTP2Frame.FramePayload

    /// A flag, whether the message is compressed, and its length.
    private static let prefixBytes = 5
    /// The shortest gzip data, and its last bytes: the length inflated.
    private static let gzipBytesMin = 18

    private let rules: IntakeRules
    private let intake = CallIntake()

    private var number: UInt64?
    private var messageBytesMax = 0
    private var isGzip = false
    /// Whether the caller may send anything at all.
    private var isAdmitted = false

    private var buffer = ByteBuffer()
    private var loan: RequestLoan?
    /// Bytes of the message that memory was taken for.
    private var allowedBytes = RequestMemory.freeBytes
    /// What ends the request, held until all of it has been handed over.
    private var end: HTTP2Frame.FramePayload?
    private var hasEnded = false

    /// Whether memory, the service or the inflater is waited for.
    private var isHeldUp = false
    private var holdsRead = false
    private var isClosed = false
    private var patience: Patience
    private var timer: Scheduled<Void>?
    private var context: ChannelHandlerContext?

    init(_ rules: IntakeRules) {
        self.rules = rules
        patience = Patience(rules.stall, bytesPerSecond: rules.bytesPerSecondMin)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        close()
    }

    func channelInactive(context: ChannelHandlerContext) {
        close()
        context.fireChannelInactive()
    }

    private func close() {
        isClosed = true
        timer?.cancel()
        timer = nil
        loan = nil
        buffer = ByteBuffer()
        context = nil
        intake.end()
        if let number { rules.calls.end(number) }
        number = nil
    }

    // MARK: What arrives

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        switch frame {
        case .headers(let headers) where number == nil && !isClosed: begin(headers, context)
        case .headers:
            end = frame
            handOver(context)
        case .data(let payload):
            guard case .byteBuffer(var bytes) = payload.data else { return }
            if payload.endStream { end = .data(.init(data: .byteBuffer(ByteBuffer()), endStream: true)) }
            if isAdmitted {
                patience.earn(bytes: bytes.readableBytes)
                if buffer.readableBytes == 0 { buffer = bytes } else { buffer.writeBuffer(&bytes) }
            }
            handOver(context)
        default: context.fireChannelRead(data)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if timer == nil, isClientAwaited { watch(context) }
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        guard !isHeldUp else {
            holdsRead = true
            return
        }
        context.read()
    }

    private func begin(_ headers: HTTP2Frame.FramePayload.Headers, _ context: ChannelHandlerContext) {
        var headers = headers
        let number = rules.calls.begin(intake)
        self.number = number
        let path = headers.headers.first(name: ":path") ?? ""
        isAdmitted = rules.admits(path, headers.headers.first(name: "authorization"))
        messageBytesMax = rules.messageBytesMax(path)
        isGzip = headers.headers.first(name: "grpc-encoding") == "gzip"
        headers.headers.replaceOrAdd(name: OpenCalls.key, value: "\(number)")
        context.fireChannelRead(wrapInboundOut(.headers(headers)))
    }

    // MARK: Messages

    /// Hands over the messages that are there, as far as may be, and then the end.
    private func handOver(_ context: ChannelHandlerContext) {
        while !isClosed, !isHeldUp, let length = messageLength(context) {
            let whole = Self.prefixBytes + length
            guard hasRoom(whole, context), buffer.readableBytes >= whole else { break }
            guard take(whole, context) else { break }
        }
        guard !isClosed, !isHeldUp, let end, !hasEnded else { return }
        hasEnded = true
        // Part of a message: what to say about that is gRPC's.
        if buffer.readableBytes > 0 { pass(buffer, context) }
        buffer = ByteBuffer()
        context.fireChannelRead(wrapInboundOut(end))
    }

    /// Length of the message that begins the buffer, as far as that is known and allowed.
    private func messageLength(_ context: ChannelHandlerContext) -> Int? {
        guard buffer.readableBytes >= Self.prefixBytes,
            let length = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt32.self).map(Int.init)
        else { return nil }
        guard length <= messageBytesMax else {
            refuse("a message has \(length) bytes; \(messageBytesMax) are the most there", context)
            return nil
        }
        return length
    }

    /// Whether there is memory for as much of the message as has arrived.
    private func hasRoom(_ whole: Int, _ context: ChannelHandlerContext) -> Bool {
        guard allowedBytes < whole, buffer.readableBytes > allowedBytes else { return true }
        return raise(to: min(whole, max(buffer.readableBytes, allowedBytes * 2)), context)
    }

    private func raise(to bytes: Int, _ context: ChannelHandlerContext) -> Bool {
        let loan = loan ?? rules.memory.open(mayUseReserve: true)
        self.loan = loan
        let goOn = resumption(context) { $0.allowedBytes = max($0.allowedBytes, bytes) }
        if loan.raise(to: bytes, goOn) {
            allowedBytes = max(allowedBytes, bytes)
            return true
        }
        isHeldUp = true
        return false
    }

    /// Takes the first message out of the buffer and hands it over; false where something has to be waited for.
    private func take(_ whole: Int, _ context: ChannelHandlerContext) -> Bool {
        let isCompressed = isGzip && buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) == 1
        var held = whole
        var inflatedBytes = 0
        if isCompressed {
            guard let length = inflatedLength(whole, context) else { return false }
            inflatedBytes = length
            held = Self.prefixBytes + length
        }
        let needed = isCompressed ? whole + inflatedBytes : whole
        if loan != nil || intake.needsLoan(needed) {
            guard raise(to: needed, context) else { return false }
        }
        guard intake.add(held, loan, whenRoom: resumption(context) { _ in }) else {
            isHeldUp = true
            return false
        }
        guard let message = buffer.readSlice(length: whole) else { return false }
        // A buffer of its own for what follows, or the large one would be copied to be written to.
        if loan != nil { buffer = ByteBuffer(bytes: buffer.readableBytesView) }
        loan = nil
        allowedBytes = RequestMemory.freeBytes
        patience.refill()
        guard isCompressed else {
            pass(message, context)
            return true
        }
        return inflate(message, inflatedBytes, context)
    }

    private func pass(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        context.fireChannelRead(wrapInboundOut(.data(.init(data: .byteBuffer(bytes)))))
    }

    // MARK: Compressed messages

    /// What the message says it has inflated; more it is not given.
    private func inflatedLength(_ whole: Int, _ context: ChannelHandlerContext) -> Int? {
        guard whole >= Self.prefixBytes + Self.gzipBytesMin,
            let length = buffer.getInteger(at: buffer.readerIndex + whole - 4, endianness: .little, as: UInt32.self)
        else {
            refuse("a compressed message is not gzip data", context)
            return nil
        }
        guard length <= messageBytesMax else {
            refuse("a message has \(length) bytes inflated; \(messageBytesMax) are the most there", context)
            return nil
        }
        return Int(length)
    }

    /// Hands the message over inflated; false where that is done on another thread, because it takes long.
    private func inflate(_ message: ByteBuffer, _ length: Int, _ context: ChannelHandlerContext) -> Bool {
        guard length > RequestMemory.freeBytes else {
            inflated(Result { try Self.inflated(message, length) }, context)
            return true
        }
        isHeldUp = true
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        NIOThreadPool.singleton.runIfActive(eventLoop: context.eventLoop) { try Self.inflated(message, length) }
            .whenComplete { result in
                bound.value.resume {
                    guard let context = bound.value.context else { return }
                    bound.value.inflated(result, context)
                }
            }
        return false
    }

    private static func inflated(_ message: ByteBuffer, _ length: Int) throws -> ByteBuffer {
        let bytes = try Inflater.inflate(Array(message.readableBytesView.dropFirst(prefixBytes)), limit: length)
        var plain = ByteBuffer()
        plain.reserveCapacity(prefixBytes + bytes.count)
        plain.writeInteger(UInt8(0))
        plain.writeInteger(UInt32(bytes.count))
        plain.writeBytes(bytes)
        return plain
    }

    private func inflated(_ result: Result<ByteBuffer, any Error>, _ context: ChannelHandlerContext) {
        switch result {
        case .success(let bytes): pass(bytes, context)
        case .failure(let error): refuse("a compressed message cannot be inflated: \(error)", context)
        }
    }

    // MARK: Waiting

    /// What to call from anywhere when what is waited for is there.
    private func resumption(
        _ context: ChannelHandlerContext,
        _ change: @escaping @Sendable (CallIntakeHandler) -> Void
    ) -> @Sendable () -> Void {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        let loop = context.eventLoop
        return { loop.execute { bound.value.resume { change(bound.value) } } }
    }

    private func resume(_ change: () -> Void) {
        guard !isClosed, isHeldUp, let context else { return }
        isHeldUp = false
        change()
        handOver(context)
        guard !isClosed else { return }
        if timer == nil, isClientAwaited { watch(context) }
        context.fireChannelReadComplete()
        guard holdsRead, !isHeldUp, !isClosed else { return }
        holdsRead = false
        context.read()
    }

    /// Whether it is the client's turn: to finish a message, or to say that there is no further one.
    private var isClientAwaited: Bool {
        !isClosed && !isHeldUp && end == nil && number != nil && (buffer.readableBytes > 0 || !intake.hasMany)
    }

    /// Looks at a request that has begun now and then.
    private func watch(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: rules.pause) { bound.value.look() }
    }

    private func look() {
        timer = nil
        guard let context, isClientAwaited else { return }
        patience.spend(rules.pause)
        if loan != nil, rules.memory.isContended { patience.limit(to: rules.contendedStall) }
        guard patience.isOver else { return watch(context) }
        refuse("its request did not arrive in time", context)
    }

    private func refuse(_ why: String, _ context: ChannelHandlerContext) {
        rules.logger.info("a gRPC call was broken off: \(why)", metadata: ["peer": "\(context.channel.peer)"])
        context.close(promise: nil)
        close()
    }
}

extension Channel {
    /// Address of the other side, for messages; of a call it is the connection's.
    fileprivate var peer: String { (remoteAddress ?? parent?.remoteAddress)?.description ?? "unknown" }
}
