// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct VersionCommand: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "version",
        "Print the version of this program, and of the engine when it answers.",
        examples: ["martlet version", "martlet version -o json"]
    )
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    init() {}

    func execute(_ client: EngineClient) async throws {
        var engine: String?
        do {
            let answer = try await client.exchange(
                APIRequest("GET", ["engine"]),
                seconds: min(1, client.settings.timeout)
            )
            engine = answer["version"]?.stringValue
        } catch is CommandFailure {}  // An engine that does not run is no fault here.
        let value: JSONValue = [
            "client": .string(client.session.version), "engine": engine.map { .string($0) } ?? .null,
        ]
        try client.print(value) {
            "martlet \(client.session.version)\n" + (engine.map { "engine \(Sanitizer.clean($0))\n" } ?? "")
        }
    }
}

struct CompletionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.client(
        "completion",
        "Print the completion script of a shell.",
        discussion: """
            The script also completes names of what exists, by asking the engine.

            bash: martlet completion bash > ~/.local/share/bash-completion/completions/martlet
            zsh: martlet completion zsh > a folder of $fpath, as _martlet
            fish: martlet completion fish > ~/.config/fish/completions/martlet.fish
            """,
        examples: ["martlet completion bash", "source <(martlet completion bash)"]
    )
    @Argument(help: "bash, zsh or fish.", completion: .list(["bash", "zsh", "fish"])) var shell: String

    init() {}

    func run() async throws {
        let session = try Session.current
        guard let shell = CompletionShell(rawValue: shell.lowercased()) else {
            throw CommandFailure.usage("no completion for '\(shell)'", fix: "use bash, zsh or fish")
        }
        try session.output.write((session.root.completionScript(for: shell) + "\n").utf8)
    }
}

struct DocCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.client(
        "doc",
        "Write a reference of all commands as Markdown, one file a command group.",
        examples: ["martlet doc --output-dir ./docs/reference"]
    )
    @Option(name: .long, help: "Folder for the files; made when it is not there.", completion: .directory)
    var outputDir = "./docs"

    init() {}

    func run() async throws {
        let session = try Session.current
        do {
            try FileManager.default.createDirectory(atPath: outputDir, withIntermediateDirectories: true)
            let root = session.root
            let name = root.configuration.commandName ?? "martlet"
            var files = ["\(name).md": page(root, root: root, path: [name], isDeep: false)]
            for group in root.configuration.subcommands where group.configuration.shouldDisplay {
                let word = group._commandName
                files["\(name)-\(word).md"] = page(group, root: root, path: [name, word], isDeep: true)
            }
            for (file, text) in files.sorted(by: { $0.key < $1.key }) {
                try Data(text.utf8).write(to: URL(fileURLWithPath: outputDir + "/" + file))
                try session.output.line(outputDir + "/" + file)
            }
        } catch let error as CocoaError {
            throw CommandFailure(.failure, "cannot write to \(outputDir): \(error.localizedDescription)")
        }
    }

    private func page(
        _ command: any ParsableCommand.Type,
        root: any ParsableCommand.Type,
        path: [String],
        isDeep: Bool
    ) -> String {
        let level = String(repeating: "#", count: min(6, path.count))
        let help = root.helpMessage(for: command, includeHidden: false, columns: 100)
        var text = "\(level) \(path.joined(separator: " "))\n\n```\n\(help)\n```\n"
        guard isDeep else { return text }
        for sub in command.configuration.subcommands where sub.configuration.shouldDisplay {
            text += "\n" + page(sub, root: root, path: path + [sub._commandName], isDeep: true)
        }
        return text
    }
}
