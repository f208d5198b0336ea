// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import MartletCore
import NIOHTTP1
import Synchronization
import Testing

/// One topic `t` with two partitions in memory.
final class TestRecords: RecordServices {
    private let stored = Mutex<[[TopicRecord]]>([[], []])

    private func check(_ topic: String) throws {
        guard topic == "t" else { throw ServiceError.notFound(.topics, topic) }
    }

    func append(_ topic: String, _ records: [NewRecord]) async throws -> [RecordPlace] {
        try check(topic)
        return stored.withLock { stored in
            records.map { record in
                let partition = Int(record.partition ?? 0)
                let offset = Int64(stored[partition].count)
                stored[partition].append(
                    TopicRecord(
                        partition: Int32(partition),
                        offset: offset,
                        timestamp: record.timestamp ?? 5,
                        key: record.key,
                        value: record.value,
                        headers: record.headers
                    )
                )
                return RecordPlace(partition: Int32(partition), offset: offset)
            }
        }
    }

    func start(_ topic: String, partitions: [Int32]?, at start: RecordStart) async throws -> TopicPosition {
        try check(topic)
        let ends = stored.withLock { $0.map { Int64($0.count) } }
        var offsets: [Int32: Int64] = [:]
        for partition in partitions ?? [0, 1] {
            let end = ends[Int(partition)]
            switch start {
            case .earliest, .timestamp: offsets[partition] = 0
            case .latest: offsets[partition] = end
            case .offset(let offset): offsets[partition] = offset
            case .last(let count): offsets[partition] = max(0, end - count)
            }
        }
        return TopicPosition(offsets)
    }

    func completed(_ position: TopicPosition, _ topic: String) async throws -> TopicPosition {
        var all = position
        for partition: Int32 in 0..<2 where all.offsets[partition] == nil { all.offsets[partition] = 0 }
        return all
    }

    func read(_ topic: String, from position: TopicPosition, limit: Int, bytesMax: Int) async throws -> RecordPage {
        try check(topic)
        let stored = stored.withLock { $0 }
        var page = RecordPage(records: [], next: position, ends: [:])
        for (partition, offset) in position.offsets.sorted(by: { $0.key < $1.key }) {
            let found = stored[Int(partition)].dropFirst(Int(offset)).prefix(limit - page.records.count)
            page.records += found
            page.next.offsets[partition] = offset + Int64(found.count)
            page.ends[partition] = Int64(stored[Int(partition)].count)
        }
        return page
    }

    func wait(_ topic: String, behind position: TopicPosition, atMost duration: Duration) async throws -> Bool { false }
}

@Suite(.timeLimit(.minutes(5)))
struct RecordRouteTests {
    @Test func recordsAreWrittenAndReadPageByPage() async throws {
        try await Harness.run { http in
            let records: JSONValue = [
                "records": [
                    ["key": "a", "value": "1", "headers": [["name": "h", "value_base64": "/w=="]]],
                    ["key_base64": "/w==", "partition": 1], ["value": .null, "timestamp": 7],
                ]
            ]
            let written = try await http.send(.POST, "/api/v1/topics/t/records", records.text)
            #expect(written.status == 201)
            #expect(written.json["count"] == 3)
            #expect(written.json["data"]?.arrayValue?[1] == ["partition": 1, "offset": 0])
            let page = try await http.send(.GET, "/api/v1/topics/t/records?limit=2")
            #expect(page.json["data"]?.arrayValue?.count == 2)
            #expect(page.json["at_end"] == false)
            #expect(page.json["pagination"]?["next_cursor"] == "0:2,1:0")
            let rest = try await http.send(.GET, "/api/v1/topics/t/records?cursor=0:2,1:0")
            #expect(rest.json["data"]?.arrayValue?.first?["key_base64"] == "/w==")
            #expect(rest.json["at_end"] == true)
            let last = try await http.send(.GET, "/api/v1/topics/t/records?offset=-1&partition=0")
            #expect(last.json["data"]?.arrayValue?.first?["timestamp"] == 7)
        }
    }

    @Test func positionsAreWrittenAsTheyAreRead() {
        let position = TopicPosition([3: 17, 0: 4])
        #expect(position.text == "0:4,3:17")
        #expect(TopicPosition(position.text) == position)
        for text in ["", "0", "0:", ":1", "0:1,", "0:1,0:2", "-1:2", "0:-2", "a:1", "0:1:2"] {
            #expect(TopicPosition(text) == nil, "'\(text)'")
        }
    }
}
