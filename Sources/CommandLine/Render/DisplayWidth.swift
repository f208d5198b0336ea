// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How many columns of a terminal text takes.
package enum DisplayWidth {
    /// Columns of a whole text without line feeds and tabs.
    package static func of(_ text: some StringProtocol) -> Int {
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return text.utf8.count }
        return text.reduce(0) { $0 + of($1) }
    }

    /// Columns of one character as a person sees it: 0, 1 or 2.
    package static func of(_ character: Character) -> Int {
        var width = 0
        for scalar in character.unicodeScalars {
            if scalar.value == 0xFE0F { return 2 }
            width = max(width, of(scalar))
        }
        return width
    }

    /// Cuts text to `columns`, ending in `…` when something was cut.
    package static func truncate(_ text: String, to columns: Int, mark: String = "…") -> String {
        guard of(text) > columns else { return text }
        let room = columns - of(mark)
        guard room >= 0 else { return "" }
        var kept = ""
        var used = 0
        for character in text {
            let width = of(character)
            guard used + width <= room else { break }
            kept.append(character)
            used += width
        }
        return kept + mark
    }

    /// Fills text with spaces up to `columns`.
    package static func pad(_ text: String, to columns: Int, right: Bool = false) -> String {
        let fill = String(repeating: " ", count: max(0, columns - of(text)))
        return right ? fill + text : text + fill
    }

    private static func of(_ scalar: Unicode.Scalar) -> Int {
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark, .format, .control: return 0
        default: break
        }
        if scalar.properties.isEmojiPresentation { return 2 }
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF,
            0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF01...0xFF60, 0xFFE0...0xFFE6,
            0x16FE0...0x18AFF, 0x1AFF0...0x1B2FF, 0x1F200...0x1F2FF, 0x20000...0x3FFFD:
            return 2
        case 0x1160...0x11FF: return 0
        default: return 1
        }
    }
}
