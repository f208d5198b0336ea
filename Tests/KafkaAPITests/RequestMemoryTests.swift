// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaAPI
import KafkaCodec
import Testing

@Suite struct RequestMemoryTests {
    private static let mebibyte = 1 << 20

    /// Room for one of the largest requests and another one.
    private static func small(_ configuration: inout KafkaConfiguration) {
        configuration.requestBytesMax = 2 * mebibyte
        configuration.otherRequestBytesMax = mebibyte
        configuration.requestMemoryBytes = 3 * mebibyte
        configuration.requestBytesInline = 64 << 10
    }

    @Test(.timeLimit(.minutes(5))) func aRequestThatIsOnlyAnnouncedHoldsNothingUp() async throws {
        try await DoorStand.with(Self.small) { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            var idle: [Wire] = []
            for _ in 0..<5 {
                let wire = try await stand.connect()
                try await wire.send(Requests.produce("t", bytes: 19 * Self.mebibyte / 10).prefix(20))
                idle.append(wire)
            }
            let began = ContinuousClock.now
            try await stand.expectProduced("t", bytes: 19 * Self.mebibyte / 10)
            #expect(began.duration(to: .now) < .seconds(3))
            for wire in idle { #expect(!wire.isClosed) }
        }
    }

    @Test(.timeLimit(.minutes(5))) func requestsThatTogetherDoNotFitAreAllAnswered() async throws {
        try await DoorStand.with(Self.small) { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask { try await stand.expectProduced("t", bytes: 19 * Self.mebibyte / 10) }
                }
                try await group.waitForAll()
            }
            #expect(try stand.log.bounds(TopicPartition(topic: "t", partition: 0)).end == 8)
        }
    }

    @Test(.timeLimit(.minutes(5))) func whoStallsWithMemoryThatOthersWaitForIsClosed() async throws {
        try await DoorStand.with { configuration in
            Self.small(&configuration)
            configuration.stallSeconds = 600
            configuration.contendedStallSeconds = 1
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let request = Requests.produce("t", bytes: 19 * Self.mebibyte / 10)
            var stalling: [Wire] = []
            for _ in 0..<3 {
                let wire = try await stand.connect()
                wire.start(Array(request.dropLast(100)))
                stalling.append(wire)
            }
            // All of them have taken what they could get before the honest one comes.
            try await Task.sleep(for: .milliseconds(300))
            try await stand.expectProduced("t", bytes: 19 * Self.mebibyte / 10)
            #expect(stalling.contains { $0.isClosed })
        }
    }

    @Test(.timeLimit(.minutes(5))) func aRequestBehindOneThatWaitsTakesNoMemory() async throws {
        try await DoorStand.with { configuration in
            Self.small(&configuration)
            configuration.stallSeconds = 600
            configuration.contendedStallSeconds = 600
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let request = Requests.produce("t", bytes: 19 * Self.mebibyte / 10)
            for _ in 0..<4 {
                let wire = try await stand.connect()
                try await wire.send(Requests.fetch("t", wait: 300_000), version: 11)
                wire.start(request)
            }
            try await stand.makeTopic("u", messageBytesMax: 4 << 20)
            let began = ContinuousClock.now
            try await stand.expectProduced("u", bytes: 19 * Self.mebibyte / 10)
            #expect(began.duration(to: .now) < .seconds(5))
        }
    }

    /// Requests that are checked beside the loop keep their order.
    @Test(.timeLimit(.minutes(5))) func largeRequestsSentAheadKeepTheirOrder() async throws {
        try await DoorStand.with { configuration in
            configuration.requestBytesInline = 64 << 10
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let wire = try await stand.connect()
            let sizes = (0..<20).map { $0.isMultiple(of: 3) ? 1 << 20 : 10 }
            var bytes: [UInt8] = []
            for (sequence, size) in sizes.enumerated() {
                let batch = Requests.batch(bytes: size, producerID: 7, epoch: 0, sequence: Int32(sequence))
                bytes += Requests.produce("t", batch: batch)
            }
            wire.start(bytes)
            for place in sizes.indices {
                let answer = try await wire.answer(to: ProduceRequest.self, version: 9)
                let partition = answer.responses[0].partitionResponses[0]
                #expect((partition.errorCode, partition.baseOffset) == (.noError, Int64(place)))
            }
        }
    }

    @Test func aLargeRequestOfAnotherKindIsRefused() async throws {
        try await DoorStand.with(Self.small) { stand in
            let wire = try await stand.connect()
            var request = Requests.produce("t", bytes: 3 * Self.mebibyte / 2)
            // The key of Metadata.
            request.replaceSubrange(4..<6, with: [0, 3])
            wire.start(request)
            #expect(await wire.answer() == nil)
        }
    }
}

/// Time counts against the client only while it is waited for.
@Suite struct SlowRequestTests {
    private static func impatient(_ configuration: inout KafkaConfiguration) {
        configuration.stallSeconds = 1
        configuration.requestBytesPerSecondMin = 128 << 10
    }

    @Test(.timeLimit(.minutes(5))) func timeInWhichTheEngineDoesNotReadDoesNotCount() async throws {
        try await DoorStand.with(Self.impatient) { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let wire = try await stand.connect()
            // While the first one waits, the others are not read to their end.
            var bytes = try Requests.fetch("t", wait: 8000).frame(correlationID: 1, clientID: nil, version: 11).bytes
            bytes += try Requests.fetch("t", wait: 0).frame(correlationID: 2, clientID: nil, version: 11).bytes
            bytes += Requests.produce("u", bytes: 768 << 10)
            try await stand.makeTopic("u", messageBytesMax: 4 << 20)
            wire.start(bytes)
            for _ in 0..<3 { #expect(await wire.answer() != nil) }
            #expect(try stand.log.bounds(TopicPartition(topic: "u", partition: 0)).end == 1)
        }
    }

    @Test(.timeLimit(.minutes(5))) func aLargeRequestHasTheTimeItsSizeNeedsFromItsFirstByte() async throws {
        let rate = 32 << 10  // So low that a machine that does other things too sends faster.
        try await DoorStand.with({
            Self.impatient(&$0); $0.requestBytesPerSecondMin = rate
        }) { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            let wire = try await stand.connect()
            let request = Requests.produce("t", bytes: 768 << 10)
            // Part of the length first, then for two seconds, which is more than a request may rest.
            try await wire.send(request.prefix(2))
            for part in stride(from: 2, to: request.count, by: 39 << 10) {
                try await Task.sleep(for: .milliseconds(100))
                try await wire.send(request[part..<min(request.count, part + 39 << 10)])
            }
            #expect(await wire.answer() != nil)
        }
    }

    @Test(.timeLimit(.minutes(5))) func oneByteNowAndThenDoesNotKeepARequestAlive() async throws {
        try await DoorStand.with(Self.impatient) { stand in
            let wire = try await stand.connect()
            let began = ContinuousClock.now
            for byte in Requests.produce("t", bytes: 10_000) where !wire.isClosed {
                try? await wire.send([byte])
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(wire.isClosed)
            #expect(began.duration(to: .now) < .seconds(10))
        }
    }
}
