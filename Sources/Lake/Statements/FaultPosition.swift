// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Where in a statement a fault is, as DuckDB's message says with an excerpt and a caret below it.
struct FaultPosition: Equatable {
    /// Line of the statement, from 1.
    let line: Int
    /// Character of that line, from 1; nil where the excerpt cannot be found in it.
    let column: Int?

    /// Reads `LINE 3: … foo(2)` and the caret in the line below; nil for a message that names no place.
    init?(message: String, sql: String) {
        let lines = message.split(separator: "\n", omittingEmptySubsequences: false)
        guard let index = lines.lastIndex(where: { $0.hasPrefix("LINE ") }),
            let colon = lines[index].firstIndex(of: ":"),
            let line = Int(lines[index][..<colon].dropFirst(5)), line > 0
        else { return nil }
        self.line = line
        let prefix = lines[index].distance(from: lines[index].startIndex, to: colon) + 2
        guard index + 1 < lines.count, let caret = lines[index + 1].firstIndex(of: "^") else {
            column = nil
            return
        }
        let place = lines[index + 1].distance(from: lines[index + 1].startIndex, to: caret) - prefix
        var excerpt = lines[index].dropFirst(prefix)
        var cut = 0
        if excerpt.hasPrefix("...") {
            excerpt = excerpt.dropFirst(3)
            cut = 3
        }
        if excerpt.hasSuffix("...") { excerpt = excerpt.dropLast(3) }
        let texts = sql.split(separator: "\n", omittingEmptySubsequences: false)
        guard line <= texts.count, place >= cut, let range = texts[line - 1].firstRange(of: excerpt) else {
            column = nil
            return
        }
        let text = texts[line - 1]
        column = text.distance(from: text.startIndex, to: range.lowerBound) + place - cut + 1
    }
}
