// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The YAML 1.2 core schema for plain scalars.
enum CoreSchema {
    /// Whether a plain scalar is null.
    static func isNull(_ text: String) -> Bool {
        text.isEmpty || text == "~" || text == "null" || text == "Null" || text == "NULL"
    }

    /// The boolean a scalar stands for.
    static func bool(_ text: String) -> Bool? {
        switch text {
        case "true", "True", "TRUE": true
        case "false", "False", "FALSE": false
        default: nil
        }
    }

    /// The integer a scalar stands for; nil also where it needs more than 64 bits.
    static func int(_ text: String) -> Int64? {
        if text.hasPrefix("0x") { return digits(text.dropFirst(2)).flatMap { Int64($0, radix: 16) } }
        if text.hasPrefix("0o") { return digits(text.dropFirst(2)).flatMap { Int64($0, radix: 8) } }
        guard let last = text.utf8.last, (0x30...0x39).contains(last) else { return nil }
        return Int64(text)
    }

    /// The number a scalar stands for.
    static func double(_ text: String) -> Double? {
        switch text {
        case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF": return .infinity
        case "-.inf", "-.Inf", "-.INF": return -.infinity
        case ".nan", ".NaN", ".NAN": return .nan
        default: break
        }
        let allowed = text.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || byte == 0x2E || byte == 0x2B || byte == 0x2D || byte == 0x65 || byte == 0x45
        }
        guard allowed, text.utf8.contains(where: { (0x30...0x39).contains($0) }) else { return nil }
        return Double(text).flatMap { $0.isFinite ? $0 : nil }
    }

    private static func digits(_ text: Substring) -> Substring? {
        guard let first = text.utf8.first, first != 0x2B, first != 0x2D else { return nil }
        return text
    }
}
