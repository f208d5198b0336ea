// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Colours, or none of them.
package struct Style: Sendable, Equatable {
    package let isEnabled: Bool
    /// Whether lines and bars may use characters outside ASCII.
    package let isUnicode: Bool

    package init(isEnabled: Bool, isUnicode: Bool = true) {
        self.isEnabled = isEnabled
        self.isUnicode = isUnicode
    }

    /// Colours only on a terminal that can show them, and never with `NO_COLOR` set to anything.
    package init(for output: Output, environment: [String: String]) {
        let refused = environment["NO_COLOR"].nonEmpty != nil || environment["TERM"] == "dumb"
        let locale = environment["LC_ALL"].nonEmpty ?? environment["LC_CTYPE"].nonEmpty ?? environment["LANG"].nonEmpty
        self.init(isEnabled: output.isTerminal && !refused, isUnicode: locale != "C" && locale != "POSIX")
    }

    /// Heavy text.
    package func bold(_ text: String) -> String { wrap(text, "1") }
    /// Faint text.
    package func dim(_ text: String) -> String { wrap(text, "2") }
    /// Text for errors.
    package func red(_ text: String) -> String { wrap(text, "31") }
    /// Text for what is well.
    package func green(_ text: String) -> String { wrap(text, "32") }
    /// Text for warnings.
    package func yellow(_ text: String) -> String { wrap(text, "33") }
    /// Text for names of sources.
    package func cyan(_ text: String) -> String { wrap(text, "36") }

    /// The colour of a chart's line, the same as in its legend.
    package func series(_ text: String, _ number: Int) -> String {
        let codes = ["36", "33", "35", "32", "34", "31", "96", "93", "95", "92"]
        return wrap(text, codes[number % codes.count])
    }

    /// The colour a status or severity is known by; `text` may be padded.
    package func status(_ text: String) -> String {
        guard isEnabled else { return text }
        switch text.filter({ $0 != " " }).uppercased() {
        case "READY", "RUNNING", "OK", "SUCCESS": return green(text)
        case "FAILURE", "FAILED", "ERROR", "CRITICAL", "FATAL": return red(text)
        case "INPROGRESS", "SCANNING", "PAUSED", "WARNING", "WARN": return yellow(text)
        case "DEBUG", "TRACE", "DRAFT", "UNSET": return dim(text)
        default: return text
        }
    }

    private func wrap(_ text: String, _ code: String) -> String {
        isEnabled ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}

/// Takes the teeth out of text from elsewhere, so that a name or a log line cannot steer the terminal.
package enum Sanitizer {
    /// Shows control characters as escapes; tabs stay.
    package static func clean(_ text: some StringProtocol) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return String(text) }
        var clean = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            guard isControl(scalar) else {
                clean.append(scalar)
                continue
            }
            switch scalar {
            case "\n": clean.append(contentsOf: "\\n".unicodeScalars)
            case "\r": clean.append(contentsOf: "\\r".unicodeScalars)
            default:
                let digits = String(scalar.value, radix: 16)
                clean.append(contentsOf: "\\u{\(digits)}".unicodeScalars)
            }
        }
        return String(clean)
    }

    /// The same line by line, keeping the line feeds.
    package static func cleanLines(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { isControl($0) && $0 != "\n" }) else { return text }
        return text.replacing("\r\n", with: "\n").split(separator: "\n", omittingEmptySubsequences: false)
            .map { clean($0) }.joined(separator: "\n")
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09: false
        case 0x00...0x1F, 0x7F...0x9F, 0x200E...0x200F, 0x202A...0x202E, 0x2066...0x2069: true
        default: false
        }
    }
}
