// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Foundation
import MartletCore
import Testing

/// What stands on standard output, to the letter.
@Suite struct OutputTests {
    static let trigger = #"""
        {"updated_at":"2026-04-08T15:41:29.591955Z","vrn":"vast:dataengine:triggers:hourly","name":"hourly","id":7,
         "config":{"cron_schedule":"0 0 * ? * * *","cron_expression":"0 * * * *","time_zone":"UTC","missed_fires":"once",
         "name_filters":{"prefixes":[],"suffixes":[]},"tag_filters":{"prefixes":[],"suffixes":[]}},
         "tags":["a","b"],"type":"Schedule","events":[],"topic_name":"events","custom_extensions":{"site":"x"},"status":"Ready",
         "guid":"0b0e9d5e-1111-4222-8333-444455556666","owner":{"id":"o","id_type":"vid","name":"local"},"description":"on the hour",
         "created_at":"2026-04-08T15:41:29.000000Z"}
        """#

    @Test func triggerForPeopleHasItsNextFireTimes() async throws {
        let trigger = Self.trigger
        try await CannedServer.with({ request in
            request.target.contains("fire-times")
                ? .json(#"{"data":["2026-04-08T16:00:00.000000Z","2026-04-08T17:00:00.000000Z"]}"#) : .json(trigger)
        }) { server in
            let run = try await CommandRun.run(["triggers", "get", "hourly"], server: server.address)
            #expect(
                run.output == """
                    Name:              hourly
                    Status:            Ready
                    Type:              Schedule
                    Cron Schedule:     0 * * * *
                    Cron Normalised:   0 0 * ? * * *
                    Time Zone:         UTC
                    Missed Fires:      once
                    Topic:             events
                    Custom Extensions: site=x
                    Description:       on the hour
                    Tags:              a, b
                    GUID:              0b0e9d5e-1111-4222-8333-444455556666
                    Owner:             local
                    Created At:        2026-04-08T15:41:29Z
                    Updated At:        2026-04-08T15:41:29Z
                    VRN:               vast:dataengine:triggers:hourly

                    Next fire times (UTC)
                      2026-04-08T16:00:00Z
                      2026-04-08T17:00:00Z

                    """
            )
            #expect(server.requests.last?.target == "/api/v1/triggers/hourly/fire-times?count=10")
        }
    }

    @Test func jsonHasAStableOrderWhateverTheServerSends() async throws {
        let trigger = Self.trigger
        try await CannedServer.with({ request in
            request.target.contains("fire-times") ? .json(#"{"data":["2026-04-08T16:00:00.000000Z"]}"#) : .json(trigger)
        }) { server in
            let run = try await CommandRun.run(["triggers", "get", "hourly", "-o", "json"], server: server.address)
            let object = try #require(try JSONValue(parsing: run.output).objectValue)
            #expect(
                object.keys == [
                    "id", "guid", "name", "type", "status", "description", "config", "custom_extensions", "events",
                    "topic_name",
                    "tags", "owner", "created_at", "updated_at", "vrn", "next_fire_times",
                ]
            )
            #expect(run.output.hasPrefix("{\n  \"id\": 7,\n  \"guid\": \"0b0e9d5e"))
            #expect(run.output.contains("  \"tags\": [\n    \"a\",\n    \"b\"\n  ],\n"))
            #expect(run.output.contains("  \"events\": [],\n"))
        }
    }

    @Test func yamlQuotesWhatWouldBeReadAsSomethingElse() async throws {
        let answer = #"""
            {"name":"on","id":7,"description":"two\nlines\n","version":"1.0","empty":"","flag":true,"none":null,"list":[1,2.5],
             "map":{},"text":"plain: no","unicode":"Grüße 日本"}
            """#
        let run = try await CommandRun.run(["views", "get", "x", "-o", "yaml"], answer: .json(answer))
        #expect(
            run.output == """
                id: 7
                name: 'on'
                description: |
                  two
                  lines
                empty: ''
                flag: true
                list:
                - 1
                - 2.5
                map: {}
                none: null
                text: 'plain: no'
                unicode: Grüße 日本
                version: '1.0'

                """
        )
    }

    static let list = #"""
        {"data":[
         {"name":"alpha","description":"first","last_revision_number":3,"guid":"g-1","updated_at":"2026-04-08T15:41:29.591955Z"},
         {"name":"日本語の関数","description":"a description that is much too long for a narrow terminal","last_revision_number":12,
          "guid":"g-2","updated_at":"2026-04-08T15:41:29.591955Z"}],
         "pagination":{"next_cursor":null,"previous_cursor":null}}
        """#

    @Test func listIsAPlainTableWhenPiped() async throws {
        let run = try await CommandRun.run(["functions", "list"], answer: .json(Self.list))
        #expect(
            run.output == """
                Function Name  Description                                                Revision  GUID  Updated at
                alpha          first                                                             3  g-1   2026-04-08T15:41:29Z
                日本語の関数   a description that is much too long for a narrow terminal        12  g-2   2026-04-08T15:41:29Z

                """
        )
    }

    @Test func listFitsATerminalAndIsBoldThere() async throws {
        let run = try await CommandRun.run(["functions", "list"], answer: .json(Self.list), columns: 80)
        let lines = run.output.split(separator: "\n").map(String.init)
        #expect(lines[0].hasPrefix("\u{1B}[1mFunction Name  Description"))
        #expect(lines[1...].allSatisfy { DisplayWidth.of($0) <= 80 })
        #expect(lines[2].contains("a description that is much…  "), "\(lines[2])")
        #expect(lines[2].hasSuffix("g-2   2026-04-08T15:41:29Z"))
    }

    @Test(arguments: [["NO_COLOR": "1"], ["TERM": "dumb"]])
    func noColoursWhereTheyAreNotWanted(_ environment: [String: String]) async throws {
        try await CannedServer.with({ _ in .json(Self.list) }) { server in
            let run = try await CommandRun.run(
                ["functions", "list"],
                server: server.address,
                environment: environment,
                columns: 80
            )
            #expect(!run.output.contains("\u{1B}"))
            #expect(run.output.contains("…"))
        }
    }

    @Test func emptyListSaysSoOnStandardError() async throws {
        let run = try await CommandRun.run(["secrets", "list"], answer: .json(#"{"data":[]}"#))
        #expect(run.output.isEmpty)
        #expect(run.errors == "note: no secrets\n")
        let json = try await CommandRun.run(["secrets", "list", "-o", "json"], answer: .json(#"{"data":[]}"#))
        #expect(try JSONValue(parsing: json.output)["data"] == [])
        #expect(json.errors.isEmpty)
    }

    @Test func createdAndDeletedAreConfirmed() async throws {
        let function = #"{"name":"x","guid":"g","last_revision_number":1,"vrn":"vast:dataengine:functions:x"}"#
        let made = try await CommandRun.run(["functions", "create", "-n", "x"], answer: .json(function, status: 201))
        #expect(
            made.output == "Function created: x\nName:          x\nLast Revision: 1\nGUID:          g\n"
                + "VRN:           vast:dataengine:functions:x\n"
        )
        let gone = try await CommandRun.run(["functions", "delete", "x", "-f"], answer: .init(status: 204))
        #expect(gone.output == "Function deleted: x\n")
        let json = try await CommandRun.run(
            ["functions", "delete", "x", "--yes", "-o", "json"],
            answer: .init(status: 204)
        )
        #expect(try JSONValue(parsing: json.output) == ["deleted": ["x"]])
        let quiet = try await CommandRun.run(["functions", "create", "-n", "x", "--silent"], answer: .json(function))
        #expect(quiet.output.isEmpty && quiet.errors.isEmpty)
    }

    @Test(arguments: [
        "functions delete x", "secrets delete x", "tables delete x", "groups delete x", "pipelines delete x --tables",
        "topics delete x -o json", "tables repair x -o json",
    ])
    func nothingIsTakenAwayWhereNobodyCanBeAsked(words: String) async throws {
        let arguments = words.split(separator: " ").map(String.init)
        try await CannedServer.with({ _ in .json("{}") }) { server in
            let run = try await CommandRun.run(arguments, server: server.address, input: "y\n")
            #expect(run.status == .usage)
            #expect(run.output.isEmpty)
            #expect(run.errors.contains("no terminal to ask on") && run.errors.contains("--force"))
            #expect(server.requests.isEmpty)
            for agreed in ["--force", "-f", "--yes", "-y"] {
                let run = try await CommandRun.run(arguments + [agreed], server: server.address)
                #expect(run.status == .success, "\(run.errors)")
            }
            #expect(server.requests.count == 4)
        }
    }

    @Test func aRepairIsShownAndNotDoneWhereNobodyCanBeAsked() async throws {
        let found =
            #"{"data":[{"kind":"missing_file","path":"rows/1.parquet","problem":"it is not there","action":"take it off","rows_lost":1}]}"#
        try await CannedServer.with({ _ in .json(found) }) { server in
            let run = try await CommandRun.run(["tables", "repair", "x"], server: server.address)
            #expect(run.status == .usage)
            #expect(run.output.contains("rows/1.parquet"))
            #expect(server.requests.map(\.line) == ["POST /api/v1/tables/x/repair?dry_run=true"])
        }
    }

    static let rows = #"""
        {"id":"s1","columns":[{"name":"path","type":"VARCHAR"},{"name":"n","type":"BIGINT"},{"name":"n","type":"DOUBLE"}],
         "rows":[["a\tb.exr",9007199254740993,0.5],[null,2,null],["日本\u001b[31m",-1,1e+300]],"next_cursor":null}
        """#

    @Test func sqlDrawsATableAndSaysWhenRowsAreMissing() async throws {
        let run = try await CommandRun.run(["sql", "from x", "-l", "3"], answer: .json(Self.rows))
        #expect(
            run.output == """
                path                           n       n
                a    b.exr      9007199254740993     0.5
                NULL                           2    NULL
                日本\\u{1b}[31m                -1  1e+300

                """
        )
        #expect(run.errors.isEmpty)
        let cut = try await CommandRun.run(["sql", "from x", "--max-rows", "2"], answer: .json(Self.rows))
        #expect(cut.output.split(separator: "\n").count == 3)
        #expect(cut.errors == "note: only the first 2 rows are shown; ask for more with --limit\n")
        let box = try await CommandRun.run(["sql", "from x"], answer: .json(Self.rows), columns: 40)
        #expect(box.output.contains("┌") && box.output.contains("(3 rows"))
        #expect(box.output.split(separator: "\n").allSatisfy { DisplayWidth.of(Self.plain(String($0))) <= 40 })
    }

    @Test func sqlAsJSONIsAListOfObjects() async throws {
        let run = try await CommandRun.run(["sql", "from x", "-o", "json"], answer: .json(Self.rows))
        let value = try JSONValue(parsing: run.output)
        #expect(value.arrayValue?.first == ["path": "a\tb.exr", "n": 9_007_199_254_740_993, "n_2": 0.5])
        #expect(value.arrayValue?.count == 3)
    }

    private static func plain(_ text: String) -> String {
        text.replacing(/\u{1B}\[[0-9;]*m/, with: "")
    }

    @Test func sqlAsCSVFollowsThePages() async throws {
        let handler: CannedServer.Handler = { request in
            if request.method == "POST" { return .json(#"{"id":"s1","state":"queued"}"#, status: 201) }
            if !request.target.contains("cursor=") {
                return .json(#"{"columns":[{"name":"a","type":"INTEGER"}],"rows":[[1]],"next_cursor":"1"}"#)
            }
            return .json(#"{"columns":[{"name":"a","type":"INTEGER"}],"rows":[["x,y"],[null]],"next_cursor":null}"#)
        }
        try await CannedServer.with(handler) { server in
            for arguments in [
                ["sql", "-o", "csv"], ["sql", "--format", "csv", "-"], ["sql", "-f", "-", "-o", "csv"],
            ] {
                let run = try await CommandRun.run(arguments, server: server.address, input: "from x\n")
                #expect(run.output == "a\r\n1\r\n\"x,y\"\r\n\r\n", "\(run.errors)")
                #expect(server.requests.suffix(3).first?.json?["sql"]?.stringValue == "from x")
            }
        }
        let none = try await CommandRun.run(["sql"], inputIsTerminal: true)
        #expect(none.status == .usage)
    }

    @Test func logLinesLookLikeTheReference() async throws {
        let records = #"""
            {"data":[
             {"time":"2026-03-30T11:25:01.220000Z","severity":"INFO","scope":"user","function":"fn","message":"hello\u001b[2J"},
             {"time":"2026-03-30T11:25:02.000000Z","severity":"ERROR","scope":"vast-runtime","function":"fn","message":"Traceback\n  x\n"},
             {"time":"2026-03-30T11:25:03.000000Z","severity":"WARN","scope":"engine","pipeline":"p","message":"slow"},
             {"time":"2026-03-30T11:25:04.000000Z","severity":"DEBUG","scope":"engine","message":"tick"}]}
            """#
        let run = try await CommandRun.run(["logs", "get"], answer: .json(records))
        #expect(
            run.output == """
                2026-03-30 11:25:01.220 [fn] [INFO]  [user] hello\\u{1b}[2J
                2026-03-30 11:25:02.000 [fn] [ERROR] [runtime] Traceback
                  x
                2026-03-30 11:25:03.000 [p] [WARNING] [engine] slow
                2026-03-30 11:25:04.000 [DEBUG] [engine] tick

                """
        )
    }

    @Test func traceListHasRightUnits() async throws {
        let traces = #"""
            {"data":[{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","start":"2026-03-30T11:25:01.220000Z","duration_micros":12400,
              "status":"OK","pipeline":"p","functions":["f"],"event_id":"7","event_type":"a.b:C.D","spans":4,"depth":3}]}
            """#
        let run = try await CommandRun.run(["traces", "list"], answer: .json(traces))
        #expect(
            run.output == """
                Start                 Pipeline  Status  Trace ID                          Duration  Spans  Event
                2026-03-30T11:25:01Z  p         OK      4bf92f3577b34da6a3ce929d0e0e4736   12.4 ms      4  a.b:C.D

                """
        )
    }

    @Test func statusShowsEachDeployment() async throws {
        try await CannedServer.with({ request in
            request.target.hasSuffix("deployments")
                ? .json(
                    #"""
                    {"data":[{"name":"inspect","function":"exr","revision":2,"workers":4,"workers_ready":3,"in_flight":7,"lag":12,
                      "succeeded":1000,"failed":2,"retried":3,"dead_lettered":1,"reason":null}]}
                    """#
                ) : .json(#"{"name":"p","status":"Ready","deployed_revision_number":5}"#)
        }) { server in
            let run = try await CommandRun.run(["pipelines", "status", "p"], server: server.address)
            #expect(
                run.output == """
                    Name:     p
                    Status:   Ready
                    Revision: 5

                    Deployment  Function  Workers  In flight  Lag  Succeeded  Failed  Retried  Dead letters  Reason
                    inspect     exr@2         3/4          7   12       1000       2        3             1

                    """
            )
        }
    }

    @Test func statusOfADraftHasNoDeployments() async throws {
        try await CannedServer.with({ request in
            request.target.hasSuffix("deployments")
                ? .problem(#"{"code":"failedPrecondition","detail":"not deployed"}"#, status: 409)
                : .json(#"{"name":"p","status":"Draft"}"#)
        }) { server in
            let run = try await CommandRun.run(["pipelines", "status", "p"], server: server.address)
            #expect(run.status == .success)
            #expect(run.output == "Name:     p\nStatus:   Draft\nRevision: none deployed\n")
        }
    }

    @Test func manifestIsYAMLThatCanBeSentAgain() async throws {
        let answer = #"""
            {"name":"p@3","pipeline_name":"p","revision_number":3,"manifest":{"triggers":[{"name":"t","trigger":"x"}],"links":[]}}
            """#
        let run = try await CommandRun.run(["pipelines", "get", "p", "--manifest"], answer: .json(answer))
        #expect(run.output == "name: p\nmanifest:\n  links: []\n  triggers:\n  - name: t\n    trigger: x\n")
    }

    @Test func deadLetterShowsErrorTracebackAndEvent() async throws {
        let answer = #"""
            {"id":"0-42","at":"2026-03-30T11:25:01.220000Z","pipeline":"p","deployment":"d","error":"bad magic","error_type":"ValueError",
             "traceback":"Traceback\n  line\n","attempts":4,"origin_topic":"t","origin_partition":0,"origin_offset":9,"redriven":false,
             "trace_id":"abc","event":{"zeta":"1","data":{"b":1,"a":2}}}
            """#
        let run = try await CommandRun.run(["dead-letters", "show", "0-42"], answer: .json(answer))
        #expect(
            run.output == """
                ID:         0-42
                At:         2026-03-30T11:25:01Z
                Pipeline:   p
                Deployment: d
                Error:      ValueError: bad magic
                Attempts:   4
                Origin:     t/0/9
                Trace ID:   abc
                Redriven:   no

                Traceback
                Traceback
                  line

                Event
                {
                  "zeta": "1",
                  "data": {
                    "b": 1,
                    "a": 2
                  }
                }

                """
        )
    }
}
