// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Foundation
import MartletCore
import Testing

/// Where settings come from, and the file they are kept in.
@Suite struct SettingsTests {
    private func server(_ arguments: [String], _ environment: [String: String]) async throws -> String? {
        let run = try await CommandRun.run(["config", "view", "-o", "json"] + arguments, environment: environment)
        #expect(run.status == .success, "\(run.errors)")
        return try JSONValue(parsing: run.output)["server"]?["value"]?.stringValue
    }

    @Test func flagsWinOverEnvironmentOverFileOverDefault() async throws {
        try await withFolder { folder in
            let file = ["MARTLET_CONFIG": "\(folder)/c.toml"]
            let both = file.merging(["MARTLET_SERVER": "http://env:2"]) { $1 }
            #expect(try await server([], file) == "http://127.0.0.1:8070")
            _ = try "# mine\nserver = \"http://file:1\" # here\n".file("c.toml", in: folder)
            #expect(try await server([], file) == "http://file:1")
            #expect(try await server([], both) == "http://env:2")
            #expect(try await server(["--server", "flag:3/"], both) == "http://flag:3")
            #expect(try await server([], ["MARTLET_SERVER": "http://h:1/api/v1/"]) == "http://h:1")
        }
    }

    @Test func initSetUnsetAndViewWorkOnThePrivateFile() async throws {
        try await withFolder { folder in
            let path = "\(folder)/deep/config.toml"
            let environment = ["MARTLET_CONFIG": path]
            let made = try await CommandRun.run(
                ["config", "init", "--vms-url", "http://h:1", "--tenant", "t"],
                environment: environment
            )
            #expect(made.status == .success, "\(made.errors)")
            #expect(made.errors.contains("--tenant has no effect"))
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            #expect(try await CommandRun.run(["config", "init"], environment: environment).status == .conflict)
            let set = ["config", "set", "--token", "a\"b\\c", "--default-output", "yaml"]
            #expect(try await CommandRun.run(set, environment: environment).status == .success)
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(
                text
                    == "# Settings of the martlet command line.\nserver = \"http://h:1\"\ntoken = \"a\\\"b\\\\c\"\noutput = \"yaml\"\n"
            )
            let view = try await CommandRun.run(["config", "view", "-o", "human"], environment: environment)
            #expect(view.output.contains("server   http://h:1  file"))
            #expect(view.output.contains("token    (set)"))
            #expect(!view.output.contains("a\"b"))
            _ = try await CommandRun.run(["config", "unset", "--token", "--vms-url"], environment: environment)
            #expect(try !String(contentsOfFile: path, encoding: .utf8).contains("token ="))
            #expect(
                try await CommandRun.run(["config", "init", "--force"], environment: environment).status == .success
            )
        }
    }

    @Test(arguments: ["server: x\n", "server = http://x\n", "colour = \"red\"\n", "server = \"x\n"])
    func unreadableFileNamesItsLine(_ text: String) async throws {
        try await withFolder { folder in
            let path = try ("# first\n" + text).file("c.toml", in: folder)
            let run = try await CommandRun.run(["views", "list"], environment: ["MARTLET_CONFIG": path])
            #expect(run.status == .refused)
            #expect(run.errors.contains("\(path), line 2: "))
        }
    }

    @Test(arguments: [
        ["dead-letters"], ["pipelines", "get"], ["functions", "get"],
    ]) func completionAsksTheEngineAndFailsSilently(_ path: [String]) async throws {
        let words = ["---completion"] + path
        let tail = ["--", path == ["dead-letters"] ? "positional@0" : "positional@0", "0", "0", "martlet"]
        let command = path == ["dead-letters"] ? words + ["show"] + tail : words + tail
        try await CannedServer.with({ _ in .json(#"{"data":[{"name":"alpha","id":1},{"name":"beta","id":2}]}"#) }) {
            server in
            let run = try await CommandRun.run(command, server: server.address, environment: ["SAP_SHELL": "bash"])
            #expect(run.output.split(separator: "\n") == ["alpha", "beta"], "\(run.errors)")
            #expect(server.requests.map(\.target) == ["/api/v1/\(path[0])?limit=500"])
        }
        let down = try await CommandRun.run(command, server: "http://127.0.0.1:1", environment: ["SAP_SHELL": "bash"])
        #expect(down.status == .success)
        #expect(!down.output.contains { !$0.isWhitespace })
        #expect(down.errors.isEmpty)
    }

    @Test func docWritesOnePageAGroup() async throws {
        try await withFolder { folder in
            let run = try await CommandRun.run(["doc", "--output-dir", folder + "/out"])
            #expect(run.status == .success, "\(run.errors)")
            let page = try String(contentsOfFile: folder + "/out/martlet-triggers.md", encoding: .utf8)
            #expect(page.contains("\n### martlet triggers list\n"))
            #expect(page.contains("#### martlet triggers create element"))
        }
    }
}
