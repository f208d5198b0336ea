// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Foundation
import MartletCore
import Testing

/// What goes over the wire for each command.
@Suite struct RequestTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var arguments: [String]
        var requests: [String]
        var body: String?

        init(_ arguments: String, _ requests: [String], body: String? = nil) {
            self.arguments = arguments.split(separator: " ").map { String($0).replacing("␣", with: " ") }
            self.requests = requests
            self.body = body
        }

        var testDescription: String { arguments.joined(separator: " ") }
    }

    static let cases = [
        Case(
            "views create renders --path /data/r --tags a,b",
            ["POST /api/v1/views"],
            body: #"{"name":"renders","path":"/data/r","tags":["a","b"]}"#
        ),
        Case(
            "views update renders --description final",
            ["PUT /api/v1/views/renders"],
            body: #"{"description":"final"}"#
        ),
        Case("views list", ["GET /api/v1/views?limit=1000"]),
        Case("views list -l 5 -n ren --cursor abc", ["GET /api/v1/views?name=ren&limit=5&cursor=abc"]),
        Case("views get a/b␣c", ["GET /api/v1/views/a%2Fb%20c"]),
        Case("views delete a b --force", ["DELETE /api/v1/views/a", "DELETE /api/v1/views/b"]),
        Case(
            "topics get vast:dataengine:topics:internal/frames",
            [
                "GET /api/v1/topics/vast:dataengine:topics:internal%2Fframes",
                "GET /api/v1/topics/vast:dataengine:topics:internal%2Fframes/partitions",
            ]
        ),
        Case("elements list v --prefix a/ -l 7", ["GET /api/v1/views/v/elements?prefix=a%2F&limit=7"]),
        Case(
            "elements tag v a/b.exr x=1 y=",
            ["PUT /api/v1/views/v/tags"],
            body: #"{"key":"a/b.exr","tags":{"x":"1","y":""}}"#
        ),
        Case("elements untag v a/b.exr x y", ["DELETE /api/v1/views/v/tags?key=a%2Fb.exr&name=x&name=y"]),
        Case(
            "triggers create -t cron -n hourly --cron-schedule 0␣*␣*␣*␣* --time-zone UTC --topic t",
            ["POST /api/v1/triggers"],
            body:
                #"{"name":"hourly","type":"Schedule","config":{"cron_schedule":"0 * * * *","time_zone":"UTC"},"topic_name":"t"}"#
        ),
        Case(
            "triggers create element -n x -s v -t t --event ObjectCreated:*,ObjectRemoved:* --name-suffix .exr --name-suffix .tif "
                + "--tag-prefix a --custom-extension k=v=w",
            ["POST /api/v1/triggers"],
            body:
                #"{"name":"x","type":"Element","source_bucket_name":"v","events":["ObjectCreated:*","ObjectRemoved:*"],"#
                + #""config":{"name_filters":{"suffixes":[".exr",".tif"]},"tag_filters":{"prefixes":["a"]}},"topic_name":"t","#
                + #""custom_extensions":{"k":"v=w"}}"#
        ),
        Case("triggers list -t schedule", ["GET /api/v1/triggers?type=Schedule&limit=1000"]),
        Case(
            "functions create -n x --container-registry r --artifact-source x --image-tag latest --publish",
            ["POST /api/v1/functions"],
            body: #"{"name":"x","artifact_source":"x","image_tag":"latest","publish":true}"#
        ),
        Case("functions update x", ["PUT /api/v1/functions/x"], body: "{}"),
        Case("functions publish x 3", ["POST /api/v1/functions/x/revisions/3/publish"]),
        Case("functions publish x", ["GET /api/v1/functions/x", "POST /api/v1/functions/x/revisions/4/publish"]),
        Case("functions get x -r", ["GET /api/v1/functions/x", "GET /api/v1/functions/x/revisions"]),
        Case(
            "pipelines deploy p --revision 2 --no-wait",
            ["POST /api/v1/pipelines/p/deploy"],
            body: #"{"revision":2}"#
        ),
        Case("pipelines undeploy p", ["POST /api/v1/pipelines/p/undeploy"]),
        Case("pipelines pause p", ["POST /api/v1/pipelines/p/pause"]),
        Case("pipelines resume p", ["POST /api/v1/pipelines/p/resume"]),
        Case("pipelines get p --deployed", ["GET /api/v1/pipelines/p/manifest?deployed=true"]),
        Case("pipelines get p --manifest", ["GET /api/v1/pipelines/p/manifest?deployed=false"]),
        Case("pipelines status p", ["GET /api/v1/pipelines/p", "GET /api/v1/pipelines/p/deployments"]),
        Case("pipelines replay p --from 12", ["POST /api/v1/pipelines/p/replay"], body: #"{"from":12}"#),
        Case(
            "pipelines replay p --from 2026-04-08",
            ["POST /api/v1/pipelines/p/replay"],
            body: #"{"from":"2026-04-08T00:00:00.000000Z"}"#
        ),
        Case(
            "topics create t --partitions 8 --retention 7d",
            ["POST /api/v1/topics"],
            body: #"{"name":"t","partitions":8,"retention_milliseconds":604800000}"#
        ),
        Case(
            "topics update t --retention forever",
            ["PUT /api/v1/topics/t"],
            body: #"{"retention_milliseconds":-1}"#
        ),
        Case(
            "secrets create db -e user=a -e password=b=c",
            ["POST /api/v1/secrets"],
            body: #"{"name":"db","entries":[{"key":"user","value":"a"},{"key":"password","value":"b=c"}]}"#
        ),
        Case(
            "secrets update db -e user=a",
            ["PUT /api/v1/secrets/db"],
            body: #"{"entries":[{"key":"user","value":"a"}]}"#
        ),
        Case("dead-letters list p -l 3", ["GET /api/v1/dead-letters?pipeline=p&limit=3"]),
        Case("dead-letters show 0-42", ["GET /api/v1/dead-letters/0-42"]),
        Case("dead-letters redrive 0-1 0-2", ["POST /api/v1/dead-letters/redrive"], body: #"{"ids":["0-1","0-2"]}"#),
        Case("dead-letters redrive -p x", ["POST /api/v1/dead-letters/redrive"], body: #"{"pipeline":"x"}"#),
        Case("tables get files", ["GET /api/v1/tables/files"]),
        Case("tables delete files -f", ["DELETE /api/v1/tables/files"]),
        Case("tables list --topic trips -n tr", ["GET /api/v1/tables?topic=trips&name=tr&limit=1000"]),
        Case(
            "tables create trips --topic trips --column fare=DECIMAL(18,2) --column id=VARCHAR --unknown reject --partition-by hour "
                + "--partition-by city --commit-every 10s --commit-size 64MiB --retention 30d --retention-size 10GiB --history 1d --start latest",
            ["POST /api/v1/tables"],
            body:
                #"{"name":"trips","topic":"trips","partition_by":["hour","city"],"start":"latest","#
                + #""columns":{"fare":"DECIMAL(18,2)","id":"VARCHAR"},"unknown_fields":"reject","commit_seconds":"10s","#
                + #""commit_bytes":"64MiB","retention":"30d","retention_bytes":"10GiB","history_seconds":"1d"}"#
        ),
        Case(
            "tables create -n c -t c --column id=TEXT --key id --delete-when op=gone --format json",
            ["POST /api/v1/tables"],
            body:
                #"{"name":"c","topic":"c","format":"json","key":["id"],"columns":{"id":"TEXT"},"delete_rule":"op=gone"}"#
        ),
        Case(
            "tables update trips --column fare=VARCHAR --retention forever",
            ["PUT /api/v1/tables/trips"],
            body: #"{"columns":{"fare":"VARCHAR"},"retention":"forever"}"#
        ),
        Case("tables history trips", ["GET /api/v1/tables/trips/history?limit=50"]),
        Case("tables history a-b -l 3 --cursor 7", ["GET /api/v1/tables/a-b/history?limit=3&cursor=7"]),
        Case("tables commit trips", ["POST /api/v1/tables/trips/commit"]),
        Case("tables compact trips", ["POST /api/v1/tables/trips/compact"]),
        Case("tables repair trips --force", ["POST /api/v1/tables/trips/repair"]),
        Case("tables repair trips --dry-run", ["POST /api/v1/tables/trips/repair?dry_run=true"]),
        Case("tables repair trips --quick --force", ["POST /api/v1/tables/trips/repair?quick=true"]),
        Case("tables replay trips", ["POST /api/v1/tables/trips/replay"]),
        Case(
            "logs get my-pipeline --since 5m --severity ERROR --scope runtime",
            [
                "GET /api/v1/logs?pipeline=my-pipeline&severity=ERROR&scope=runtime&since=5m&limit=100&order_by=desc",
                "GET /api/v1/pipelines/my-pipeline",
            ]
        ),
        Case("logs get --trace-id abc", ["GET /api/v1/logs?trace_id=abc&limit=100&order_by=desc"]),
        Case(
            "traces list p --status error -i 7 -t a.b:C",
            [
                "GET /api/v1/traces?pipeline=p&event_id=7&event_type=a.b:C&status=ERROR&limit=20&order_by=desc",
                "GET /api/v1/pipelines/p",
            ]
        ),
        Case("traces get abc", ["GET /api/v1/traces/abc"]),
        Case(
            "metrics names -p p -f fn -s lat -t Counter",
            [
                "GET /api/v1/metrics/names?pipeline=p&function=fn&search=lat&metric_type=Counter",
                "GET /api/v1/pipelines/p", "GET /api/v1/functions/fn",
            ]
        ),
        Case(
            "metrics get -m a.b,c -a P95 -g function_name,topic -k 3 -p p -s 2h -e 1h",
            [
                "GET /api/v1/metrics/query?name=a.b&name=c&aggregation=p95&group_by=function_name&group_by=topic&top_k=3&pipeline=p&since=2h&end=1h&max_points=60"
            ]
        ),
        Case("engine status", ["GET /api/v1/engine"]),
    ]

    @Test(arguments: cases) func sends(_ item: Case) async throws {
        try await CannedServer.with({ _ in .json(#"{"name":"x","last_revision_number":4,"data":[]}"#) }) { server in
            let run = try await CommandRun.run(item.arguments, server: server.address)
            #expect(run.status == .success, "\(run.errors)")
            #expect(server.requests.map(\.line) == item.requests)
            if let body = item.body {
                let sent = try #require(server.requests.last)
                #expect(sent.json == (try JSONValue(parsing: body)))
                #expect(sent.headers["content-type"] == "application/json")
            }
        }
    }

    @Test(arguments: cases.filter { $0.body != nil }) func dryRunPrintsInsteadOfSending(_ item: Case) async throws {
        try await CannedServer.with({ _ in .json("{}") }) { server in
            let run = try await CommandRun.run(item.arguments + ["--dry-run"], server: server.address)
            #expect(run.status == .success)
            #expect(server.requests.isEmpty)
            let lines = run.output.split(separator: "\n", maxSplits: 1)
            #expect(lines.first == "[DRY RUN] Would send \(item.requests[0])")
            if item.arguments[0] == "secrets" {
                #expect(!run.output.contains("b=c"))
            } else {
                #expect(try JSONValue(parsing: String(lines[1])) == JSONValue(parsing: item.body ?? ""))
            }
        }
    }

    @Test func fileGoesAsItIsAndFlagsWinOverIt() async throws {
        try await withFolder { folder in
            let text = "# comment\nname: x\ntype: Element\nsource_bucket: v\nevent: 'ObjectCreated:*'\nname_prefix: a\n"
            let path = try text.file("trigger.yaml", in: folder)
            try await CannedServer.with({ _ in .json(#"{"name":"x","type":"Element"}"#) }) { server in
                let plain = try await CommandRun.run(["triggers", "create", "-f", path], server: server.address)
                #expect(plain.status == .success, "\(plain.errors)")
                let sent = try #require(server.requests.last)
                #expect(String(decoding: sent.body, as: UTF8.self) == text)
                #expect(sent.headers["content-type"] == "application/yaml")
                let arguments = [
                    "triggers", "create", "-f", path, "-n", "y", "--source-bucket", "w", "--name-prefix", "b",
                ]
                _ = try await CommandRun.run(arguments, server: server.address)
                let merged = try #require(server.requests.last)
                #expect(merged.headers["content-type"] == "application/json")
                let expected = #"""
                    {"name":"y","type":"Element","event":"ObjectCreated:*","source_bucket_name":"w",
                     "config":{"name_filters":{"prefixes":["b"]}}}
                    """#
                #expect(merged.json == (try JSONValue(parsing: expected)))
            }
        }
    }

    @Test func flagsReplaceOnlyTheirOwnFieldsOfAFile() async throws {
        try await withFolder { folder in
            let text = """
                name: x
                name_prefix: a
                name_suffix: .exr
                cron_schedule: 0 * * * *
                config: {tag_filters: {prefixes: [p], suffixes: [s]}, timezone: UTC}
                """
            let path = try text.file("trigger.yaml", in: folder)
            try await CannedServer.with({ _ in .json(#"{"name":"x"}"#) }) { server in
                let flags = ["--name-prefix", "b", "--tag-suffix", "t", "--time-zone", "Europe/Zurich"]
                _ = try await CommandRun.run(["triggers", "update", "x", "-f", path] + flags, server: server.address)
                let expected = #"""
                    {"name":"x","name_suffix":".exr","cron_schedule":"0 * * * *",
                     "config":{"tag_filters":{"prefixes":["p"],"suffixes":["t"]},"name_filters":{"prefixes":["b"]},
                     "time_zone":"Europe/Zurich"}}
                    """#
                #expect(server.requests.last?.json == (try JSONValue(parsing: expected)))
            }
        }
    }

    @Test func pipelineIsReadFromFileAtFileStandardInputAndText() async throws {
        try await withFolder { folder in
            let text = #"{"name":"p","manifest":{}}"#
            let path = try text.file("p.json", in: folder)
            try await CannedServer.with({ _ in .json(#"{"name":"p","status":"Draft"}"#) }) { server in
                for argument in [path, "@\(path)", "-", text] {
                    let run = try await CommandRun.run(
                        ["pipelines", "create", "--config", argument],
                        server: server.address,
                        input: text
                    )
                    #expect(run.status == .success, "\(run.errors)")
                    #expect(server.requests.last?.json == (try JSONValue(parsing: text)))
                    #expect(server.requests.last?.headers["content-type"] == "application/json")
                }
            }
        }
    }

    @Test func secretFilesOfBothFormsAreStoredFirstAndReplaced() async throws {
        try await withFolder { folder in
            let formB = try "db: {user: a}\ncert:\n  pem: |\n    x\n    y\n".file("b.yaml", in: folder)
            let formA = try "name: s3\nentries: [{key: k, value: v}]\n".file("a.yaml", in: folder)
            let manifest = try "name: p\n".file("p.yaml", in: folder)
            try await CannedServer.with({ request in
                request.line == "POST /api/v1/secrets" && request.json?["name"]?.stringValue == "db"
                    ? .problem(#"{"code":"alreadyExists","detail":"a secret named 'db' exists"}"#, status: 409)
                    : .json(#"{"name":"p"}"#)
            }) { server in
                let run = try await CommandRun.run(
                    ["pipelines", "create", "--config", manifest, "--secret-file", formB, "--secret-file", formA],
                    server: server.address
                )
                #expect(run.status == .success, "\(run.errors)")
                #expect(
                    server.requests.map(\.line) == [
                        "POST /api/v1/secrets", "PUT /api/v1/secrets/db", "POST /api/v1/secrets",
                        "POST /api/v1/secrets",
                        "POST /api/v1/pipelines",
                    ]
                )
                #expect(run.errors.contains("secret db updated") && run.errors.contains("secret s3 created"))
            }
        }
    }

    @Test func sendsTheTokenAndNeverPrintsIt() async throws {
        try await CannedServer.with({ _ in .json(#"{"data":[]}"#) }) { server in
            let run = try await CommandRun.run(
                ["views", "list", "-v", "2"],
                server: server.address,
                environment: ["MARTLET_TOKEN": "s3cret"]
            )
            #expect(server.requests.last?.headers["authorization"] == "Bearer s3cret")
            #expect(run.errors.contains("> GET \(server.address)/api/v1/views"))
            #expect(!run.errors.contains("s3cret"))
        }
    }

    @Test func buildStreamsItsLinesAndPrintsTheBundle() async throws {
        try await withFolder { folder in
            _ = try "def handler(ctx, event): pass\n".file("main.py", in: folder)
            let answer = CannedServer.Answer(
                contentType: "application/x-ndjson",
                body: Array(
                    #"""
                    {"line":"installing numpy"}
                    {"bundle":{"digest":"abc","name":"hello","tag":"v1","handler":"main.py","size_bytes":2048,"python_version":"3.11.7","environment_digest":"e","environment_cached":true,"unchanged":false}}

                    """#.utf8
                )
            )
            try await CannedServer.with({ _ in answer }) { server in
                let run = try await CommandRun.run(
                    ["functions", "build", "hello", "-t", folder, "-T", "v1", "--clear-cache", "-V", "3.12.*"],
                    server: server.address
                )
                #expect(run.status == .success, "\(run.errors)")
                let request = try #require(server.requests.last)
                let query = "name=hello&tag=v1&handler=main.py&python_version=3.12.%2A&clear_cache=true"
                #expect(request.line.replacing("3.12.*", with: "3.12.%2A") == "POST /api/v1/bundles?\(query)")
                #expect(request.headers["content-type"] == "application/x-tar")
                #expect(String(decoding: request.body, as: UTF8.self).hasPrefix("archive of "))
                for phase in [
                    "Detected language: python", "Building hello:v1", "[Started]", "installing numpy", "[Completed]",
                ] {
                    #expect(run.errors.contains(phase))
                }
                #expect(!run.errors.contains("no effect"))
                #expect(run.output.hasPrefix("Build completed: hello:v1 in "))
                #expect(run.output.contains("Size:        2 KiB\nPython:      3.11.7\nEnvironment: cached\n"))
            }
        }
    }

    @Test func failedBuildShowsTheTraceback() async throws {
        try await withFolder { folder in
            _ = try "".file("main.py", in: folder)
            let body = #"""
                {"line":"checking"}
                {"error":{"code":"invalid","status":422,"detail":"main.py does not compile","trace":"Traceback\n  SyntaxError: x"}}

                """#
            let run = try await CommandRun.run(
                ["functions", "build", "hello", "-t", folder],
                answer: .init(contentType: "application/x-ndjson", body: Array(body.utf8))
            )
            #expect(run.status == .refused)
            #expect(
                run.errors.contains(
                    "checking\n[Failed]\nerror: main.py does not compile\n\n  Traceback\n    SyntaxError: x\n"
                )
            )
        }
    }

    @Test func cutBuildAnswerIsAFailure() async throws {
        try await withFolder { folder in
            _ = try "".file("main.py", in: folder)
            let run = try await CommandRun.run(
                ["functions", "build", "hello", "-t", folder],
                answer: .init(contentType: "application/x-ndjson", body: Array("{\"line\":\"a\"}\n".utf8))
            )
            #expect(run.status == .failure)
            #expect(run.errors.contains("ended before the build did"))
        }
    }

    @Test func invokePostsAStructuredEvent() async throws {
        try await withFolder { folder in
            let path = try
                "id: 42\ntype: a.b:C.D\nsource: s\nsubject: k.t\nelementpath: b/x.exr\ndata:\n  Records: [1]\n"
                .file("event.yaml", in: folder)
            try await CannedServer.with({ _ in .init(status: 204) }) { server in
                let url = server.address + "/in?x=1"
                let run = try await CommandRun.run(["functions", "invoke", "-e", path, "-u", url])
                #expect(run.status == .success, "\(run.errors)")
                #expect(
                    run.output == "Event ID:   42\nEvent Type: a.b:C.D\nCloudEvent sent successfully (Status: 204)\n"
                )
                let sent = try #require(server.requests.last)
                #expect(sent.line == "POST /in?x=1")
                #expect(sent.headers["content-type"] == "application/cloudevents+json")
                #expect(sent.json?["specversion"]?.stringValue == "1.0")
                #expect(sent.json?["id"]?.stringValue == "42")
                #expect(sent.json?["datacontenttype"]?.stringValue == "application/json")
                #expect(sent.json?["data"] == ["Records": [1]])
                #expect(sent.json?["time"]?.stringValue.flatMap { Timestamp.parse($0) } != nil)
                let generated = try await CommandRun.run(["functions", "invoke", "-g", "-u", url, "-o", "json"])
                let event = try #require(server.requests.last?.json)
                #expect(event["type"]?.stringValue == "vastdata.com:Element.ObjectCreated")
                #expect(event["subject"]?.stringValue == "vastdata.com:kafka-view.default-topic")
                #expect(event["source"]?.stringValue?.hasPrefix("vastdata.com:trigger1.") == true)
                #expect(event["triggerext1"]?.stringValue == "cli-generated")
                #expect(event["triggerext2"]?.stringValue == "test-event")
                #expect(event["data"] == ["msg": "hello"])
                #expect(try JSONValue(parsing: generated.output)["event_id"] == event["id"])
            }
        }
    }

    @Test func invokeShowsWhatTheFunctionSaid() async throws {
        try await CannedServer.with({ _ in
            .init(status: 500, contentType: "text/plain", body: Array("ValueError: x\n".utf8))
        }) { server in
            let run = try await CommandRun.run(["functions", "invoke", "-g", "--url", server.address])
            #expect(run.status == .failure)
            #expect(run.errors.contains("with status 500\n\n  ValueError: x\n"))
        }
    }

    /// Numbers beyond a double, more than one spelling of a number, and a field that comes twice.
    private static let awkward =
        #"{"big": 123456789012345678901234567890, "price":1.50,"far":1e400,"a":1,"a":2,"s":"\u00e9\/"}"#

    @Test func publishedDataIsWhatWasWritten() async throws {
        try await withFolder { folder in
            let one = try #"{"type":"a.b:C","priority":1e2,"data": \#(Self.awkward) }"#.file("event.json", in: folder)
            let many = try #"[{"data":\#(Self.awkward)},{"id":"2"}]"#.file("events.json", in: folder)
            let yaml = try "data:\n  big: 123456789012345678901234567890\n  price: 1.50\n".file("e.yaml", in: folder)
            try await CannedServer.with({ _ in .json(#"{"count":1}"#, status: 202) }) { server in
                func body(_ arguments: [String]) async throws -> String {
                    let run = try await CommandRun.run(["topics", "publish", "t"] + arguments, server: server.address)
                    #expect(run.status == .success, "\(run.errors)")
                    return String(decoding: server.requests.last?.body ?? [], as: UTF8.self)
                }
                for arguments in [["--data", " \(Self.awkward)\n"], ["-e", one], ["-e", many]] {
                    let sent = try await body(arguments)
                    #expect(sent.contains(#""data":\#(Self.awkward)"#), "\(sent)")
                }
                #expect(try await body(["-e", one]).contains(#""priority":"1e2""#))
                let sent = try await body(["-e", yaml])
                #expect(sent.contains(#""data":{"big":123456789012345678901234567890,"price":1.50}"#), "\(sent)")
                let run = try await CommandRun.run(["functions", "invoke", "-e", one, "-u", server.address])
                #expect(run.status == .success, "\(run.errors)")
                let invoked = String(decoding: server.requests.last?.body ?? [], as: UTF8.self)
                #expect(invoked.contains(#""data":\#(Self.awkward)"#))
            }
        }
    }

    @Test func publishSendsOneOrManyEvents() async throws {
        try await withFolder { folder in
            let path = try "[{type: a, data: 1}, {type: b, data: 2}]".file("events.yaml", in: folder)
            try await CannedServer.with({ _ in .json(#"{"count":2}"#, status: 202) }) { server in
                let run = try await CommandRun.run(["topics", "publish", "t", "-e", path], server: server.address)
                #expect(run.output == "Published 2 events to t\n", "\(run.errors)")
                #expect(server.requests.last?.headers["content-type"] == "application/cloudevents-batch+json")
                #expect(server.requests.last?.json?.arrayValue?.map { $0["type"]?.stringValue } == ["a", "b"])
                // What other commands call a file it is called here too.
                _ = try await CommandRun.run(["topics", "publish", "t", "-f", path], server: server.address)
                #expect(server.requests.last?.json?.arrayValue?.count == 2)
                _ = try await CommandRun.run(["topics", "publish", "t", "--data", "1"], server: server.address)
                #expect(server.requests.last?.json?["type"]?.stringValue == "vastdata.com:Message.Published")
                _ = try await CommandRun.run(
                    ["topics", "publish", "t", "--data", "[1]", "-t", "x.y:Z"],
                    server: server.address
                )
                #expect(server.requests.last?.headers["content-type"] == "application/cloudevents+json")
                #expect(server.requests.last?.json?["type"]?.stringValue == "x.y:Z")
            }
        }
    }

    @Test func listFollowsCursorsUntilTheLimit() async throws {
        try await CannedServer.with({ request in
            request.target.contains("cursor=c1")
                ? .json(#"{"data":[{"name":"c"}],"pagination":{"next_cursor":null}}"#)
                : .json(#"{"data":[{"name":"a"},{"name":"b"}],"pagination":{"next_cursor":"c1"}}"#)
        }) { server in
            let all = try await CommandRun.run(["secrets", "list", "-o", "json"], server: server.address)
            let value = try JSONValue(parsing: all.output)
            #expect(value["data"]?.arrayValue?.count == 3)
            #expect(value["pagination"]?["next_cursor"] == .null)
            let some = try await CommandRun.run(["secrets", "list", "-l", "2"], server: server.address)
            #expect(some.errors.contains("go on with --cursor c1"))
            #expect(server.requests.last?.target == "/api/v1/secrets?limit=2")
        }
    }

    @Test func workshopIsAskedForScaffoldAndLocalRun() async throws {
        try await withFolder { folder in
            let workshop = RecordingWorkshop()
            let made = try await CommandRun.run(
                ["functions", "init", "python-pip", "hello", "-t", folder],
                workshop: workshop
            )
            #expect(made.output == "Function folder made: \(folder)/hello\n  main.py\n")
            let again = try await CommandRun.run(
                ["functions", "init", "python-pip", "hello", "-t", folder],
                workshop: workshop
            )
            #expect(again.status == .conflict)
            let bad = try await CommandRun.run(
                ["functions", "init", "python-pip", "he llo", "-t", folder],
                workshop: workshop
            )
            #expect(bad.status == .refused)
            let run = try await CommandRun.run(
                ["functions", "localrun", "hello", "-t", folder, "-p", "8081", "-l", "debug", "-d", "-c", "x.yaml"],
                workshop: workshop
            )
            #expect(run.status == .success, "\(run.errors)")
            let expected = LocalRun(
                name: "hello",
                folder: folder + "/hello",
                handler: "main.py",
                config: "x.yaml",
                port: 8081,
                logLevel: "DEBUG",
                detach: true
            )
            #expect(workshop.localRuns == [expected])
            let missing = try await CommandRun.run(["functions", "localrun", "nope", "-t", folder])
            #expect(missing.status == .notFound)
        }
    }

    @Test func exportWritesTheFileWholeOrNotAtAll() async throws {
        try await withFolder { folder in
            let path = folder + "/files.csv"
            let answer = CannedServer.Answer(contentType: "text/csv", body: Array("a,b\n1,2\n".utf8))
            try await CannedServer.with({ _ in answer }) { server in
                let run = try await CommandRun.run(["tables", "export", "files", "-f", path], server: server.address)
                #expect(run.output == "Table exported: files to \(path) (8 B)\n", "\(run.errors)")
                #expect(server.requests.last?.target == "/api/v1/tables/files/export?format=csv")
                #expect(try String(contentsOfFile: path, encoding: .utf8) == "a,b\n1,2\n")
            }
            var cut = answer
            cut.ending = .cut
            cut.body = Array("a,b\n".utf8)
            try FileManager.default.removeItem(atPath: path)
            let run = try await CommandRun.run(["tables", "export", "files", "-f", path], answer: cut)
            #expect(run.status == .unreachable)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        }
    }
}
