// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Foundation
import MartletCore
import NIOHTTP1
import Synchronization
import Testing

/// One group without members that remembers what it was asked.
final class TestGroups: GroupServices {
    private let asked = Mutex<[GroupReset]>([])

    var resets: [GroupReset] { asked.withLock { $0 } }

    private static let summary = GroupSummary(
        name: "a/b",
        state: "Empty",
        protocolType: "consumer",
        memberCount: 0,
        topics: ["t"],
        lagRecords: 6,
        lagSeconds: 1.5,
        isInternal: false
    )

    func list() async throws -> [GroupSummary] { [Self.summary] }

    func get(_ name: String) async throws -> GroupStatus {
        guard name == "a/b" else { throw ServiceError(.notFound, "no consumer group named '\(name)'") }
        var partition = GroupPartitionStatus(topic: "t", partition: 0, startOffset: 0, endOffset: 10)
        partition.committedOffset = 4
        partition.lagRecords = 6
        return GroupStatus(
            summary: Self.summary,
            generation: 7,
            protocolName: "",
            members: [],
            partitions: [partition]
        )
    }

    func reset(_ name: String, _ reset: GroupReset) async throws -> [GroupResetOutcome] {
        _ = try await get(name)
        asked.withLock { $0.append(reset) }
        return [GroupResetOutcome(topic: "t", partition: 0, oldOffset: 4, newOffset: 0)]
    }

    func delete(_ name: String) async throws {
        if name.hasPrefix("__") { throw ServiceError(.forbidden, "the engine's own") }
        _ = try await get(name)
    }
}

@Suite(.timeLimit(.minutes(5)))
struct GroupRouteTests {
    @Test func groupsAreListedAndShown() async throws {
        try await Harness.run { http in
            let list = try await http.send(.GET, "/api/v1/groups")
            #expect(list.json["data"]?.arrayValue?.first?["lag_records"] == 6)
            #expect(try await http.send(.GET, "/api/v1/groups?name=z").json["data"] == .array([]))
            let group = try await http.send(.GET, "/api/v1/groups/a%2Fb")
            #expect(group.json["name"] == "a/b")
            #expect(group.json["lag_seconds"] == .double(1.5))
            #expect(group.json["generation"] == 7)
            #expect(group.json["partitions"]?.arrayValue?.first?["committed_offset"] == 4)
            #expect(try await http.send(.GET, "/api/v1/groups/none").status == 404)
            #expect(try await http.send(.DELETE, "/api/v1/groups/a%2Fb").status == 204)
            #expect(try await http.send(.DELETE, "/api/v1/groups/__x").status == 403)
        }
    }

    @Test func everyKindOfResetIsUnderstood() async throws {
        let groups = TestGroups()
        try await Harness.run(replacing: { $0.groups = groups }) { http in
            let path = "/api/v1/groups/a%2Fb/reset"
            let bodies = [
                #"{"to":"earliest"}"#, #"{"to":"latest","topics":["t"]}"#, #"{"offset":5,"partitions":[0,2]}"#,
                #"{"by":-3}"#, #"{"time":"2026-04-08T15:41:29Z"}"#,
            ]
            for body in bodies { #expect(try await http.send(.POST, path, body).status == 200) }
            let dry = try await http.send(.POST, path + "?dry_run=true", #"{"to":"earliest"}"#)
            #expect(dry.json["data"]?.arrayValue?.first?["new_offset"] == 0)
        }
        #expect(
            groups.resets == [
                GroupReset(.earliest), GroupReset(.latest, topics: ["t"]), GroupReset(.offset(5), partitions: [0, 2]),
                GroupReset(.by(-3)), GroupReset(.time(milliseconds: 1_775_662_889_000)),
                GroupReset(.earliest, isDryRun: true),
            ]
        )
    }

    @Test(arguments: [
        "{}", #"{"to":"middle"}"#, #"{"to":"latest","by":1}"#, #"{"time":"soon"}"#, #"{"by":"1"}"#,
        #"{"to":"latest","partitions":[-1]}"#, #"{"to":"latest","colour":"red"}"#,
    ])
    func unclearResetsAreRefused(body: String) async throws {
        try await Harness.run { http in
            let answer = try await http.send(.POST, "/api/v1/groups/a%2Fb/reset", body)
            #expect(answer.status == 422)
        }
    }
}
