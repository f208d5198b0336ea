// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import Logging
import NIOCore

/// One client's connection: takes requests in their order, gives answers in the same.
///
/// Requests that append go to work beside each other, so that a client that sends ahead fills a flush of the log; any other one
/// waits for those in front and holds up those behind. While requests wait, answers are not taken or too many are at work,
/// nothing is read.
final class KafkaConnection: ChannelDuplexHandler {
    typealias InboundIn = Frame
    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    private let door: KafkaDoor
    private let session: KafkaSession

    private var inbox: Deque<Frame> = []
    private var answers = ResponseQueue()
    private var othersAtWork = 0
    private var holdsRead = false
    /// Ends as soon as nothing is at work.
    private var isLeaving = false
    private var isEnding = false
    private var stallTimer: Scheduled<Void>?
    private var unwrittenBytes: Int?
    /// The request at work that is not an append, if it can be given up.
    private var task: Task<Void, Never>?

    init(door: KafkaDoor, session: KafkaSession) {
        self.door = door
        self.session = session
    }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        inbox.append(unwrapInboundIn(data))
        pump(context)
    }

    func read(context: ChannelHandlerContext) {
        if isPaused(context) { holdsRead = true } else { context.read() }
    }

    private func isPaused(_ context: ChannelHandlerContext) -> Bool {
        isEnding || isLeaving || !inbox.isEmpty || answers.count >= door.configuration.requestsPerConnectionMax
            || !context.channel.isWritable
    }

    private func pump(_ context: ChannelHandlerContext) {
        while let frame = inbox.first, !isEnding, !isLeaving, context.channel.isWritable {
            // What a message of a login looks like says the mechanism: whether it is one must be known before it is read.
            guard othersAtWork == 0 else { break }
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
            guard mayStart(head) else { break }
            inbox.removeFirst()
            start(head, frame, context)
        }
        if holdsRead, !isPaused(context) {
            holdsRead = false
            context.read()
        }
    }

    private func mayStart(_ head: RequestHead) -> Bool {
        head.isAppend ? answers.count < door.configuration.requestsPerConnectionMax : answers.isEmpty
    }

    /// Puts a request to work, or a message of a login, which has no head.
    private func start(_ head: RequestHead?, _ frame: Frame, _ context: ChannelHandlerContext) {
        let number = answers.open()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let memory = door.memory
        let isAppend = head?.isAppend ?? false
        if !isAppend { othersAtWork += 1 }
        let finish: @Sendable (ResponseQueue.Answer) -> Void = { answer in
            if frame.memoryTaken > 0 { memory.giveBack(frame.memoryTaken) }
            // On the loop too: requests that are refused at once would otherwise be nested as deep as there are of them.
            loop.execute {
                let (connection, context) = bound.value
                connection.finish(number, isAppend, answer, context)
            }
        }
        if let head, isAppend {
            door.produce(head, frame.bytes, session, finish)
        } else {
            let door = door
            let session = session
            task = Task {
                if let head {
                    finish(await door.answer(head, frame.bytes, session))
                } else {
                    finish(await door.answerToken(frame.bytes, session))
                }
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
            case .parts(let parts):
                guard write(parts, context) else { return }
                wrote = true
            case .close(let parts):
                guard write(parts, context) else { return }
                return leave(context)
            }
        }
        if wrote { context.flush() }
        if isLeaving, answers.isEmpty { return leave(context) }
        pump(context)
    }

    /// Writes the parts of an answer; where one cannot be, the connection ends, since what follows would be misread.
    private func write(_ parts: [ResponsePart], _ context: ChannelHandlerContext) -> Bool {
        for part in parts where !context.write(part) {
            door.logger.error(
                "no descriptor was left to send a file with",
                metadata: ["peer": "\(context.channel.peer)"]
            )
            end(context)
            return false
        }
        return true
    }

    /// Closes once everything is written.
    private func leave(_ context: ChannelHandlerContext) {
        isEnding = true
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(.byteBuffer(ByteBuffer()))).whenComplete { _ in
            bound.value.close(promise: nil)
        }
    }

    // MARK: The other side

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            stallTimer?.cancel()
            stallTimer = nil
            pump(context)
        } else if stallTimer == nil {
            unwrittenBytes = nil
            watchForProgress(context)
        }
        context.fireChannelWritabilityChanged()
    }

    /// Closes the connection of a client that takes nothing of its answers for a whole while.
    private func watchForProgress(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        stallTimer = context.eventLoop.scheduleTask(in: .seconds(Int64(door.configuration.stallSeconds))) {
            let (connection, context) = bound.value
            connection.checkProgress(context)
        }
    }

    private func checkProgress(_ context: ChannelHandlerContext) {
        let left = try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)
        if let left, left != unwrittenBytes {
            unwrittenBytes = left
            watchForProgress(context)
            return
        }
        door.logger.info(
            "a Kafka connection was closed: its client takes no answers",
            metadata: ["peer": "\(context.channel.peer)", "waiting_bytes": "\(left ?? 0)"]
        )
        end(context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent, answers.isEmpty {
            end(context)
            return
        }
        if event is ConnectionShouldEnd {
            isLeaving = true
            task?.cancel()
            if answers.isEmpty { end(context) }
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
        stallTimer?.cancel()
        stallTimer = nil
        for frame in inbox where frame.memoryTaken > 0 { door.memory.giveBack(frame.memoryTaken) }
        inbox.removeAll()
        context.fireChannelInactive()
    }

    private func end(_ context: ChannelHandlerContext) {
        isEnding = true
        context.close(promise: nil)
    }
}
