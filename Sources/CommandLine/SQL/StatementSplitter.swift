// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Finds the ends of SQL statements in text, as DuckDB's lexer would.
package enum StatementSplitter {
    /// The statements that end in a semicolon, without it, and what follows the last one.
    ///
    /// Statements of nothing but space and comments are left out.
    package static func split(_ text: String) -> (statements: [String], rest: String) {
        let bytes = Array(text.utf8)
        var statements: [String] = []
        var start = 0
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: ";") {
                add(bytes[start..<index], to: &statements)
                index += 1
                start = index
            } else {
                index = end(of: bytes, at: index)
            }
        }
        return (statements, String(decoding: bytes[start...], as: UTF8.self))
    }

    /// All statements of a text, the last of which needs no semicolon.
    package static func all(_ text: String) -> [String] {
        var (statements, rest) = split(text)
        add(Array(rest.utf8)[...], to: &statements)
        return statements
    }

    /// Whether there is nothing but space and comments.
    package static func isBlank(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            let next = end(of: bytes, at: index)
            let isComment = next - index >= 2 && (bytes[index] == 0x2D || bytes[index] == 0x2F)
            guard isComment || bytes[index] <= 0x20 else { return false }
            index = next
        }
        return true
    }

    private static func add(_ bytes: ArraySlice<UInt8>, to statements: inout [String]) {
        let text = String(decoding: bytes, as: UTF8.self)
        guard !isBlank(text) else { return }
        statements.append(String(text.trimmingPrefix(while: \.isWhitespace).reversedTrimmed()))
    }

    /// Where the quoted text, comment or single byte at `index` ends.
    private static func end(of bytes: [UInt8], at index: Int) -> Int {
        let next = index + 1 < bytes.count ? bytes[index + 1] : 0
        switch (bytes[index], next) {
        case (0x27, _): return quoted(bytes, from: index, by: 0x27, escapes: isEscapeString(bytes, index))
        case (0x22, _): return quoted(bytes, from: index, by: 0x22, escapes: false)
        case (0x2D, 0x2D): return bytes[index...].firstIndex(of: 0x0A) ?? bytes.count
        case (0x2F, 0x2A): return comment(bytes, from: index)
        case (0x24, _): return dollarQuoted(bytes, from: index)
        default: return index + 1
        }
    }

    private static func quoted(_ bytes: [UInt8], from start: Int, by quote: UInt8, escapes: Bool) -> Int {
        var index = start + 1
        while index < bytes.count {
            if escapes, bytes[index] == 0x5C {
                index += 2
            } else if bytes[index] == quote {
                // A doubled quote begins another quoted text right here, which comes to the same.
                return index + 1
            } else {
                index += 1
            }
        }
        return bytes.count
    }

    /// `E'…'`, in which a backslash escapes.
    private static func isEscapeString(_ bytes: [UInt8], _ index: Int) -> Bool {
        guard index > 0, bytes[index - 1] | 0x20 == 0x65 else { return false }
        return index == 1 || !isWord(bytes[index - 2])
    }

    private static func comment(_ bytes: [UInt8], from start: Int) -> Int {
        var depth = 1
        var index = start + 2
        while index + 1 < bytes.count {
            switch (bytes[index], bytes[index + 1]) {
            case (0x2A, 0x2F): depth -= 1
            case (0x2F, 0x2A): depth += 1
            default:
                index += 1
                continue
            }
            index += 2
            if depth == 0 { return index }
        }
        return bytes.count
    }

    /// `$tag$…$tag$`; a `$1` is a parameter.
    private static func dollarQuoted(_ bytes: [UInt8], from start: Int) -> Int {
        var end = start + 1
        while end < bytes.count, isWord(bytes[end]) { end += 1 }
        guard end < bytes.count, bytes[end] == 0x24, !(0x30...0x39).contains(bytes[start + 1]),
            start == 0 || !isWord(bytes[start - 1])
        else { return start + 1 }
        let mark = bytes[start...end]
        guard let close = bytes[(end + 1)...].firstRange(of: mark) else { return bytes.count }
        return close.upperBound
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        byte == 0x5F || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte & 0xDF) || byte >= 0x80
    }
}

extension Substring {
    fileprivate func reversedTrimmed() -> Substring {
        var text = self
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }
}
