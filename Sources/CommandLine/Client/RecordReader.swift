// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Pages of records; where the engine goes away meanwhile it is asked again for a minute.
final class RecordReader {
    struct Page {
        var records: [JSONValue]
        var next: String
        /// The next offset of each partition.
        var positions: [Int64: Int64]
        var isAtEnd: Bool
    }

    private static let waitMilliseconds = 1000

    private let client: EngineClient
    private let topic: String
    private let partitions: [Int]
    private let clock = ContinuousClock()
    private var hasAnswered = false

    init(_ client: EngineClient, topic: String, partitions: [Int]) {
        self.client = client
        self.topic = topic
        self.partitions = partitions
    }

    func page(from place: [(String, String?)], limit: Int, waits: Bool) async throws -> Page {
        let wait = min(Self.waitMilliseconds, Int(client.settings.timeout * 500))
        let request = APIRequest(
            "GET",
            ["topics", topic, "records"],
            query: place + partitions.map { ("partition", "\($0)") }
                + [("limit", "\(limit)"), ("wait", waits ? "\(wait)" : nil)]
        )
        var firstFailure: ContinuousClock.Instant?
        while true {
            do {
                let answer = try await client.exchange(request, isOrdered: false)
                if firstFailure != nil { try client.note("connected again") }
                hasAnswered = true
                return Self.page(answer)
            } catch let failure as CommandFailure where failure.status == .unreachable && hasAnswered && waits {
                if firstFailure == nil { try client.note("\(failure.message); trying again") }
                let start = firstFailure ?? clock.now
                guard clock.now - start < .seconds(60), !InterruptFlag.isRaised else { throw failure }
                firstFailure = start
                try await Task.sleep(for: .seconds(1))
            }
        }
    }

    private static func page(_ answer: JSONValue) -> Page {
        var positions: [Int64: Int64] = [:]
        for partition in answer["partitions"]?.arrayValue ?? [] {
            guard let number = partition["partition"]?.intValue else { continue }
            positions[number] = partition["next_offset"]?.intValue
        }
        return Page(
            records: EngineClient.items(answer),
            next: answer["pagination"]?["next_cursor"]?.stringValue ?? "",
            positions: positions,
            isAtEnd: answer["at_end"]?.boolValue ?? true
        )
    }
}
