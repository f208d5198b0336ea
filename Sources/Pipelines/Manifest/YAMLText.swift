// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Block-style YAML under construction.
struct YAMLText {
    private(set) var text = ""
    private var depth = 0
    /// True where the next line starts a list entry.
    private var isEntryStart = false

    /// Writes a text, quoted where it needs it.
    mutating func field(_ key: String, _ value: String) {
        raw(key, Self.quoted(value))
    }

    /// Writes a value that is YAML already.
    mutating func raw(_ key: String, _ value: String) {
        line("\(Self.quoted(key)): \(value)")
    }

    /// Writes a list of texts on one line.
    mutating func list(_ key: String, _ values: [String]) {
        raw(key, "[\(values.map(Self.quoted).joined(separator: ", "))]")
    }

    /// Starts a nested mapping.
    mutating func open(_ key: String) {
        line("\(Self.quoted(key)):")
        depth += 1
    }

    /// Ends a nested mapping.
    mutating func close() {
        depth -= 1
    }

    /// Writes a list of mappings, each with at least one field.
    mutating func entries<T>(_ key: String, _ values: [T], _ write: (T, inout YAMLText) -> Void) {
        guard !values.isEmpty else { return raw(key, "[]") }
        open(key)
        for value in values {
            isEntryStart = true
            depth += 1
            write(value, &self)
            depth -= 1
        }
        close()
    }

    private mutating func line(_ content: String) {
        text += String(repeating: "  ", count: isEntryStart ? depth - 1 : depth)
        if isEntryStart { text += "- " }
        isEntryStart = false
        text += content + "\n"
    }

    /// Words that some YAML reader takes for something other than text.
    private static let reserved: Set<String> = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
    ]

    static func quoted(_ value: String) -> String {
        let isPlain =
            value.utf8.first.map { (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) } ?? false
            && value.utf8.last != 0x3A
            && value.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || byte == 0x5F || byte == 0x2D || byte == 0x2E || byte == 0x2F || byte == 0x3A
            }
        if isPlain, !reserved.contains(value.lowercased()) { return value }
        var quoted = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case "\u{20}"..."\u{7E}", "\u{A0}"..."\u{2027}", "\u{202A}"..."\u{D7FF}", "\u{E000}"..."\u{FDCF}",
                "\u{FDF0}"..."\u{FEFE}", "\u{FF00}"..."\u{FFFD}":
                quoted.unicodeScalars.append(scalar)
            default:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
            }
        }
        return quoted + "\""
    }
}
