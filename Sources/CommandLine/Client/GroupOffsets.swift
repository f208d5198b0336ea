// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Where a consumer group is in one topic.
final class GroupOffsets {
    private let client: EngineClient
    private let group: String
    private let topic: String
    private var committed: [Int64: Int64] = [:]

    init(_ group: String, _ client: EngineClient, topic id: String) async throws {
        self.client = client
        self.group = group
        topic = try await client.get(["topics", id])["name"]?.stringValue ?? id
        do {
            let status = try await client.get(["groups", group])
            if let state = status["state"]?.stringValue, state != "Empty", state != "Dead" {
                throw CommandFailure(
                    .refused,
                    "consumer group '\(group)' has members that read for it",
                    fix: "stop them first, or read without --group"
                )
            }
            for partition in status["partitions"]?.arrayValue ?? [] where partition["topic"]?.stringValue == topic {
                guard let number = partition["partition"]?.intValue else { continue }
                committed[number] = partition["committed_offset"]?.intValue
            }
        } catch let failure as CommandFailure where failure.status == .notFound {
            // Made by its first commit.
        }
    }

    /// Where to begin; nil where the group has read nothing of the topic yet.
    func cursor(_ partitions: [Int]) -> String? {
        let known = committed.filter { partitions.isEmpty || partitions.contains(Int($0.key)) }
        return known.isEmpty
            ? nil : known.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }.joined(separator: ",")
    }

    func commit(_ positions: [Int64: Int64]) async throws {
        for (partition, offset) in positions.sorted(by: { $0.key < $1.key }) where committed[partition] != offset {
            let body: JSONValue = [
                "offset": .int(offset), "topics": [.string(topic)], "partitions": [.int(partition)],
            ]
            _ = try await client.exchange(APIRequest("POST", ["groups", group, "reset"], body: .json(body)))
            committed[partition] = offset
        }
    }
}
