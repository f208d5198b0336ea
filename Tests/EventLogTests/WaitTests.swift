// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Testing

@Suite(.timeLimit(.minutes(5)))
struct WaitTests {
    private static func ends(_ offset: Int64 = 0) -> [(TopicPartition, Int64)] {
        // The first one twice.
        [0, 0, 1, 2].map { (TopicPartition(topic: "t", partition: $0), offset) }
    }

    private static func with(_ body: (LocalLog) async throws -> Void) async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 3, settings: TopicSettings())
            try await body(log)
        }
    }

    @Test func anyOfThePartitionsEndsTheWait() async throws {
        try await Self.with { log in
            for number: Int32 in 0..<3 {
                let offset = try log.bounds(TopicPartition(topic: "t", partition: number)).end
                let ends = (Int32(0)..<3).map { other -> (TopicPartition, Int64) in
                    let id = TopicPartition(topic: "t", partition: other)
                    return (id, other == number ? offset : (try? log.bounds(id).end) ?? 0)
                }
                async let isThere = log.waitForRecords(behind: ends, atMost: .seconds(30), isolation: .committed)
                _ = try await log.append(batch(["a"]), to: TopicPartition(topic: "t", partition: number))
                #expect(try await isThere)
            }
        }
    }

    @Test func whatIsThereAlreadyIsNotWaitedFor() async throws {
        try await Self.with { log in
            _ = try await log.append(batch(["a"]), to: TopicPartition(topic: "t", partition: 2))
            #expect(try await log.waitForRecords(behind: Self.ends(), atMost: .seconds(30), isolation: .uncommitted))
        }
    }

    @Test func theWaitEndsInTimeAndLeavesNothingBehind() async throws {
        try await Self.with { log in
            for _ in 0..<3 {
                let wait: Duration = .milliseconds(20)
                #expect(try await !log.waitForRecords(behind: Self.ends(), atMost: wait, isolation: .committed))
            }
            // Nobody is left to be told of these.
            for number: Int32 in 0..<3 {
                _ = try await log.append(batch(["a"]), to: TopicPartition(topic: "t", partition: number))
            }
        }
    }

    @Test func cancellingAndDeletingEndTheWait() async throws {
        try await Self.with { log in
            let waiting = Task {
                try await log.waitForRecords(behind: Self.ends(), atMost: .seconds(30), isolation: .committed)
            }
            waiting.cancel()
            await #expect(throws: CancellationError.self) { try await waiting.value }
            let gone = Task {
                try await log.waitForRecords(behind: Self.ends(), atMost: .seconds(30), isolation: .committed)
            }
            try await log.deleteTopic("t")
            await #expect(throws: EventLogError.self) { try await gone.value }
            let unknown = await errorCode {
                _ = try await log.waitForRecords(behind: Self.ends(), atMost: .seconds(1), isolation: .committed)
            }
            #expect(unknown == .unknownTopic)
        }
    }
}
