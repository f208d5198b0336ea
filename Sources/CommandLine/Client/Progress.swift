// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One line about what goes on, on standard error: rewritten on a terminal, appended elsewhere, absent with `--silent`.
final class Progress {
    private let client: EngineClient
    private var last = ""

    /// Makes a line that shows nothing yet.
    init(_ client: EngineClient) { self.client = client }

    /// Shows `text` in place of the text before.
    func show(_ text: String) throws {
        guard !client.options.silent, text != last else { return }
        last = text
        let diagnostics = client.session.diagnostics
        if diagnostics.isTerminal {
            let line = DisplayWidth.truncate(Sanitizer.clean(text), to: max(1, (diagnostics.columns ?? 80) - 1))
            try diagnostics.write("\r\u{1B}[2K\(line)".utf8)
        } else {
            try diagnostics.line(Sanitizer.clean(text))
        }
    }

    /// Removes the line from a terminal, so that what follows starts clean.
    func clear() throws {
        guard !client.options.silent, !last.isEmpty, client.session.diagnostics.isTerminal else { return }
        last = ""
        try client.session.diagnostics.write("\r\u{1B}[2K".utf8)
    }
}
