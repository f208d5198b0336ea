// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaAPI
import KafkaCodec
import NIOCore
import Testing

@Suite struct AnswerMemoryTests {
    /// What one answer may have at most here, all of it on disk.
    private static let answerBytes = 48 << 20

    private static func fill(_ stand: DoorStand) async throws {
        try await stand.makeTopic("t", messageBytesMax: 4 << 20)
        for _ in 0..<48 { try await stand.expectProduced("t", bytes: 1 << 20) }
    }

    @Test(.timeLimit(.minutes(5))) func whoTakesATrickleIsClosed() async throws {
        try await DoorStand.with { configuration in
            configuration.stallSeconds = 2
            configuration.answerBytesPerSecondMin = 16 << 20
        } _: { stand in
            try await Self.fill(stand)
            let wire = try await stand.connect(reads: false)
            try await wire.send(Requests.fetch("t", wait: 0, bytesMax: Self.answerBytes), version: 11)
            // Some progress all the time: at most 64 KiB each 100 ms.
            for _ in 0..<50 where !wire.isClosed {
                wire.channel.read()
                try await Task.sleep(for: .milliseconds(100))
            }
            // Fails where the connection has ended, which is what is waited for.
            try? await wire.channel.setOption(.autoRead, value: true).get()
            while !wire.isClosed { try await Task.sleep(for: .milliseconds(20)) }
            #expect(wire.receivedBytes < Self.answerBytes / 2)
        }
    }

    @Test(.timeLimit(.minutes(5))) func aSteadyReaderIsServedToTheEnd() async throws {
        try await DoorStand.with { configuration in
            configuration.stallSeconds = 1
            configuration.answerBytesPerSecondMin = 64 << 10
        } _: { stand in
            try await Self.fill(stand)
            let wire = try await stand.connect(reads: false)
            try await wire.send(Requests.fetch("t", wait: 0, bytesMax: Self.answerBytes), version: 11)
            for _ in 0..<30 {
                wire.channel.read()
                try await Task.sleep(for: .milliseconds(100))
            }
            try await wire.channel.setOption(.autoRead, value: true).get()
            let answer = try await wire.answer(to: FetchRequest.self, version: 11)
            #expect(answer.responses[0].partitions[0].errorCode == .noError)
        }
    }

    /// Records that memory has go out from their file where there is no memory for answers.
    @Test(.timeLimit(.minutes(5))) func recordsComeFromTheFileWhereMemoryIsShort() async throws {
        try await DoorStand.with { configuration in
            configuration.answerMemoryBytes = 64 << 10
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 4 << 20)
            for _ in 0..<4 { try await stand.expectProduced("t", bytes: 256 << 10) }
            let wire = try await stand.connect()
            let answer = try await wire.ask(Requests.fetch("t", wait: 0, bytesMax: 8 << 20), version: 11)
            #expect(answer.responses[0].partitions[0].records?.byteCount ?? 0 > 1 << 20)
        }
    }

    /// Memory held by who does not read makes others wait, not fail, and becomes free when that one is closed.
    @Test(.timeLimit(.minutes(5))) func whoNeverReadsGivesItsMemoryBack() async throws {
        try await DoorStand.with { configuration in
            configuration.answerMemoryBytes = 64 << 10
            configuration.stallSeconds = 600
            configuration.contendedStallSeconds = 1
        } _: { stand in
            for number in 0..<400 { try await stand.makeTopic("topic-\(number)", messageBytesMax: 1 << 20) }
            let greedy = try await stand.connect(reads: false)
            let request = try MetadataRequest(topics: nil).frame(correlationID: 1, clientID: nil, version: 9).bytes
            // Some 20 KiB each: more than the system's buffers hold.
            for _ in 0..<2000 { greedy.start(request) }
            try await Task.sleep(for: .seconds(1))
            let honest = try await stand.connect()
            let answer = try await honest.ask(MetadataRequest(topics: nil), version: 9)
            #expect(answer.topics.count == 400)
        }
    }

    /// Who waits for more than there is holds nothing meanwhile, and gets what there is in the end.
    @Test(.timeLimit(.minutes(5))) func whoWaitsHoldsNoMemory() async throws {
        let batch = Requests.batch(bytes: 4000)
        try await DoorStand.with { configuration in
            // As much as one waiting client would hold.
            configuration.answerMemoryBytes = batch.count
        } _: { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            try await stand.expectProduced("t", bytes: 4000)
            let patient = try await stand.connect()
            var fetch = Requests.fetch("t", wait: 300_000)
            fetch.minBytes = Int32(2 * batch.count)
            try await patient.send(fetch, version: 11)
            // What is asked meanwhile would wait until there is memory for answers.
            for _ in 0..<20 {
                let other = try await stand.connect()
                #expect(try await other.ask(MetadataRequest(topics: nil), version: 9).topics.count == 1)
                try await other.close()
            }
            try await stand.expectProduced("t", bytes: 4000)
            // There is memory for one; the other waits for the next answer.
            let answer = try await patient.answer(to: FetchRequest.self, version: 11)
            #expect(answer.responses[0].partitions[0].records?.byteCount == batch.count)
            fetch.maxWaitMs = 100
            fetch.minBytes = 1 << 20
            let late = try await patient.ask(fetch, version: 11)
            #expect(late.responses[0].partitions[0].records?.byteCount == batch.count)
        }
    }

    @Test(.timeLimit(.minutes(5))) func whatIsAskedForTwiceIsAnsweredOnce() async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            try await stand.expectProduced("t", bytes: 1000)
            let wire = try await stand.connect()
            let twice = [MetadataRequest.MetadataRequestTopic(name: "t"), .init(name: "t")]
            #expect(try await wire.ask(MetadataRequest(topics: twice), version: 9).topics.count == 1)
            var fetch = Requests.fetch("t", wait: 0)
            fetch.topics[0].partitions.append(fetch.topics[0].partitions[0])
            let partitions = try await wire.ask(fetch, version: 11).responses[0].partitions
            #expect(partitions.map(\.errorCode) == [.noError, .invalidRequest])
            #expect(partitions[1].records?.byteCount == 0)
            let asked = ListOffsetsRequest.ListOffsetsTopic(
                name: "t",
                partitions: [Int64](repeating: 0, count: 3).map { .init(partitionIndex: 0, timestamp: $0) }
            )
            let found = try await wire.ask(ListOffsetsRequest(replicaID: -1, topics: [asked, asked]), version: 7)
            #expect(found.topics.flatMap(\.partitions).map(\.offset) == [0])
            let epoch = OffsetForLeaderEpochRequest.OffsetForLeaderTopic(
                topic: "t",
                partitions: [.init(partition: 0, leaderEpoch: 0), .init(partition: 0, leaderEpoch: 0)]
            )
            let ends = try await wire.ask(OffsetForLeaderEpochRequest(replicaID: -1, topics: [epoch]), version: 3)
            #expect(ends.topics.flatMap(\.partitions).map(\.endOffset) == [1])
            let coordinators = FindCoordinatorRequest(keyType: 0, coordinatorKeys: ["g", "g"])
            #expect(try await wire.ask(coordinators, version: 4).coordinators.map(\.key) == ["g"])
            #expect(try await wire.ask(DeleteGroupsRequest(groupsNames: ["g", "g"]), version: 2).results.count == 1)
            let deleted = DeleteTopicsRequest(topics: [.init(name: "none"), .init(name: "none")], timeoutMs: 1000)
            #expect(try await wire.ask(deleted, version: 6).responses.count == 1)
        }
    }

    /// Of two changes nobody can say which is meant.
    @Test(.timeLimit(.minutes(5))) func whatIsToBeChangedTwiceIsRefused() async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            let wire = try await stand.connect()
            let grown = CreatePartitionsRequest(
                topics: [.init(name: "t", count: 2), .init(name: "t", count: 3)],
                timeoutMs: 1000
            )
            #expect(try await wire.ask(grown, version: 3).results.map(\.errorCode) == [.invalidRequest])
            #expect(stand.log.topic("t")?.partitions == 1)
            let change = IncrementalAlterConfigsRequest.AlterConfigsResource(resourceType: 2, resourceName: "t")
            let altered = IncrementalAlterConfigsRequest(resources: [change, change])
            #expect(try await wire.ask(altered, version: 1).responses.map(\.errorCode) == [.invalidRequest])
        }
    }
}
