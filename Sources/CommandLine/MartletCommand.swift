// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Foundation

/// The command-line client, to be put under a root command.
///
/// The executable declares the root and adds commands of its own, such as `serve`:
/// ```swift
/// @main struct Martlet: AsyncParsableCommand {
///     static let configuration = MartletCommand.configuration(adding: [Serve.self])
///     static func main() async { await MartletCommand.main(Self.self, workshop: Workshop(), version: "0.1.0") }
/// }
/// ```
package enum MartletCommand {
    /// The commands that only need the API, in the order help shows them.
    package static var clientCommands: [any ParsableCommand.Type] {
        [
            ViewsCommand.self, ElementsCommand.self, TriggersCommand.self, FunctionsCommand.self, PipelinesCommand.self,
            TopicsCommand.self, GroupsCommand.self, KafkaCommand.self, SecretsCommand.self, DeadLettersCommand.self,
            TablesCommand.self,
            SQLCommand.self,
            LogsCommand.self, TracesCommand.self, MetricsCommand.self, EngineCommand.self, ConfigCommand.self,
            CompletionCommand.self,
            VersionCommand.self, DocCommand.self,
        ]
    }

    /// The configuration of the root command: `commands` first, then the client's.
    package static func configuration(adding commands: [any ParsableCommand.Type]) -> CommandConfiguration {
        CommandConfiguration(
            commandName: "martlet",
            abstract: "A self-hosted data engine: events in, functions run, rows kept, and what happened shown.",
            discussion: """
                Start the engine with 'martlet serve'; every other command talks to it at --server, MARTLET_SERVER or \
                http://127.0.0.1:8070.

                Exit codes: 0 done, 1 failed, 2 wrong command line, 3 not found, 4 input refused, 5 engine not reachable, \
                6 not allowed, 7 conflict or in use, 8 took too long, 130 interrupted.
                """,
            subcommands: commands + clientCommands
        )
    }

    /// Runs this process's command line and ends the process.
    package static func main(
        _ root: any AsyncParsableCommand.Type,
        workshop: any FunctionWorkshop,
        version: String
    ) async -> Never {
        signal(SIGPIPE, SIG_IGN)
        let session = Session.process(root: root, workshop: workshop, version: version)
        let status = await CommandRunner.run(Array(Swift.CommandLine.arguments.dropFirst()), session: session)
        exit(status.rawValue)
    }
}
