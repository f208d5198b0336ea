// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

/// A word that should name a command and names none.
enum UnknownCommand {
    /// The refusal for the first such word, with the command that was probably meant; nil where every word fits.
    static func failure(_ arguments: [String], root: any ParsableCommand.Type) -> CommandFailure? {
        var group = root
        var path = "martlet"
        for word in arguments {
            let commands = group.configuration.subcommands
            // What stands behind a command of its own, or behind an option, is no name of a command.
            guard !commands.isEmpty, group.configuration.defaultSubcommand == nil, !word.hasPrefix("-"), word != "help"
            else { return nil }
            if let found = commands.first(where: { names($0).contains(word) }) {
                group = found
                path += " \(word)"
                continue
            }
            let near = NearestName.of(word, among: commands.flatMap(names))
            return .usage(
                "there is no command '\(path) \(word.prefix(60))'",
                fix: near.map { "did you mean: \(path) \($0)" } ?? "list them with: \(path) --help"
            )
        }
        return nil
    }

    private static func names(_ command: any ParsableCommand.Type) -> [String] {
        [command.configuration.commandName].compactMap(\.self) + command.configuration.aliases
    }
}
