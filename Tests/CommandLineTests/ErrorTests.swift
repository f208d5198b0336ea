// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Foundation
import MartletCore
import NIOCore
import NIOPosix
import Testing

/// Exit codes and what stands on standard error.
@Suite struct ErrorTests {
    @Test(
        arguments: [
            (422, "invalid", CommandStatus.refused), (400, "invalid", .refused), (404, "notFound", .notFound),
            (409, "alreadyExists", .conflict), (409, "inUse", .conflict), (409, "failedPrecondition", .conflict),
            (401, "unauthenticated", .denied), (403, "forbidden", .denied), (413, "tooLarge", .refused),
            (503, "unavailable", .unreachable), (504, "timeout", .timeout), (507, "storageFull", .failure),
            (500, "internal", .failure), (409, "in_use", .conflict), (418, "teapot", .failure), (404, "", .notFound),
        ]
    )
    func codeDecidesTheExitStatus(_ status: Int, _ code: String, _ expected: CommandStatus) async throws {
        let run = try await CommandRun.run(
            ["views", "get", "x"],
            answer: .problem(
                #"{"code":"\#(code)","status":\#(status),"title":"T","detail":"what happened"}"#,
                status: status
            )
        )
        #expect(run.status == expected)
        #expect(run.output.isEmpty)
        #expect(run.errors.hasPrefix("error: what happened\n"))
    }

    @Test func everyServiceErrorHasAnExitStatus() {
        for code in ServiceError.Code.allCases {
            let status = CommandStatus(code: code.rawValue, httpStatus: 0)
            #expect(status != .success && status != .usage)
        }
    }

    @Test func exitCodesAreTheDocumentedNumbers() {
        #expect(CommandStatus.allCases.map(\.rawValue) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141])
    }

    @Test func problemShowsFieldsWithLinesFixesAndTraceback() async throws {
        let problem = #"""
            {"type":"about:blank","title":"Unprocessable","status":422,"code":"invalid","detail":"the manifest has 2 errors",
             "fix":"correct them and send it again","errors":[
              {"field":"manifest.links[0].source","message":"no instance named 'x'","fix":"use one of: a, b","line":12},
              {"field":"manifest.name","message":"is \u001b[31mred"}],"trace":"Traceback (most recent call last):\n  boom\n"}
            """#
        let run = try await CommandRun.run(
            ["pipelines", "create", "--config", "{}"],
            answer: .problem(problem, status: 422)
        )
        #expect(run.status == .refused)
        #expect(
            run.errors == """
                error: the manifest has 2 errors
                  manifest.links[0].source (line 12): no instance named 'x'
                    fix: use one of: a, b
                  manifest.name: is \\u{1b}[31mred
                  fix: correct them and send it again

                  Traceback (most recent call last):
                    boom

                """
        )
    }

    @Test func fieldThatIsTheMessageIsNotRepeated() async throws {
        let problem = #"""
            {"code":"invalid","detail":"name: 'a b' is no name","fix":"use letters",
             "errors":[{"field":"name","message":"'a b' is no name","fix":"use letters","line":3}]}
            """#
        let run = try await CommandRun.run(["views", "get", "x"], answer: .problem(problem, status: 422))
        #expect(run.errors == "error: name: 'a b' is no name (line 3)\n  fix: use letters\n")
    }

    @Test(
        arguments: [
            (
                #"{"code":"invalid","detail":"the pipeline has 2 errors","errors":[{"field":"a","message":"wrong","fix":"mend a","line":2},{"field":"b","message":"bad","fix":"mend b"}]}"#,
                "error: the pipeline has 2 errors\n  a (line 2): wrong\n    fix: mend a\n  b: bad\n    fix: mend b\n"
            ),
            (
                #"{"code":"invalid","detail":"line 11, manifest.links[2]: a cycle","fix":"cut it","errors":[{"field":"manifest.links[2]","message":"a cycle","fix":"cut it","line":11}]}"#,
                "error: line 11, manifest.links[2]: a cycle\n  fix: cut it\n"
            ),
            (
                #"{"code":"invalid","detail":"line 4, column 1: malformed YAML","errors":[{"field":"","message":"column 1: malformed YAML","fix":"use spaces","line":4}]}"#,
                "error: line 4, column 1: malformed YAML\n  fix: use spaces\n"
            ),
            (
                #"{"code":"invalid","detail":"unknown parameter","fix":"use limit","errors":[{"field":"limits","message":"unknown parameter","fix":"use limit"}]}"#,
                "error: limits: unknown parameter\n  fix: use limit\n"
            ),
            (
                #"{"code":"invalid","detail":"two places","errors":[{"field":"","message":"one","line":1},{"field":"","message":"two"}]}"#,
                "error: two places\n  line 1: one\n  - two\n"
            ),
            (
                #"{"code":"invalid","detail":"Parser Error: near x\n\nLINE 1: selct\n        ^\n","fix":"look\u001b"}"#,
                "error: Parser Error: near x\n\n  LINE 1: selct\n          ^\n  fix: look\\u{1b}\n"
            ),
        ]
    ) func everyFaultIsToldOnceWithItsOwnFix(_ problem: String, _ text: String) async throws {
        let run = try await CommandRun.run(["views", "get", "x"], answer: .problem(problem, status: 422))
        #expect(run.errors == text)
    }

    @Test func onlyAMissingTokenIsSaidToBeOne() async throws {
        let bare = #"{"code":"unauthenticated","detail":"no token"}"#
        let missing = try await CommandRun.run(["views", "list"], answer: .problem(bare, status: 401))
        #expect(missing.errors.contains("fix: give the engine's token"))
        let origin = #"{"code":"forbidden","detail":"another origin"}"#
        let forbidden = try await CommandRun.run(["views", "list"], answer: .problem(origin, status: 403))
        #expect(forbidden.status == .denied)
        #expect(!forbidden.errors.contains("token"))
    }

    @Test func functionThatCannotRunIsAFailureOfTheDeployment() async throws {
        let trace = #"{"code":"failedPrecondition","detail":"deployment 'a' cannot run","trace":"Traceback"}"#
        let broken = try await CommandRun.run(["pipelines", "deploy", "p"], answer: .problem(trace, status: 409))
        #expect(broken.status == .failure)
        let state = #"{"code":"failedPrecondition","detail":"the pipeline is an empty draft"}"#
        let draft = try await CommandRun.run(["pipelines", "deploy", "p"], answer: .problem(state, status: 409))
        #expect(draft.status == .conflict)
    }

    @Test func secretsAreSentAsTheyStandInTheFile() async throws {
        try await withFolder { folder in
            let text = "# note\nname: s\nentries:\n  - {key: a, value: b}\n"
            let file = try text.file("s.yaml", in: folder)
            try await CannedServer.with({ _ in .json(#"{"name":"s"}"#) }) { server in
                let run = try await CommandRun.run(["secrets", "create", "-f", file], server: server.address)
                #expect(run.status == .success, "\(run.errors)")
                let request = try #require(server.requests.last)
                #expect(String(decoding: request.body, as: UTF8.self) == text)
                #expect(request.headers["content-type"] == "application/yaml")
            }
        }
    }

    @Test(.timeLimit(.minutes(5))) func aTailSaysThatItsPipelineIsMissing() async throws {
        try await CannedServer.with({ request in
            request.target.hasPrefix("/api/v1/pipelines/")
                ? .problem(#"{"code":"notFound","detail":"no pipeline"}"#, status: 404) : .json(#"{"data":[]}"#)
        }) { server in
            let address = server.address
            let run = try await withThrowingTaskGroup(of: CommandRun.self) { group in
                group.addTask { try await CommandRun.run(["logs", "tail", "-i", "10ms", "typo"], server: address) }
                await server.waitForRequests(4)
                group.cancelAll()
                return try await group.next()
            }
            let notes = run?.errors.split(separator: "\n").filter { $0.contains("there is no pipeline 'typo' now") }
            #expect(notes?.count == 1)
        }
    }

    @Test(
        arguments: [
            ("logs get frmaes", "pipeline"), ("logs get -f frmaes -o json", "function"),
            ("traces list frmaes", "pipeline"),
            ("metrics names -p frmaes", "pipeline"), ("metrics get -m a.known -f frmaes -o csv", "function"),
        ]
    )
    func namesThatNothingHasAreRefusedWithTheNearest(words: String, noun: String) async throws {
        try await CannedServer.with({ request in
            let path = request.target.prefix { $0 != "?" }
            if path.hasSuffix("frmaes") { return .problem(#"{"code":"notFound","detail":"none"}"#, status: 404) }
            if path == "/api/v1/pipelines" || path == "/api/v1/functions" {
                return .json(#"{"data":[{"name":"other"},{"name":"frames"}]}"#)
            }
            if path.hasSuffix("metrics/query") { return .json(#"{"series":[],"missing":["a.known"]}"#) }
            let isKnown = request.target == "/api/v1/metrics/names"
            return .json(isKnown ? #"{"data":[{"name":"a.known"}]}"# : #"{"data":[]}"#)
        }) { server in
            let run = try await CommandRun.run(words.split(separator: " ").map(String.init), server: server.address)
            #expect(run.status == .notFound)
            #expect(run.output.isEmpty)
            #expect(
                run.errors.contains("there is no \(noun) 'frmaes'") && run.errors.contains("did you mean 'frames'?")
            )
            #expect(run.errors.contains("martlet \(noun)s list"))
        }
    }

    @Test func aMetricThatDoesNotExistIsRefusedAndOneWithoutPointsIsNot() async throws {
        try await CannedServer.with({ request in
            guard request.target.contains("query") else {
                return .json(#"{"data":[{"name":"martlet.group.lag"},{"name":"dataengine.event.total"}]}"#)
            }
            let missing = request.target.contains("gruop") ? "martlet.gruop.lag" : "martlet.group.lag"
            return .json(#"{"series":[],"missing":["\#(missing)"]}"#)
        }) { server in
            let bad = try await CommandRun.run(["metrics", "get", "-m", "martlet.gruop.lag"], server: server.address)
            #expect(bad.status == .notFound && bad.errors.contains("did you mean 'martlet.group.lag'?"))
            let good = try await CommandRun.run(["metrics", "get", "-m", "martlet.group.lag"], server: server.address)
            #expect(good.status == .success && good.errors.contains("no points of martlet.group.lag"))
        }
    }

    @Test func whatWasDeletedIsNoMissingNameWhileItsRecordsAreThere() async throws {
        try await CannedServer.with({ request in
            if request.target.hasPrefix("/api/v1/pipelines/") {
                return .problem(#"{"code":"notFound","detail":"none"}"#, status: 404)
            }
            return .json(request.target.contains("since") ? #"{"data":[]}"# : #"{"data":[{"message":"x"}]}"#)
        }) { server in
            let run = try await CommandRun.run(["logs", "get", "gone"], server: server.address)
            #expect(run.status == .success && run.errors.contains("no log records since 5m"))
        }
    }

    @Test(
        arguments: [
            ("tables update x --topic t", "--topic: the topic of a table stays"),
            ("tables update x --key id", "--key: the key of a table stays"),
            ("tables update x --delete-when a=1 --delete-when b=2", "--delete-when is given 2 times"),
            ("tables create x -t t --column a=INT --column A=DATE", "--column: 'A' is given twice"),
            ("sql --as-of t=1 --as-of T=2 select", "--as-of: 'T' is given twice"),
        ]
    )
    func optionsThatWouldBeIgnoredAreRefused(words: String, says: String) async throws {
        try await CannedServer.with({ _ in .json("{}") }) { server in
            let run = try await CommandRun.run(words.split(separator: " ").map(String.init), server: server.address)
            #expect(run.status == .usage && run.errors.contains(says), "\(run.errors)")
            #expect(server.requests.isEmpty)
        }
    }

    @Test func misspelledVariablesAreNamed() async throws {
        let environment = ["MARTLET_SERVR": "http://x", "MARTLET_HTTP_PORT": "1", "MARTLET_OUTPT": "json"]
        try await CannedServer.with({ _ in .json(#"{"data":[]}"#) }) { server in
            let run = try await CommandRun.run(["views", "list"], server: server.address, environment: environment)
            #expect(run.errors.contains("MARTLET_SERVR has no effect; did you mean MARTLET_SERVER?"))
            #expect(run.errors.contains("MARTLET_OUTPT has no effect; did you mean MARTLET_OUTPUT?"))
            #expect(!run.errors.contains("MARTLET_HTTP_PORT"))
        }
    }

    @Test func replayOfNothingSaysSo() async throws {
        let arguments = ["pipelines", "replay", "p", "--from", "99"]
        let run = try await CommandRun.run(arguments, answer: .json(#"{"records":0}"#))
        #expect(run.status == .success)
        #expect(run.errors.contains("nothing is sent again"))
    }

    @Test func unreachableEngineNamesAddressAndCommand() async throws {
        let run = try await CommandRun.run(["views", "list"], server: "http://127.0.0.1:1")
        #expect(run.status == .unreachable)
        #expect(run.errors.contains("cannot reach http://127.0.0.1:1: Connection refused"))
        #expect(run.errors.contains("martlet serve"))
    }

    @Test func unknownHostIsUnreachable() async throws {
        let run = try await CommandRun.run(["views", "list"], server: "http://no-such-host.invalid:8070")
        #expect(run.status == .unreachable)
        #expect(run.errors.contains("cannot reach http://no-such-host.invalid:8070"))
    }

    @Test(arguments: [200, 404, 502])
    func answerThatIsNotJSONIsExplained(_ status: Int) async throws {
        let html = CannedServer.Answer(status: status, contentType: "text/html", body: Array("<html>hi</html>".utf8))
        let run = try await CommandRun.run(["views", "list"], answer: html)
        #expect(run.status == (status == 404 ? .notFound : .failure))
        #expect(run.errors.contains("with status \(status) and a body of type text/html, not JSON"))
        #expect(!run.errors.contains("<html>"))
    }

    @Test func jsonThatIsCutOffIsExplained() async throws {
        let run = try await CommandRun.run(["views", "list"], answer: .json(#"{"data":["#))
        #expect(run.status == .failure)
        #expect(run.errors.contains("not JSON"))
    }

    @Test(.timeLimit(.minutes(5))) func muteServerTimesOut() async throws {
        let run = try await CommandRun.run(["views", "list", "--timeout", "0.2"], answer: .init(isMute: true))
        #expect(run.status == .timeout)
        #expect(run.errors.contains("within 0.2 s"))
        #expect(run.errors.contains("--timeout"))
    }

    @Test(.timeLimit(.minutes(5))) func bodyThatStopsTimesOut() async throws {
        var answer = CannedServer.Answer.json(#"{"data":["#)
        answer.ending = .hang
        let run = try await CommandRun.run(["views", "list", "--timeout", "0.2"], answer: answer)
        #expect(run.status == .timeout)
    }

    @Test func connectionThatClosesIsUnreachable() async throws {
        var answer = CannedServer.Answer.json(#"{"data":["#)
        answer.ending = .cut
        let run = try await CommandRun.run(["views", "list"], answer: answer)
        #expect(run.status == .unreachable)
        #expect(run.errors.contains("closed the connection"))
    }

    @Test func closedOutputEndsQuietly() async throws {
        signal(SIGPIPE, SIG_IGN)
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        close(ends[0])
        defer { close(ends[1]) }
        let output = Output(descriptor: ends[1], isTerminal: false)
        let session = Session(
            output: output,
            diagnostics: output,
            input: 0,
            inputIsTerminal: true,
            environment: ["MARTLET_CONFIG": "/nonexistent/x"],
            workshop: RecordingWorkshop(),
            version: "1",
            root: TestRoot.self
        )
        #expect(await CommandRunner.run(["--help"], session: session) == .outputClosed)
        #expect(await CommandRunner.run(["version"], session: session) == .outputClosed)
    }

    @Test(
        arguments: [
            (["views", "get", "x", "--server", "ftp://x"], "is not the address of an engine"),
            (["views", "list", "-o", "csv"], "only sql and metrics get print CSV"),
            (["views", "create", "x"], "--path is missing"),
            (["views", "create", "x", "--path", ""], "--path is empty"),
            (["views", "update", "x"], "nothing to change"), (["pipelines", "create"], "no manifest was given"),
            (["topics", "create", "t", "--retention", "soon"], "no span of time"),
            (["pipelines", "replay", "p", "--from", "yesterday"], "neither a time nor an offset"),
            (["triggers", "create", "-n", "x", "-t", "Webhook"], "is no trigger type"),
            (["elements", "tag", "v", "k", "novalue"], "NAME=VALUE"),
            (["views", "list", "--token", "a\nb"], "a header cannot carry"),
            (["views", "list", "--timeout", "0"], "out of range"), (["sql", " "], "the statement is empty"),
            (["completion", "powershell"], "no completion for"),
            (["topics", "publish", "t", "--data", "{"], "is not JSON"),
        ] as [([String], String)]
    )
    func usageErrorsSayWhatIsWrong(_ arguments: [String], _ message: String) async throws {
        let run = try await CommandRun.run(arguments)
        #expect(run.status == .usage)
        #expect(run.errors.contains(message), "\(run.errors)")
    }

    @Test func missingFileIsNotFoundAndBadFilesAreRefused() async throws {
        let missing = try await CommandRun.run(["pipelines", "create", "--config", "/nonexistent/p.yaml"])
        #expect(missing.status == .notFound)
        #expect(missing.errors.contains("/nonexistent/p.yaml: No such file"))
        #expect(missing.errors.contains("fix: correct the path"))
        try await withFolder { folder in
            let yaml = try "a: [1\nb: 2\n".file("bad.yaml", in: folder)
            let run = try await CommandRun.run(["pipelines", "create", "--config", yaml, "--name", "x"])
            #expect(run.status == .refused)
            #expect(run.errors.contains("bad.yaml: line 2"), "\(run.errors)")
            let binary = folder + "/b.yaml"
            try Data([0xFF, 0xFE, 0x00]).write(to: URL(fileURLWithPath: binary))
            #expect(try await CommandRun.run(["topics", "publish", "t", "-e", binary]).status == .refused)
            #expect(try await CommandRun.run(["views", "create", "-f", folder, "-n", "x"]).status == .failure)
        }
    }

    @Test(.timeLimit(.minutes(5))) func failedDeployPrintsTheReason() async throws {
        try await CannedServer.with({ request in
            request.method == "POST"
                ? .json(#"{"name":"p","status":"InProgress"}"#)
                : .json(#"{"name":"p","status":"Failure","reason":"function f: init raised KeyError"}"#)
        }) { server in
            let run = try await CommandRun.run(["pipelines", "deploy", "p"], server: server.address)
            #expect(run.status == .failure)
            #expect(run.output.isEmpty)
            #expect(run.errors.contains("Waiting for pipeline to become ready…\n"))
            #expect(run.errors.contains("error: pipeline 'p' failed: function f: init raised KeyError\n"))
        }
    }

    @Test(.timeLimit(.minutes(5))) func deployThatNeverEndsTimesOut() async throws {
        let run = try await CommandRun.run(
            ["pipelines", "deploy", "p", "--wait-timeout", "0.2"],
            answer: .json(#"{"name":"p","status":"InProgress","reason":"starting workers"}"#)
        )
        #expect(run.status == .timeout)
        #expect(run.errors.contains("starting workers"))
    }

    @Test(.timeLimit(.minutes(5))) func deployWaitsForReady() async throws {
        try await CannedServer.with({ request in
            request.method == "POST"
                ? .json(#"{"name":"p","status":"InProgress"}"#) : .json(#"{"name":"p","status":"Ready"}"#)
        }) { server in
            let run = try await CommandRun.run(["pipelines", "deploy", "p"], server: server.address)
            #expect(run.status == .success)
            #expect(run.output == "Pipeline deployed successfully: p\nPipeline is ready and active.\n")
            let quiet = try await CommandRun.run(["pipelines", "deploy", "p", "--silent"], server: server.address)
            #expect(quiet.output.isEmpty && quiet.errors.isEmpty)
        }
    }

    @Test func damageMakesEngineStatusFail() async throws {
        let run = try await CommandRun.run(
            ["engine", "status"],
            answer: .json(#"{"version":"1","damage":["topic frames, partition 0, offset 7, 0000.log"]}"#)
        )
        #expect(run.status == .failure)
        #expect(run.output.contains("topic frames, partition 0"))
    }

    @Test(.timeLimit(.minutes(5)), arguments: [true, false])
    func tailAsksForWhatCameSince(_ hasCursor: Bool) async throws {
        let cursor = hasCursor ? "\"c9\"" : "null"
        let first = #"""
            {"data":[{"time":"2026-03-30T11:25:01.220000Z","severity":"INFO","scope":"user","message":"one"}],
             "pagination":{"next_cursor":\#(cursor)}}
            """#
        try await CannedServer.with({ request in
            request.target.contains("c9") || request.target.contains("220001")
                ? .json(#"{"data":[],"pagination":{"next_cursor":null}}"#) : .json(first)
        }) { server in
            let address = server.address
            let run = try await withThrowingTaskGroup(of: CommandRun.self) { group in
                group.addTask {
                    try await CommandRun.run(["logs", "tail", "-i", "10ms", "-o", "json"], server: address)
                }
                await server.waitForRequests(4)
                group.cancelAll()
                return try await group.next()
            }
            #expect(run?.output.split(separator: "\n").count == 1)
            let place = hasCursor ? "cursor=c9" : "since=2026-03-30T11:25:01.220001Z"
            #expect(server.requests[1...].allSatisfy { $0.target.contains(place) })
        }
    }

    @Test(.timeLimit(.minutes(5))) func cancellingIsInterruption() async throws {
        try await CannedServer.with({ _ in .json(#"{"data":[]}"#) }) { server in
            let address = server.address
            let status = try await withThrowingTaskGroup(of: CommandStatus.self) { group in
                group.addTask { try await CommandRun.run(["logs", "tail", "p", "-i", "10ms"], server: address).status }
                await server.waitForRequests(3)
                group.cancelAll()
                return try await group.next()
            }
            #expect(status == .interrupted)
            #expect(server.requests[0].target.contains("scope=user&since=2"))
        }
    }
}
