// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The program that shows what is longer than the screen: `$PAGER`, or `less`.
struct Pager {
    private let command: String
    private let rows: Int
    private let columns: Int

    /// Nil where none is wanted (`PAGER` set to nothing or `cat`) or the terminal's size is not known.
    init?(_ session: Session) {
        var size = winsize()
        guard ioctl(session.output.descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 1 else { return nil }
        rows = Int(size.ws_row)
        columns = Int(size.ws_col)
        let wanted = session.environment["PAGER"] ?? "less -SRX"
        guard !wanted.isEmpty, wanted != "cat" else { return nil }
        command = wanted
    }

    /// Shows `text`; false when it fits the screen or there is no such program.
    func show(_ text: String) throws -> Bool {
        let lines = text.utf8.count { $0 == 0x0A }
        guard lines >= rows - 1, isThere else { return false }
        // The pager is told by Ctrl-C itself; this program must outlive it.
        let previous = signal(SIGINT, SIG_IGN)
        defer { signal(SIGINT, previous) }
        guard let stream = popen(command, "w") else { return false }
        var text = text
        text.withUTF8 { _ = fwrite($0.baseAddress, 1, $0.count, stream) }
        pclose(stream)
        return true
    }

    private var isThere: Bool {
        guard let program = command.split(separator: " ").first else { return false }
        if program.contains("/") { return access(String(program), X_OK) == 0 }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
    }
}
