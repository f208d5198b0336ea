// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import MartletCore
import Testing

/// What people see of consumer groups.
@Suite struct GroupCommandTests {
    static let group = #"""
        {"name":"reports","state":"Stable","protocol_type":"consumer","member_count":1,"topics":["frames"],"lag_records":6,"lag_seconds":90.0,
         "is_internal":false,"generation":7,"protocol_name":"range",
         "members":[{"member_id":"c-1","client_id":"c","client_host":"/127.0.0.1","partition_count":1}],
         "partitions":[{"topic":"frames","partition":0,"committed_offset":4,"start_offset":0,"end_offset":10,"lag_records":6,"lag_seconds":90.0,
          "committed_at":"2026-04-08T15:41:29.591955Z","member_id":"c-1"}]}
        """#

    @Test func listShowsLagInRecordsAndTime() async throws {
        let run = try await CommandRun.run(
            ["groups", "list"],
            answer: .json(#"{"data":[\#(Self.group)],"pagination":{"next_cursor":null,"previous_cursor":null}}"#)
        )
        #expect(run.status == .success, "\(run.errors)")
        #expect(run.output.contains("Group"))
        let row = run.output.split(separator: "\n").last.map { $0.split(separator: " ").map(String.init) } ?? []
        #expect(row.prefix(4) == ["reports", "Stable", "1", "6"])
        #expect(row.last == "frames")
    }

    @Test func getShowsMembersAndPartitions() async throws {
        let run = try await CommandRun.run(["groups", "get", "reports"], answer: .json(Self.group))
        #expect(run.status == .success, "\(run.errors)")
        for text in ["Name:", "6 records, the oldest", "Generation:", "/127.0.0.1", "2026-04-08T15:41:29Z", "c-1"] {
            #expect(run.output.contains(text), "\(text) in \(run.output)")
        }
    }

    @Test(arguments: [
        (["--to", "earliest"], #"{"to":"earliest"}"#),
        (["--time", "2h", "--topic", "a", "--topic", "b"], #"{"time":"2h","topics":["a","b"]}"#),
        (["--by", "-100", "--partition", "0", "--plan"], #"{"by":-100,"partitions":[0]}"#),
        (["--offset", "5"], #"{"offset":5}"#),
    ])
    func resetSendsWhatWasSaid(flags: [String], body: String) async throws {
        let answer =
            #"{"data":[{"topic":"a","partition":0,"new_offset":3}],"pagination":{"next_cursor":null,"previous_cursor":null}}"#
        try await CannedServer.with({ _ in .json(answer) }) { server in
            let run = try await CommandRun.run(["groups", "reset", "reports"] + flags, server: server.address)
            #expect(run.status == .success, "\(run.errors)")
            #expect(run.output.hasPrefix(flags.contains("--plan") ? "Would move 1 offset" : "Moved 1 offset"))
            let request = try #require(server.requests.first)
            #expect(try JSONValue(parsing: request.body) == JSONValue(parsing: body))
            #expect(request.target.hasPrefix("/api/v1/groups/reports/reset"))
            #expect(request.target.hasSuffix("?dry_run=true") == flags.contains("--plan"))
        }
    }

    @Test func resetWantsOneTarget() async throws {
        #expect(try await CommandRun.run(["groups", "reset", "reports"], answer: .json("{}")).status != .success)
        let two = try await CommandRun.run(
            ["groups", "reset", "reports", "--to", "latest", "--by", "1"],
            answer: .json("{}")
        )
        #expect(two.status != .success)
    }

    @Test func everyCommandHasExamples() async throws {
        for command in ["list", "get", "reset", "delete"] {
            let run = try await CommandRun.run(["groups", command, "--help"], answer: .json("{}"))
            #expect(run.output.contains("martlet groups \(command)"))
        }
    }
}
