// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// What a person types without seeing it.
enum HiddenInput {
    /// Asks on the terminal for one line.
    static func ask(_ question: String, _ session: Session) throws -> String {
        try session.diagnostics.write(question.utf8)
        var settings = termios()
        guard tcgetattr(session.input, &settings) == 0 else {
            throw CommandFailure(.failure, "the terminal cannot be told to show nothing", fix: "use --password-file")
        }
        let before = settings
        settings.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(session.input, TCSAFLUSH, &settings)
        defer {
            var settings = before
            tcsetattr(session.input, TCSAFLUSH, &settings)
        }
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while read(session.input, &byte, 1) == 1, byte != 0x0A { line.append(byte) }
        try session.diagnostics.write("\n".utf8)
        guard let text = String(validating: line, as: UTF8.self), !text.isEmpty else {
            throw CommandFailure(.refused, "no password was typed")
        }
        return text
    }
}
