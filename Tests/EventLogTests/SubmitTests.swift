// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Synchronization
import Testing

/// Collects the answers to batches submitted without waiting.
final class Answers: Sendable {
    private struct State {
        var results: [Int: Result<AppendResult, EventLogError>] = [:]
        var order: [Int] = []
        var wanted = 0
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    func completion(_ number: Int) -> AppendCompletion {
        { result in
            let waiter = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
                #expect(state.results[number] == nil, "\(number) is answered twice")
                state.results[number] = result
                state.order.append(number)
                guard state.order.count >= state.wanted else { return nil }
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume()
        }
    }

    /// Waits until `count` answers are there and returns them in the order they came.
    func all(_ count: Int) async -> [(number: Int, result: Result<AppendResult, EventLogError>)] {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if state.order.count >= count { return true }
                state.wanted = count
                state.waiter = continuation
                return false
            }
            if isDone { continuation.resume() }
        }
        return state.withLock { state in
            state.order.compactMap { number in state.results[number].map { (number, $0) } }
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct SubmitTests {
    @Test func keepsTheOrderOfCalls() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 4096)
            try await log.createTopic("t", partitions: 3, settings: settings)
            let answers = Answers()
            for number in 0..<900 {
                let id = TopicPartition(topic: "t", partition: Int32(number % 3))
                log.submit(batch(["\(number)"]), to: id, completion: answers.completion(number))
            }
            for (number, result) in await answers.all(900) {
                #expect(try result.get().baseOffset == Int64(number / 3))
            }
            for partition in 0..<3 {
                let id = TopicPartition(topic: "t", partition: Int32(partition))
                let texts = try await readAll(log, id).map(\.text)
                #expect(texts == (0..<300).map { "\($0 * 3 + partition)" })
            }
        }
    }

    @Test func answersAtOnceWhatItRefuses() async throws {
        let directory = try TemporaryDirectory()
        let log = try await LocalLog.open(directory: directory.path, logger: quietLogger)
        try await log.createTopic("t", partitions: 1, settings: TopicSettings(messageBytesMax: 300))
        func refusal(_ bytes: [UInt8], _ id: TopicPartition = p0) -> EventLogError.Code? {
            let code = Mutex<EventLogError.Code?>(nil)
            log.submit(bytes, to: id) { result in
                if case .failure(let error) = result { code.withLock { $0 = error.code } }
            }
            return code.withLock { $0 }
        }
        var damaged = batch(["a"])
        damaged[damaged.count - 1] ^= 1
        #expect(refusal(damaged) == .corruptBatch)
        #expect(refusal([]) == .invalidRecord)
        #expect(refusal(batch([String(repeating: "x", count: 400)])) == .messageTooLarge)
        #expect(refusal(batch(["a"]), TopicPartition(topic: "t", partition: 1)) == .unknownPartition)
        #expect(refusal(batch(["a"]), TopicPartition(topic: "u", partition: 0)) == .unknownTopic)
        await log.close()
        #expect(refusal(batch(["a"])) == .closed)
    }
}
