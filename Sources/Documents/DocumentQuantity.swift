// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Amounts as documents write them: `100m` and `0.5` of a core, `128Mi` and `1G` of bytes, `500ms`, `30d` and `2` seconds.
package enum DocumentQuantity {
    /// Thousandths of a core; nil where the text is none.
    package static func cpuMillis(_ value: JSONValue) -> Int? {
        guard let text = plain(value) else { return nil }
        if text.hasSuffix("m") { return number(text.dropLast(), scale: 1).flatMap { Int(exactly: $0) } }
        return number(text[...], scale: 1000).flatMap { Int(exactly: $0.rounded()) }
    }

    /// Bytes; nil where the text is none.
    package static func bytes(_ value: JSONValue) -> Int64? {
        guard let text = plain(value) else { return nil }
        let unitStart = text.firstIndex { $0.isLetter && !($0 == "e" || $0 == "E") } ?? text.endIndex
        guard let scale = byteUnits[String(text[unitStart...])] else { return nil }
        return number(text[..<unitStart], scale: scale).flatMap { Int64(exactly: $0.rounded()) }
    }

    /// Milliseconds, from a number of seconds or a text with a unit; nil where the text is none.
    package static func milliseconds(_ value: JSONValue) -> Int? {
        guard let text = plain(value) else { return nil }
        let unitStart = text.firstIndex { $0.isLetter } ?? text.endIndex
        guard let scale = timeUnits[String(text[unitStart...])] else { return nil }
        return number(text[..<unitStart], scale: scale).flatMap { Int(exactly: $0.rounded()) }
    }

    /// The shortest way to write thousandths of a core.
    package static func cpuText(_ millis: Int) -> String {
        millis % 1000 == 0 ? String(millis / 1000) : "\(millis)m"
    }

    /// The largest whole unit that writes a number of bytes.
    package static func bytesText(_ bytes: Int64) -> String {
        if bytes == 0 { return "0" }
        for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] as [(Int64, String)]
        where bytes % (1 << shift) == 0 {
            return "\(bytes >> shift)\(unit)"
        }
        return String(bytes)
    }

    private static func plain(_ value: JSONValue) -> String? {
        switch value {
        case .int(let number): String(number)
        case .double(let number): number.description
        case .number(let text): text
        case .string(let text): DocumentReader.trim(text)
        default: nil
        }
    }

    private static func number(_ text: Substring, scale: Double) -> Double? {
        let trimmed = DocumentReader.trim(text)
        guard let first = trimmed.utf8.first, (0x30...0x39).contains(first) || first == 0x2E else { return nil }
        guard trimmed.utf8.allSatisfy({ (0x2B...0x39).contains($0) || $0 == 0x65 || $0 == 0x45 }) else { return nil }
        guard let number = Double(trimmed), number.isFinite else { return nil }
        return number * scale
    }

    private static let byteUnits: [String: Double] = [
        "": 1, "B": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
        "TB": 1e12, "Ki": 1_024, "Mi": 1_048_576, "Gi": 1_073_741_824, "Ti": 1_099_511_627_776, "KiB": 1_024,
        "MiB": 1_048_576, "GiB": 1_073_741_824, "TiB": 1_099_511_627_776,
    ]

    private static let timeUnits: [String: Double] = [
        "": 1000, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000,
        "w": 604_800_000,
    ]
}
