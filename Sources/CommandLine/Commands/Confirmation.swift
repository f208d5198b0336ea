// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// The option of commands that take away what cannot be brought back: they do nothing before somebody has agreed.
struct Confirmation: ParsableArguments {
    @Flag(
        name: [.short, .long, .customShort("y"), .customLong("yes")],
        help: "Do not ask; needed where no terminal is there to answer."
    )
    var force = false

    /// Asks `question`, which only yes agrees to; `refusal` is what did not happen otherwise.
    ///
    /// Without a terminal there is nobody to ask, and silence agrees to nothing: the command line then has to. A dry run changes nothing.
    func require(
        _ client: EngineClient,
        refusal: String,
        question: () async throws -> String
    ) async throws {
        if force || client.options.dryRun { return }
        let session = client.session
        guard session.inputIsTerminal, session.diagnostics.isTerminal else {
            throw CommandFailure.usage(
                "\(refusal): this cannot be undone, and there is no terminal to ask on",
                fix: "add --force where it is meant"
            )
        }
        try session.diagnostics.write("\(Sanitizer.clean(try await question())) [y/N] ".utf8)
        guard ["y", "yes"].contains((readLine() ?? "").lowercased()) else { throw CommandFailure(.failure, refusal) }
    }
}
