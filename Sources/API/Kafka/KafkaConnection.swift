// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import Logging
import MartletCore
import NIOCore
import RequestLimits

/// One client's connection: takes requests in their order, gives answers in the same.
///
/// Requests that append go to work beside each other, so that a client that sends ahead fills a flush of the log; any other one
/// waits for those in front and holds up those behind. While requests wait, answers are not taken, or too many requests or too
/// many bytes of them are at work, nothing is read.
final class KafkaConnection: ChannelDuplexHandler {
    typealias InboundIn = Frame
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    private let door: KafkaDoor
    private let session: KafkaSession
    /// With more than this to be sent, no further request is begun.
    private static let unsentBytesMax = 1 << 20

    private let reader: FrameReader
    private let counter: WriteCounter
    private let seat: ConnectionLimit.Seat
    /// Whether the seat was told that a request is under way.
    private var isServed = false

    private var inbox: Deque<Frame> = []
    private var answers = ResponseQueue()
    private var othersAtWork = 0
    /// Whether the batches of a request are on their way into the log's queues, which those of the next must not overtake.
    private var isSubmitting = false
    /// Bytes of requests that have arrived and are not answered, large and small ones.
    private var largeBytes = 0
    private var smallBytes = 0
    private var isWaitingForAnswerMemory = false
    private var holdsRead = false
    /// Ends as soon as nothing is at work.
    private var isLeaving = false
    private var isEnding = false
    /// How long is waited for the client to take its answers.
    private var patience: Patience
    private var watchTimer: Scheduled<Void>?
    /// Answers that are not wholly handed to the system.
    private var unsentAnswers = 0
    /// Bytes of these, those of files too, which encryption takes piece by piece while the channel can be written to.
    private var unsentBytes = 0
    /// Bytes that the client had taken when last looked.
    private var takenBytes = 0
    private var lookedAt = NIODeadline.now()
    /// Whether there was something then that the client had yet to take.
    private var wasOwed = false
    /// The request at work that is not an append, if it can be given up.
    private var task: Task<Void, Never>?

    /// The reader stands in front of this in the pipeline, and the counter in front of everything.
    init(
        door: KafkaDoor,
        session: KafkaSession,
        reader: FrameReader,
        counter: WriteCounter,
        seat: ConnectionLimit.Seat
    ) {
        self.door = door
        self.session = session
        self.reader = reader
        self.counter = counter
        self.seat = seat
        patience = Patience(
            .seconds(Int64(door.configuration.stallSeconds)),
            bytesPerSecond: door.configuration.answerBytesPerSecondMin
        )
    }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        inbox.append(frame)
        count(frame.bytes.readableBytes, isLarge: frame.loan != nil)
        pump(context)
        tellSeat()
    }

    /// Says whether this connection could give way to another.
    private func tellSeat() {
        let isAtWork = !inbox.isEmpty || !answers.isEmpty || unsentAnswers > 0
        guard isAtWork != isServed else { return }
        isServed = isAtWork
        if isAtWork { seat.works() } else { seat.rests() }
    }

    private func count(_ bytes: Int, isLarge: Bool) {
        if isLarge { largeBytes += bytes } else { smallBytes += bytes }
    }

    func read(context: ChannelHandlerContext) {
        if isPaused(context) { holdsRead = true } else { context.read() }
    }

    private func isPaused(_ context: ChannelHandlerContext) -> Bool {
        isEnding || isLeaving || !inbox.isEmpty || answers.count >= door.configuration.requestsPerConnectionMax
            || largeBytes >= door.configuration.connectionRequestBytes
            || smallBytes >= door.configuration.connectionSmallRequestBytes || !takesAnswers(context)
    }

    private func takesAnswers(_ context: ChannelHandlerContext) -> Bool {
        context.channel.isWritable && unsentBytes < Self.unsentBytesMax
    }

    private func pump(_ context: ChannelHandlerContext) {
        while let frame = inbox.first, !isEnding, !isLeaving, takesAnswers(context) {
            // What a message of a login looks like says the mechanism: whether it is one must be known before it is read.
            guard othersAtWork == 0, !isSubmitting else { break }
            if session.login.takesToken {
                guard answers.isEmpty else { break }
                inbox.removeFirst()
                start(nil, frame, context)
                continue
            }
            guard let head = RequestHead(frame) else {
                door.logger.info(
                    "a Kafka connection was closed: it sent what is no request",
                    metadata: ["peer": "\(context.channel.peer)"]
                )
                end(context)
                return
            }
            guard mayStart(head), hasAnswerMemory(head, context) else { break }
            inbox.removeFirst()
            start(head, frame, context)
        }
        // What takes long must not have a large request behind it that holds memory until it is done.
        reader.hold(othersAtWork > 0 || !inbox.isEmpty)
        if holdsRead, !isPaused(context) {
            holdsRead = false
            context.read()
        }
    }

    private func mayStart(_ head: RequestHead) -> Bool {
        guard othersAtWork == 0, !isSubmitting else { return false }
        return head.isAppend ? answers.count < door.configuration.requestsPerConnectionMax : answers.isEmpty
    }

    /// Whether an answer may be made; where there is no memory for one, the request waits until there is.
    private func hasAnswerMemory(_ head: RequestHead, _ context: ChannelHandlerContext) -> Bool {
        // The answers of appends are small, and there is a bound to their number.
        guard !head.isAppend else { return true }
        guard !isWaitingForAnswerMemory else { return false }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        isWaitingForAnswerMemory = door.answers.wait {
            loop.execute {
                let (connection, context) = bound.value
                connection.isWaitingForAnswerMemory = false
                connection.pump(context)
            }
        }
        return !isWaitingForAnswerMemory
    }

    /// Puts a request to work, or a message of a login, which has no head.
    private func start(_ head: RequestHead?, _ frame: Frame, _ context: ChannelHandlerContext) {
        let number = answers.open()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let loan = frame.loan
        let bytes = frame.bytes
        let byteCount = bytes.readableBytes
        let isAppend = head?.isAppend ?? false
        if !isAppend { othersAtWork += 1 }
        let finish: @Sendable (ResponseQueue.Answer) -> Void = { answer in
            // On the loop too: requests that are refused at once would otherwise be nested as deep as there are of them.
            loop.execute {
                let (connection, context) = bound.value
                connection.count(-byteCount, isLarge: loan != nil)
                connection.finish(number, isAppend, answer, context)
            }
        }
        let door = door
        let session = session
        guard let head, isAppend else {
            task = Task {
                if let head {
                    finish(await door.answer(head, bytes, session))
                } else {
                    finish(await door.answerToken(bytes, session))
                }
            }
            return
        }
        // Checking a large request takes longer than others on this loop should wait.
        var rest: (@Sendable () async -> Void)? = { await door.produce(head, bytes, session, finish)?() }
        if byteCount <= door.configuration.requestBytesInline {
            let isAlone = answers.count == 1 && inbox.isEmpty && reader.isEmpty
            rest = door.produce(head, bytes, session, mayBlock: isAlone, finish)
        }
        guard let rest else { return }
        isSubmitting = true
        Task {
            await rest()
            loop.execute {
                let (connection, context) = bound.value
                connection.isSubmitting = false
                connection.pump(context)
            }
        }
    }

    private func finish(
        _ number: UInt64,
        _ isAppend: Bool,
        _ answer: ResponseQueue.Answer,
        _ context: ChannelHandlerContext
    ) {
        if !isAppend {
            othersAtWork -= 1
            task = nil
        }
        guard !isEnding else { return }
        answers.set(answer, at: number)
        var wrote = false
        while let next = answers.next() {
            switch next {
            case .none: break
            case .parts(let parts, let loan):
                write(parts, loan, context)
                wrote = true
            case .close(let parts):
                write(parts, nil, context)
                return leave(context)
            }
        }
        if wrote {
            context.flush()
            watch(context)
        }
        if isLeaving, answers.isEmpty { return leave(context) }
        pump(context)
        tellSeat()
    }

    /// Writes the parts of an answer, whose memory is held until they are sent.
    private func write(_ parts: [ResponsePart], _ loan: AnswerLoan?, _ context: ChannelHandlerContext) {
        guard !parts.isEmpty else { return }
        let bytes = parts.reduce(0) { $0 + $1.memoryBytes }
        let held = loan ?? door.answers.hold(bytes)
        held.set(bytes)
        let size = parts.reduce(0) { $0 + $1.byteCount }
        unsentAnswers += 1
        unsentBytes += size
        for (place, part) in parts.enumerated() {
            guard place == parts.count - 1 else {
                context.write(part, promise: nil)
                continue
            }
            let sent = context.eventLoop.makePromise(of: Void.self)
            let loop = context.eventLoop
            let bound = NIOLoopBound((self, context), eventLoop: loop)
            sent.futureResult.whenComplete { _ in
                withExtendedLifetime(held) {
                    let (connection, _) = bound.value
                    connection.unsentAnswers -= 1
                    connection.unsentBytes -= size
                }
                // Not from within a write; and nobody else says that there is room again.
                loop.execute {
                    let (connection, context) = bound.value
                    if !connection.isEnding { connection.pump(context) }
                    connection.tellSeat()
                }
            }
            context.write(part, promise: sent)
        }
    }

    /// Closes once everything is written.
    private func leave(_ context: ChannelHandlerContext) {
        isEnding = true
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(ByteBuffer()))).whenComplete { _ in
            bound.value.close(promise: nil)
        }
        watch(context)
    }

    // MARK: The other side

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { pump(context) }
        context.fireChannelWritabilityChanged()
    }

    private func unwritten(_ context: ChannelHandlerContext) -> Int {
        // A channel that has no such option, or is closed, has nothing that waits.
        (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// Looks after answers that the client has yet to take.
    private func watch(_ context: ChannelHandlerContext) {
        guard watchTimer == nil, unsentAnswers > 0 else { return }
        let left = unwritten(context)
        takenBytes = counter.bytes - left
        wasOwed = left > 0
        patience.refill()
        lookedAt = .now()
        lookLater(context)
    }

    /// How often answers that are not taken are looked at.
    private var pause: TimeAmount {
        let configuration = door.configuration
        let milliseconds = Int64(min(configuration.stallSeconds, configuration.contendedStallSeconds, 4)) * 1000 / 4
        return .milliseconds(max(10, milliseconds))
    }

    private func lookLater(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        watchTimer = context.eventLoop.scheduleTask(in: pause) {
            let (connection, context) = bound.value
            connection.look(context)
        }
    }

    /// Closes the connection of a client that takes its answers more slowly than at the lowest rate.
    private func look(_ context: ChannelHandlerContext) {
        watchTimer = nil
        guard unsentAnswers > 0 else { return }
        let left = unwritten(context)
        let taken = counter.bytes - left
        let now = NIODeadline.now()
        // The client is waited for only with bytes it could take: what of a file is yet to be read is the engine's to do. And looked at
        // much later than meant, the loop was held up.
        let isOwed = left > 0
        if isOwed, wasOwed { patience.spend(min(now - lookedAt, pause)) }
        patience.earn(bytes: max(0, taken - takenBytes))
        lookedAt = now
        takenBytes = taken
        wasOwed = isOwed
        if isOwed, door.answers.isFull || door.memory.isContended {
            patience.limit(to: .seconds(Int64(door.configuration.contendedStallSeconds)))
        }
        guard patience.isOver else { return lookLater(context) }
        door.logger.info(
            "a Kafka connection was closed: its client takes no answers",
            metadata: ["peer": "\(context.channel.peer)", "waiting_bytes": "\(left)"]
        )
        end(context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            // What waits for the engine is nobody's idleness.
            if answers.isEmpty, inbox.isEmpty, !reader.isHeldUp { end(context) }
            return
        }
        if event is ConnectionShouldEnd {
            isLeaving = true
            task?.cancel()
            if answers.isEmpty, !isEnding { leave(context) }
            return
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        door.logger.debug(
            "a Kafka connection failed",
            metadata: ["peer": "\(context.channel.peer)", "error": "\(error)"]
        )
        end(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        isEnding = true
        task?.cancel()
        watchTimer?.cancel()
        watchTimer = nil
        inbox.removeAll()
        context.fireChannelInactive()
    }

    private func end(_ context: ChannelHandlerContext) {
        isEnding = true
        context.close(promise: nil)
    }
}
