// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Foundation
import MartletCore
import Testing

/// What people see of tables.
@Suite struct TableCommandTests {
    static let commit = #"""
        {"number":12,"kind":"append","time":"2026-04-08T15:41:29.591955Z","schema_version":2,"rows_added":10,"rows_removed":0,
         "rows_rejected":1,"files_added":1,"files_removed":0,"bytes_added":2048,
         "ranges":[{"partition":0,"from":100,"to":108},{"partition":1,"from":7,"to":10}]}
        """#

    static let trips = #"""
        {"name":"trips","kind":"append","topic":"rides","format":"json","key":[],"partition_by":["day"],"rows":42,"files":3,"bytes":6144,
         "columns":[{"name":"_offset","type":"BIGINT","is_key":false,"is_system":true},
          {"name":"fare","type":"DOUBLE","is_key":false,"is_system":false},{"name":"city","type":"VARCHAR","is_key":false,"is_system":false}],
         "commits":12,"last_commit":\#(commit),"schema_version":2,"fresh_rows":12,"rejected_rows":3,"lag_records":5,"lag_seconds":0.25,
         "state":"failed","reason":"the disk is full; make room below /data","is_internal":false,"location":"/data/tables/append/trips",
         "settings":{"columns":[{"name":"Fare","type":"DOUBLE"}],"unknown_fields":"add","commit_seconds":10,"commit_bytes":67108864,
          "retention_milliseconds":2592000000,"retention_bytes":10737418240,"history_seconds":86400,"start":"earliest"},
         "guid":"g-1","description":"","tags":[],"created_at":"2026-04-08T15:00:00.000000Z","updated_at":"2026-04-08T15:41:29.591955Z"}
        """#

    static let files = #"""
        {"name":"files","kind":"keyed","key":["path"],"rows":1,"columns":[{"name":"path","type":"VARCHAR","is_key":true,"is_system":false}]}
        """#

    @Test func getSaysFirstHowATableFaresAndHowToSeeItsRejects() async throws {
        let run = try await CommandRun.run(["tables", "get", "trips"], answer: .json(Self.trips))
        // The age of the commit depends on the clock.
        let lines = run.output.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            line.hasPrefix("Last Commit:") ? line.prefix { $0 != "," } : line
        }
        #expect(
            lines.joined(separator: "\n") == """
                Name:           trips
                Kind:           append, one row a record of topic rides, read as json
                State:          failed
                Reason:         the disk is full; make room below /data
                Lag:            5 records, the oldest 250 ms old
                Last Commit:    12 at 2026-04-08T15:41:29Z
                Rows:           42, of which 12 wait for the next commit
                Rejected:       3 records; see why with:
                                martlet sql 'select _timestamp, reason, value from trips__rejected order by rejected_at desc limit 10'
                Files:          3, 6 KiB
                Commits:        every 10 s, or at 64 MiB
                Partitions:     day
                Retention:      30 d, 10 GiB
                History:        1 d
                Unknown Fields: add
                Schema Version: 2
                Started At:     earliest
                Location:       /data/tables/append/trips
                GUID:           g-1
                Created At:     2026-04-08T15:00:00Z
                Updated At:     2026-04-08T15:41:29Z

                Column   Type     Note
                _offset  BIGINT   system
                fare     DOUBLE   declared
                city     VARCHAR

                """
        )
    }

    @Test func getShowsAKeyedTableOfFunctions() async throws {
        let run = try await CommandRun.run(["tables", "get", "files"], answer: .json(Self.files))
        #expect(
            run.output == """
                Name: files
                Kind: keyed, written by functions
                Rows: 1

                Column  Type     Note
                path    VARCHAR  key

                """
        )
    }

    @Test func getShowsAKeyedTableOfATopic() async throws {
        let table = #"""
            {"name":"c","kind":"keyed","topic":"t","format":"json","key":["id"],"partition_by":[],"rows":2,"columns":[],"state":"running",
             "commits":0,"lag_records":0,"rejected_rows":0,"fresh_rows":0,"schema_version":1,
             "settings":{"columns":[],"unknown_fields":"ignore","delete_rule":{"field":"op","value":"gone"},"commit_seconds":60,
              "commit_bytes":65536,"history_seconds":86400,"start":"latest"}}
            """#
        let run = try await CommandRun.run(["tables", "get", "c"], answer: .json(table))
        for line in [
            "Kind:           keyed, one row a key of topic t, read as json", "Lag:            none",
            "Last Commit:    none yet", "Rows:           2", "Rejected:       none",
            "Key:            id",
            "Deletes When:   op = gone, or without a value", "Started At:     latest",
        ] {
            #expect(run.output.contains(line + "\n"), "\(line)\n\(run.output)")
        }
        #expect(!run.output.contains("Partitions") && !run.output.contains("History"))
    }

    @Test func listShowsLagRejectsAndState() async throws {
        let list = #"{"data":[\#(Self.files),\#(Self.trips)],"pagination":{"next_cursor":null,"previous_cursor":null}}"#
        let run = try await CommandRun.run(["tables", "list"], answer: .json(list))
        #expect(
            run.output == """
                Table Name  Kind    Topic  Rows  Rejected         Lag  State
                files       keyed   -         1         -           -  -
                trips       append  rides    42         3  5 (250 ms)  failed

                """
        )
    }

    @Test func historyShowsRowsFilesAndRecords() async throws {
        let retention = #"""
            {"number":11,"kind":"retention","time":"2026-04-08T15:41:28.000000Z","schema_version":2,"rows_added":0,"rows_removed":500,
             "rows_rejected":0,"files_added":0,"files_removed":2,"bytes_added":0,"ranges":[]}
            """#
        let list = #"{"data":[\#(Self.commit),\#(retention)],"pagination":{"next_cursor":"11","previous_cursor":null}}"#
        let run = try await CommandRun.run(["tables", "history", "trips", "-l", "2"], answer: .json(list))
        #expect(
            run.output == """
                Commit  Time                  Kind       Rows  Rejected  Files   Size  Schema  Records
                    12  2026-04-08T15:41:29Z  append      +10         1     +1  2 KiB       2  0: 100-107, 1: 7-9
                    11  2026-04-08T15:41:28Z  retention  -500         0     -2    0 B       2  -

                """
        )
        #expect(run.errors.contains("--cursor 11"))
    }

    @Test(
        arguments: [
            (
                "commit", #"{"commit":\#(commit)}"#,
                "Table committed: trips, commit 12 with 10 rows in 1 file (2 KiB)\n"
            ),
            ("commit", #"{"commit":null}"#, "Nothing waited: every row of trips is committed\n"),
            (
                "compact",
                #"{"files_before":412,"files_after":7,"bytes_before":4096,"bytes_after":2048,"rows":1,"commit":\#(commit)}"#,
                "Table compacted: trips, from 412 files (4 KiB) to 7 files (2 KiB); 1 row written anew\n"
            ),
            (
                "compact", #"{"files_before":1,"files_after":1,"bytes_before":5,"bytes_after":5,"rows":0}"#,
                "Nothing to compact: trips has 1 file\n"
            ),
            (
                "replay", #"{"replayed":12,"still_rejected":0}"#,
                "Table replayed: trips, 12 rejects became rows, none is left\n"
            ),
            (
                "replay", #"{"replayed":0,"still_rejected":1}"#,
                "Table replayed: trips, 0 rejects became rows, 1 record still does not fit\nSee why:  "
                    + "martlet sql 'select _timestamp, reason, value from trips__rejected order by rejected_at desc limit 10'\n"
            ),
            ("replay", #"{"replayed":0,"still_rejected":0}"#, "Nothing to replay: trips has no rejects\n"),
            ("repair", #"{"data":[]}"#, "Nothing is wrong with trips\n"),
            (
                "repair",
                #"""
                {"data":[{"kind":"missing_file","path":"rows/day=2026-04-08/1.parquet","problem":"it is not there","action":"take it off the list",
                "rows_lost":10,"is_done":true}]}
                """#,
                """
                Finding       Where                          Problem          Action                Rows lost  Done
                missing file  rows/day=2026-04-08/1.parquet  it is not there  take it off the list         10  yes

                """
            ),
        ] as [(String, String, String)]
    )
    func saysWhatWasDone(verb: String, answer: String, text: String) async throws {
        let agreed = verb == "repair" ? ["--force"] : []
        let run = try await CommandRun.run(["tables", verb, "trips"] + agreed, answer: .json(answer))
        #expect(run.status == .success)
        #expect(run.output == text)
        #expect(run.errors.isEmpty)
        let json = try await CommandRun.run(["tables", verb, "trips", "-o", "json"] + agreed, answer: .json(answer))
        #expect(try JSONValue(parsing: json.output) == JSONText.ordered(JSONValue(parsing: answer)))
    }

    @Test func aRepairThatCouldNotDoEverythingFails() async throws {
        let answer = #"""
            {"data":[{"kind":"missing_file","path":"rows/1.parquet","problem":"not seen","action":"link it again","rows_lost":0,
            "is_done":false,"failure":"/data/rows/1.parquet cannot be made: No space left on device"},
            {"kind":"orphan_file","path":"files/rows/2.parquet","problem":"9 bytes","action":"nothing yet","rows_lost":0,"is_done":false}]}
            """#
        for format in [[], ["-o", "json"]] {
            let run = try await CommandRun.run(
                ["tables", "repair", "trips", "--force"] + format,
                answer: .json(answer)
            )
            #expect(run.status == .failure)
            #expect(run.errors.contains("1 finding of trips could not be put right"))
            #expect(run.errors.contains("No space left"))
            #expect(run.output.contains("rows/1.parquet"))
        }
    }

    @Test func createdShowsTheTableAndTheNextStep() async throws {
        let run = try await CommandRun.run(
            ["tables", "create", "trips", "--topic", "rides"],
            answer: .json(Self.trips.replacing(#""name":"trips""#, with: #""name":"my-trips""#), status: 201)
        )
        #expect(run.output.hasPrefix("Table created: my-trips\nName:           my-trips\n"))
        #expect(run.output.hasSuffix("\nLook at its rows:  martlet sql 'from \"my-trips\" limit 10'\n"))
    }

    @Test func createSaysWhatIsMissingBeforeItAsks() async throws {
        try await CannedServer.with({ _ in .json("{}") }) { server in
            let run = try await CommandRun.run(["tables", "create", "trips"], server: server.address)
            #expect(run.status != .success && run.errors.contains("topic"))
            let bad = try await CommandRun.run(
                ["tables", "create", "trips", "--topic", "t", "--column", "fare"],
                server: server.address
            )
            #expect(bad.status != .success && bad.errors.contains("NAME=VALUE"))
            #expect(server.requests.isEmpty)
        }
    }

    @Test func flagsWinOverAFileUnderEverySpelling() async throws {
        try await withFolder { folder in
            let text = "name: trips\ntopic: a\ncommit_every: 1m\nretention_milliseconds: 60000\ncolumns: {x: INT}\n"
            let path = try text.file("trips.yaml", in: folder)
            try await CannedServer.with({ _ in .json(Self.trips) }) { server in
                let flags = ["--topic", "b", "--commit-every", "5s", "--retention", "30d", "--column", "y=DATE"]
                let run = try await CommandRun.run(["tables", "create", "-f", path] + flags, server: server.address)
                #expect(run.status == .success, "\(run.errors)")
                let expected = #"""
                    {"name":"trips","topic":"b","columns":{"x":"INT","y":"DATE"},"commit_seconds":"5s","retention":"30d"}
                    """#
                #expect(server.requests.last?.json == (try JSONValue(parsing: expected)))
            }
        }
    }

    @Test func everyCommandHasExamples() async throws {
        for verb in [
            "create", "list", "get", "update", "delete", "export", "history", "commit", "compact", "repair", "replay",
        ] {
            let run = try await CommandRun.run(["tables", verb, "--help"])
            #expect(run.output.contains("Examples:\n"), "\(verb)")
            #expect(run.output.contains("martlet tables \(verb)"), "\(verb)")
        }
    }
}
