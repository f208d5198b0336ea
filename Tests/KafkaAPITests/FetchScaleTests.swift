// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.serialized) struct FetchScaleTests {
    private static let partitions: Int32 = 1000

    /// One connection waits for a thousand partitions, and a thousand connections wait for one.
    @Test(.timeLimit(.minutes(5))) func manyPartitionsAndManyConnectionsWaitCheaply() async throws {
        try await DoorStand.with { stand in
            var settings = TopicSettings()
            settings.durability = .powerFailureLosesLastSecond
            try await stand.log.createTopic("many", partitions: Self.partitions, settings: settings)
            var fetch = Requests.fetch("many", wait: 60_000)
            fetch.topics[0].partitions = (0..<Self.partitions).map {
                FetchRequest.FetchPartition(partition: $0, partitionMaxBytes: 1 << 20)
            }
            let clock = ContinuousClock()
            let wide = try await stand.connect()
            var slowest = Duration.zero
            var offset: Int64 = 0
            for round in 0..<20 {
                let partition = Int32(round * 49 % 1000)
                fetch.topics[0].partitions[Int(partition)].fetchOffset = 0
                try await wide.send(fetch, version: 12)
                // Registered by then, mostly; where not, the answer comes at once, which is right too.
                try await Task.sleep(for: .milliseconds(30))
                let began = clock.now
                _ = try await stand.log.append(
                    Requests.batch(),
                    to: TopicPartition(topic: "many", partition: partition)
                )
                let answer = try await wide.answer(to: FetchRequest.self, version: 12)
                slowest = max(slowest, began.duration(to: clock.now))
                let full = answer.responses[0].partitions.filter { ($0.records?.byteCount ?? 0) > 0 }
                #expect(full.map(\.partitionIndex) == [partition])
                fetch.topics[0].partitions[Int(partition)].fetchOffset = 1
                offset += 1
            }
            print("1 fetch of 1,000 partitions, append to answer: at most \(slowest)")

            var wires: [Wire] = []
            for _ in 0..<1000 {
                let wire = try await stand.connect()
                var one = Requests.fetch("many", wait: 60_000)
                one.topics[0].partitions[0].partition = 7
                try await wire.send(one, version: 12)
                wires.append(wire)
            }
            try await Task.sleep(for: .milliseconds(200))
            let began = clock.now
            _ = try await stand.log.append(Requests.batch(), to: TopicPartition(topic: "many", partition: 7))
            for wire in wires {
                let answer = try await wire.answer(to: FetchRequest.self, version: 12)
                #expect(answer.responses[0].partitions[0].records?.byteCount ?? 0 > 0)
            }
            let all = began.duration(to: clock.now)
            print("1,000 fetches of 1 partition, append to the last answer: \(all)")
            #expect(slowest < .seconds(1))
            #expect(all < .seconds(5))
        }
    }
}
