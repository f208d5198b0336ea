// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRPCAPI
import Logging
import NIOCore
import NIOEmbedded
import NIOHPACK
import NIOHTTP2
import RequestLimits
import Testing

/// A call as HTTP/2 gives it, without a connection.
private struct Call {
    let channel = NIOAsyncTestingChannel()
    let rules: IntakeRules

    init(_ configuration: GRPCConfiguration = GRPCConfiguration(), rules: IntakeRules? = nil) async throws {
        let rules = rules ?? IntakeRules(configuration, logger: Logger(label: "test"))
        self.rules = rules
        let channel = channel
        try await channel.testingEventLoop.submit {
            try rules.bound(channel)
        }.get()
        _ = try await channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1))
    }

    func begin(_ path: String = "/martlet.v1.Publisher/PublishStream", _ more: [(String, String)] = []) async throws
        -> CallIntake
    {
        let headers = HPACKHeaders([(":path", path), (OpenCalls.key, "lie")] + more)
        try await channel.writeInbound(HTTP2Frame.FramePayload.headers(.init(headers: headers)))
        let passed = try #require(try await channel.readInbound(as: HTTP2Frame.FramePayload.self))
        guard case .headers(let given) = passed else { throw Unexpected() }
        let number = given.headers[OpenCalls.key]
        #expect(number.count == 1)
        return try #require(number.first.flatMap { UInt64($0) }.flatMap(rules.calls.call))
    }

    func send(_ bytes: some Sequence<UInt8>, end: Bool = false) async throws {
        try await channel.writeInbound(
            HTTP2Frame.FramePayload.data(.init(data: .byteBuffer(ByteBuffer(bytes: bytes)), endStream: end))
        )
    }

    /// Lengths of the messages that were handed over since, and whether the end was.
    func taken() async throws -> (messages: [[UInt8]], isEnded: Bool) {
        var bytes: [UInt8] = []
        var isEnded = false
        while let frame = try await channel.readInbound(as: HTTP2Frame.FramePayload.self) {
            guard case .data(let data) = frame, case .byteBuffer(let buffer) = data.data else { throw Unexpected() }
            bytes += buffer.readableBytesView
            isEnded = isEnded || data.endStream
        }
        var messages: [[UInt8]] = []
        while bytes.count >= 5 {
            #expect(bytes[0] == 0)
            let length = bytes[1..<5].reduce(0) { $0 << 8 | Int($1) }
            messages.append(Array(bytes[5..<5 + length]))
            bytes.removeFirst(5 + length)
        }
        #expect(bytes.isEmpty)
        return (messages, isEnded)
    }

    /// What is handed over in the end, where another thread has to do something first.
    func takenLater(_ count: Int) async throws -> [[UInt8]] {
        var found: [[UInt8]] = []
        while found.count < count, channel.isActive {
            found += try await taken().messages
            await Task.yield()
        }
        return found
    }

    struct Unexpected: Error {}
}

private func message(_ bytes: [UInt8], compressed: Bool = false) -> [UInt8] {
    let count = UInt32(bytes.count)
    return [compressed ? 1 : 0] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) } + bytes
}

/// Gzip data of that many zeros, in about a 200th of the bytes: one literal, then as long repetitions as there are.
private func gzip(zeros count: Int) -> [UInt8] {
    var bytes: [UInt8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]
    var bits: UInt64 = 0
    var bitCount = 0
    func put(_ value: UInt64, _ width: Int) {
        bits |= value << UInt64(bitCount)
        bitCount += width
        while bitCount >= 8 {
            bytes.append(UInt8(truncatingIfNeeded: bits))
            bits >>= 8
            bitCount -= 8
        }
    }
    func putReversed(_ code: UInt64, _ width: Int) {
        for bit in (0..<width).reversed() { put(code >> UInt64(bit) & 1, 1) }
    }
    put(1, 1)
    put(1, 2)
    let zero: (UInt64, Int) = (0b0011_0000, 8)
    var left = count
    if left > 0 {
        putReversed(zero.0, zero.1)
        left -= 1
    }
    while left >= 258 {
        putReversed(0b1100_0101, 8)
        putReversed(0, 5)
        left -= 258
    }
    for _ in 0..<left { putReversed(zero.0, zero.1) }
    putReversed(0, 7)
    put(0, (8 - bitCount) % 8)
    var sum = ~UInt32(0)
    for _ in 0..<count { for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0xedb8_8320 : 0) } }
    for number in [~sum, UInt32(count)] {
        for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: number >> shift)) }
    }
    return bytes
}

@Suite(.timeLimit(.minutes(5))) struct CallIntakeTests {
    @Test func messagesInPiecesArriveWholeAndInOrder() async throws {
        let call = try await Call()
        _ = try await call.begin()
        let sent: [[UInt8]] = [[], Array(0..<200), [7], Array(repeating: 9, count: 3000)]
        let bytes = sent.flatMap { message($0) }
        for begin in stride(from: 0, to: bytes.count, by: 7) {
            try await call.send(bytes[begin..<min(bytes.count, begin + 7)])
        }
        #expect(try await call.taken().messages == sent)
        try await call.send(message([1, 2]), end: true)
        let last = try await call.taken()
        #expect(last.messages == [[1, 2]] && last.isEnded)
    }

    @Test func noFurtherMessageGoesOnBeforeTheServiceHasDoneWithOne() async throws {
        let call = try await Call()
        let intake = try await call.begin()
        let large = [UInt8](repeating: 1, count: CallIntake.bytesMax * 2 / 3)
        try await call.send(message(large) + message(large) + message([5]), end: true)
        #expect(try await call.taken().messages.map(\.count) == [large.count])
        intake.used()
        let rest = try await call.takenLater(2)
        #expect(rest.map(\.count) == [large.count, 1])
    }

    @Test func compressedMessagesGoOnInflated() async throws {
        let call = try await Call()
        _ = try await call.begin("/martlet.v1.Publisher/PublishStream", [("grpc-encoding", "gzip")])
        try await call.send(
            message(gzip(zeros: 1000), compressed: true) + message(gzip(zeros: 700_000), compressed: true)
        )
        try await call.send(message([6]))
        let zeros = { [UInt8](repeating: 0, count: $0) }
        #expect(try await call.takenLater(3) == [zeros(1000), zeros(700_000), [6]])
    }

    @Test(arguments: [-1, 0, 1]) func whatInflatesToMoreThanItSaysOrMayIsRefused(_ kind: Int) async throws {
        var configuration = GRPCConfiguration()
        configuration.messageBytesMax = 1 << 20
        let call = try await Call(configuration)
        _ = try await call.begin("/martlet.v1.Publisher/PublishStream", [("grpc-encoding", "gzip")])
        var bytes = gzip(zeros: kind == 0 ? (1 << 20) + 1 : 1 << 20)
        // The length inflated stands in the last four bytes; a second member at the end would say another one.
        if kind == -1 { bytes.replaceSubrange((bytes.count - 4)..., with: [0, 0, 1, 0]) }
        if kind == 1 { bytes += [0, 0, 0, 0, 0] }
        try await call.send(message(bytes, compressed: true))
        try await call.channel.closeFuture.get()
        #expect(call.rules.memory.takenBytes == 0)
    }

    @Test func anAnnouncedLengthBeyondTheLimitIsRefused() async throws {
        let call = try await Call()
        _ = try await call.begin()
        try await call.send([0, 0xff, 0xff, 0xff, 0xff])
        try await call.channel.closeFuture.get()
    }

    @Test func healthTakesOnlyFewBytes() async throws {
        let call = try await Call()
        _ = try await call.begin("/grpc.health.v1.Health/Check")
        try await call.send(message([UInt8](repeating: 0, count: 70_000)).prefix(100))
        try await call.channel.closeFuture.get()
    }

    @Test func whatCallersSendWhoMayNotIsThrownAway() async throws {
        var configuration = GRPCConfiguration()
        configuration.token = "secret"
        let rules = IntakeRules(configuration, logger: Logger(label: "test"))
        let stranger = try await Call(rules: rules)
        _ = try await stranger.begin("/martlet.v1.Publisher/PublishStream", [("authorization", "Bearer secres")])
        try await stranger.send(message([1]), end: true)
        let nothing = try await stranger.taken()
        #expect(nothing.messages.isEmpty && nothing.isEnded)
        let friend = try await Call(rules: rules)
        _ = try await friend.begin("/martlet.v1.Publisher/PublishStream", [("authorization", "bearer secret")])
        try await friend.send(message([1]))
        #expect(try await friend.taken().messages == [[1]])
    }

    @Test func aRequestThatRestsIsBrokenOff() async throws {
        let half = try await Call()
        let many = try await half.begin()
        many.hasMany = true
        try await half.send(message([1, 2, 3]).prefix(6))
        await half.channel.testingEventLoop.advanceTime(by: .seconds(29))
        #expect(half.channel.isActive)
        await half.channel.testingEventLoop.advanceTime(by: .seconds(3))
        #expect(!half.channel.isActive)

        // A stream that rests between its messages may.
        let between = try await Call()
        try await between.begin().hasMany = true
        try await between.send(message([1, 2, 3]))
        await between.channel.testingEventLoop.advanceTime(by: .hours(1))
        #expect(between.channel.isActive)

        // One request is over only when its client says so.
        let unfinished = try await Call()
        _ = try await unfinished.begin("/martlet.v1.Publisher/Publish")
        try await unfinished.send(message([1, 2, 3]))
        await unfinished.channel.testingEventLoop.advanceTime(by: .seconds(32))
        #expect(!unfinished.channel.isActive)
    }

    @Test func largeMessagesWaitForMemoryAndGoOnWhenThereIsSome() async throws {
        var configuration = GRPCConfiguration()
        configuration.messageBytesMax = 1 << 20
        configuration.requestMemoryBytes = 0
        let rules = IntakeRules(configuration, logger: Logger(label: "test"))
        let bytes = message([UInt8](repeating: 1, count: 900_000))
        var calls: [(call: Call, intake: CallIntake)] = []
        for _ in 0..<4 {
            let call = try await Call(rules: rules)
            let intake = try await call.begin()
            try await call.send(bytes)
            calls.append((call, intake))
        }
        // One has taken the memory there is, another the reserve that one may always have; the others wait.
        var arrived = 0
        for (call, _) in calls { arrived += try await call.taken().messages.count }
        #expect(arrived == 2)
        #expect(rules.memory.isContended)
        for (_, intake) in calls.prefix(2) { intake.used() }
        for (call, _) in calls.suffix(2) { #expect(try await call.takenLater(1).count == 1) }
        for (_, intake) in calls.suffix(2) { intake.used() }
        #expect(rules.memory.takenBytes == 0 && !rules.memory.isContended)
    }

    @Test func aCallThatEndsGivesItsMemoryBack() async throws {
        let rules = IntakeRules(GRPCConfiguration(), logger: Logger(label: "test"))
        let call = try await Call(rules: rules)
        _ = try await call.begin()
        try await call.send(message([UInt8](repeating: 1, count: 900_000)))
        #expect(rules.memory.takenBytes > 0)
        try await call.channel.close()
        await call.channel.testingEventLoop.run()
        #expect(rules.memory.takenBytes == 0)
    }
}
