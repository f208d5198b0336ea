// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// How results are written to standard output.
enum OutputFormat: String, Sendable, CaseIterable, ExpressibleByArgument {
    case human
    case json
    case yaml
    case csv

    init?(argument: String) {
        switch argument.lowercased() {
        case "table", "text": self = .human
        case "yml": self = .yaml
        case let word: self.init(rawValue: word)
        }
    }

    static var allValueStrings: [String] { ["human", "json", "yaml"] }
}

/// Options every client command has; they may also stand before the first word of the command.
struct GlobalOptions: ParsableArguments {
    @Option(name: [.short, .long], help: "How to print results: human, json or yaml (sql also: table, csv).")
    var output: OutputFormat?

    @Flag(name: .long, help: "Print the request instead of sending it.")
    var dryRun = false

    @Flag(name: [.short, .long], help: "Show requests and answers on standard error; twice also their bodies.")
    var verbose: Int

    @Flag(name: .long, help: "No progress, notes or confirmations; errors and what was asked for remain.")
    var silent = false

    @Option(name: .long, help: "Address of the engine (default http://127.0.0.1:8070, or MARTLET_SERVER).")
    var server: String?

    @Option(name: .long, help: "Bearer token (or MARTLET_TOKEN, which other users of the machine cannot see).")
    var token: String?

    @Option(name: .long, help: "Seconds to wait for an answer (default 60).")
    var timeout: Double?

    init() {}

    /// Names of the options that take a value.
    static let valued: Set<String> = ["-o", "--output", "--server", "--token", "--timeout"]
    /// Names of the flags.
    static let flags: Set<String> = ["--dry-run", "-v", "--verbose", "--silent"]
}
