// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CommandLine
import Testing

/// Every command line of the reference's table, and the spellings people use for them.
@Suite struct ParsingTests {
    static let lines = [
        "config init --vms-url http://x:1 --tenant t --username u --password p --builder-image-url i --force",
        "config set --vms-url http://x:1", "config unset --tenant", "config view",
        "functions init python-pip hello -t /tmp -H main.py",
        "functions init python-pip hello --target /tmp --handlers a.py",
        "functions build hello -t . -H main.py -T v1 -V 3.12.* -P never --push --clear-cache --save-build-log",
        "functions build hello --target . --handlers main.py --image-tag v1 --version 3.12.* --pull-policy always",
        "functions localrun hello -c config.yaml -d -T latest -l DEBUG -p 8081",
        "functions localrun --config c.yaml --detach --image-tag x --loglevel INFO --port 8080",
        "functions invoke -g", "functions invoke --generate-event -t a.b:C.D -u http://localhost:8081/",
        "functions invoke -e event.yaml", "functions invoke --event event.yaml --event-type x --url http://h/",
        "functions create -n x --container-registry r --artifact-source x --image-tag latest --publish",
        "functions create --name x --artifact-type image --architecture amd64 --description d --tags a,b --revision-alias r --revision-description d --default-revision-number 1",
        "functions create -f function.yaml", "functions update x --image-tag v2 --publish",
        "functions update x --from-file f.yaml",
        "functions get x -r", "functions get x --with-revisions", "functions list -l 10 -n x --cursor c",
        "functions list --limit 10 --name x", "functions delete x -f", "functions publish x 3",
        "functions publish x -r 3",
        "triggers create -t Element -n x --source-bucket b --events ObjectCreated:* --name-prefix p --name-suffix s --tag-prefix a --tag-suffix b",
        "triggers create --type Schedule --name x --cron-schedule */5 --topic t --broker-name b --broker-type Internal --broker-url u",
        "triggers create -t Element -n x --event ObjectTagging:Put --custom-extension a=b --custom-extension c=d --tags x --description d",
        "triggers create -f trigger.yaml", "triggers create --from-file trigger.yaml",
        "triggers create element -n x -t topic -b Internal -m broker -u url -s bucket --source-types S3 --events ObjectCreated:*",
        "triggers create element --name x --topic-name t --broker-type Internal --broker-name b --broker-url u --source-bucket s",
        "triggers create schedule -n x --cron-schedule 0 --topic-name t", "triggers get x",
        "triggers update x --description d",
        "triggers delete x", "triggers list -l 5 -n x -t Element", "triggers list --type Schedule",
        "pipelines create --config pipeline.yaml --name x --description d --tags a --secret-file s1 --secret-file s2 --deploy",
        "pipelines create --config @pipeline.yaml", "pipelines update x --config p.yaml --secret-file s",
        "pipelines deploy x",
        "pipelines delete x", "pipelines get x --manifest", "pipelines get x --deployed", "pipelines list -l 5",
        "pipelines undeploy x", "pipelines pause x", "pipelines resume x", "pipelines status x",
        "pipelines replay x --from 1h",
        "topics list --database-name d -l 3 -n x", "topics get x --database-name d", "buckets list -l 3 -n x",
        "buckets get x",
        "logs get my-pipeline --since 5m --severity ERROR --scope runtime",
        "logs get p -f fn -s 5m -e 1m -l 10 --order-by desc --severity INFO --scope user --trace-id t --span-id s",
        "logs get p --function fn --end 2026-01-01T00:00:00Z --limit 10", "logs tail p -i 5s",
        "logs tail p --interval 5s -f fn --scope runtime",
        "traces list p -s 1m -e 1s -i id -t type --status ERROR -l 20 --order-by asc",
        "traces list --since 1m --end 1s --event-id id --event-type t --limit 3", "traces get abc",
        "logs tail p -s 10m -e 0s -l 10 --order-by asc --severity CRITICAL --trace-id t --span-id s",
        "metrics names -f f -p p -s latency -t Counter", "metrics names --metric-type Histogram --search x",
        "metrics get -m a,b -a p95 -g function_name -k 3 -b 2 -p p -f f -w 1h -n 50",
        "metrics get --metric-names a --metric-names b --aggregation rate --group-by topic --top-k 1 --bottom-k 1 --since 1h --end 5m",
        "metrics get -m a -s 2026-01-01T00:00:00Z -e 2026-01-02T00:00:00Z --svg x.svg --watch -i 1s --height 20",
        "doc --output-dir ./docs", "completion bash", "completion zsh", "completion fish", "version",
        "-o json functions list", "--dry-run -v 3 -o yaml functions list", "functions list -v 9 --silent",
        "functions list -v",
        "function list", "pipeline get x", "dlq list", "views create x --path /x", "elements tag v k a=b", "sql select",
    ]

    @Test(arguments: lines) func accepts(_ line: String) async throws {
        let words = line.split(separator: " ").map(String.init)
        let command = try await CommandRunner.parse(words, root: TestRoot.self)
        #expect(!(command is TestRoot))
    }

    @Test(
        arguments: [
            "triggers create element --topik t", "functions invoke -g -e f", "logs get --order-by up", "logs get -l 0",
            "traces list --status BAD", "dead-letters redrive", "dead-letters redrive 1 --pipeline p", "functions get",
            "functions list -o xml", "nothing", "functions localrun -p 99999", "functions localrun -l LOUD",
            "topics publish t", "elements tag v k", "pipelines replay x", "pipelines deploy x --wait-timeout 0",
            "functions list --limit 0", "logs tail p -i never",
            "logs tail p -l 0", "logs tail p --order-by up", "metrics get", "metrics get -m a -a mean",
            "metrics get -m a -k 3",
            "metrics get -m a -w 1h -s 2h", "metrics get -m a -n 101", "metrics get -m a -w never",
            "metrics get -m 1,2,3,4,5,6,7,8,9,10,11",
            "metrics get -m a --height 2",
        ]
    )
    func refusesAsUsage(_ line: String) async throws {
        let run = try await CommandRun.run(line.split(separator: " ").map(String.init))
        #expect(run.status == .usage)
        #expect(run.output.isEmpty)
        #expect(run.errors.contains("rror: "))
    }

    @Test func everyCommandHasHelpWithExamples() throws {
        var waiting: [(path: String, type: any ParsableCommand.Type)] = [("martlet", TestRoot.self)]
        var leaves = 0
        while let (path, type) = waiting.popLast() {
            let configuration = type.configuration
            #expect(!configuration.abstract.isEmpty, "\(path) has no abstract")
            for sub in configuration.subcommands {
                waiting.append(("\(path) \(sub.configuration.commandName ?? "?")", sub))
            }
            guard configuration.subcommands.isEmpty else { continue }
            leaves += 1
            #expect(TestRoot.helpMessage(for: type).contains("Examples:"), "\(path) has no examples")
        }
        #expect(leaves > 60)
    }

    @Test func helpNamesTheExitCodesAndGoesToStandardOutput() async throws {
        let run = try await CommandRun.run(["--help"])
        #expect(run.status == .success)
        #expect(run.errors.isEmpty)
        #expect(run.output.contains("5 engine not"))
    }

    @Test func versionFlagAndCommandAgree() async throws {
        let flag = try await CommandRun.run(["--version"], server: "http://127.0.0.1:9")
        let command = try await CommandRun.run(["version"], server: "http://127.0.0.1:9")
        #expect(flag.output == "martlet 9.8.7\n")
        #expect(flag.output == command.output)
        #expect(flag.status == .success)
    }

    @Test(arguments: ["bash", "zsh", "fish"]) func completionScriptsNameTheCommands(_ shell: String) async throws {
        let run = try await CommandRun.run(["completion", shell])
        #expect(run.status == .success)
        #expect(run.output.contains("dead-letters"))
        #expect(run.output.contains("---completion"))
    }
}
