// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Pages of records; where the engine goes away meanwhile it is asked again for a minute.
final class RecordReader {
    struct Page {
        var records: [JSONValue]
        var next: String
        var isAtEnd: Bool
    }

    private static let waitMilliseconds = 1000

    private let client: EngineClient
    private let topic: String
    private let partitions: [Int]
    private var connection: Reconnection

    init(_ client: EngineClient, topic: String, partitions: [Int]) {
        self.client = client
        self.topic = topic
        self.partitions = partitions
        connection = Reconnection(client)
    }

    func page(from place: [(String, String?)], limit: Int, waits: Bool) async throws -> Page {
        let wait = min(Self.waitMilliseconds, Int(client.settings.timeout * 500))
        let request = APIRequest(
            "GET",
            ["topics", topic, "records"],
            query: place + partitions.map { ("partition", "\($0)") }
                + [("limit", "\(limit)"), ("wait", waits ? "\(wait)" : nil)]
        )
        return Self.page(try await connection.run { try await client.exchange(request, isOrdered: false) })
    }

    private static func page(_ answer: JSONValue) -> Page {
        Page(
            records: EngineClient.items(answer),
            next: answer["pagination"]?["next_cursor"]?.stringValue ?? "",
            isAtEnd: answer["at_end"]?.boolValue ?? true
        )
    }
}
