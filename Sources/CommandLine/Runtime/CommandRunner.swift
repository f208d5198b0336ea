// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser
import Foundation

/// Parses a command line, runs it, and turns whatever happens into text and an exit code.
package enum CommandRunner {
    /// Runs `arguments` (without the program's name) against the root command of `session`.
    package static func run(_ arguments: [String], session: Session) async -> CommandStatus {
        await session.run {
            do {
                var command = try await parse(arguments, root: session.root)
                if var asynchronous = command as? any AsyncParsableCommand {
                    try await asynchronous.run()
                } else {
                    try command.run()
                }
                return .success
            } catch {
                if session.root.exitCode(for: error) == .validationFailure,
                    let unknown = UnknownCommand.failure(rewrite(arguments), root: session.root)
                {
                    return report(unknown, session: session)
                }
                return report(error, session: session)
            }
        }
    }

    /// The command that `arguments` stand for, parsed and checked, not run.
    package static func parse(_ arguments: [String], root: any AsyncParsableCommand.Type) async throws
        -> any ParsableCommand
    {
        try await root.asyncParseAsRoot(rewrite(arguments))
    }

    /// Moves global options that stand before the command behind it, and reads `-v 3` as three times `-v`.
    static func rewrite(_ arguments: [String]) -> [String] {
        if arguments == ["--version"] { return ["version"] }
        if arguments.first == "---completion" { return arguments }
        var rest = arguments[...]
        var moved: [String] = []
        while let first = rest.first, first.hasPrefix("-") {
            let name = first.prefix { $0 != "=" }
            if GlobalOptions.valued.contains(String(name)) {
                let count = first.contains("=") ? 1 : 2
                moved += rest.prefix(count)
                rest = rest.dropFirst(count)
            } else if GlobalOptions.flags.contains(String(name)) {
                let takesDigit = isVerbose(first) && rest.count > 2 && isDigit(rest[rest.startIndex + 1])
                moved += rest.prefix(takesDigit ? 2 : 1)
                rest = rest.dropFirst(takesDigit ? 2 : 1)
            } else {
                break
            }
        }
        if rest.isEmpty { return moved }
        let end = rest.firstIndex(of: "--") ?? rest.endIndex
        return verbosity(Array(rest[..<end]) + moved) + rest[end...]
    }

    private static func verbosity(_ arguments: [String]) -> [String] {
        var result: [String] = []
        var index = 0
        while index < arguments.count {
            let word = arguments[index]
            index += 1
            if word.hasPrefix("--verbose="), let count = Int(word.dropFirst(10)), (0...9).contains(count) {
                result += Array(repeating: "--verbose", count: count)
            } else if isVerbose(word), index < arguments.count, isDigit(arguments[index]) {
                result += Array(repeating: "--verbose", count: Int(arguments[index]) ?? 1)
                index += 1
            } else {
                result.append(word)
            }
        }
        return result
    }

    private static func isVerbose(_ word: String) -> Bool { word == "-v" || word == "--verbose" }

    private static func isDigit(_ word: String) -> Bool {
        word.utf8.count == 1 && word.first?.isASCII == true && word.first?.isNumber == true
    }

    private static func report(_ error: any Error, session: Session) -> CommandStatus {
        let style = Style(for: session.diagnostics, environment: session.environment)
        switch error {
        case is Output.Closed: return .outputClosed
        case is CancellationError: return .interrupted
        case let failure as CommandFailure:
            return say(failure.text(style: style), status: failure.status, session: session)
        default:
            let root = session.root
            let code = root.exitCode(for: error)
            let text = root.fullMessage(for: error)
            guard code == .success else {
                let status: CommandStatus = code == .validationFailure ? .usage : .failure
                return text.isEmpty ? status : say(text, status: status, session: session)
            }
            do {
                if !text.isEmpty { try session.output.line(text) }
                return .success
            } catch {
                return report(error, session: session)
            }
        }
    }

    private static func say(_ text: String, status: CommandStatus, session: Session) -> CommandStatus {
        try? session.diagnostics.line(text)  // With standard error gone the exit code is all that is left.
        return status
    }
}
