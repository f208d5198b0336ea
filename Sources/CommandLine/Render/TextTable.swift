// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Rows under titles, in columns two spaces apart.
package struct TextTable: Sendable {
    /// One column.
    package struct Column: Sendable {
        /// What stands above.
        package var title: String
        /// Numbers stand at the right.
        package var isRight: Bool
        /// Whether text may be cut where the terminal is too narrow.
        package var isFlexible: Bool
        /// Whether values take the colour of a status.
        package var isStatus: Bool

        package init(_ title: String, isRight: Bool = false, isFlexible: Bool = false, isStatus: Bool = false) {
            self.title = title
            self.isRight = isRight
            self.isFlexible = isFlexible
            self.isStatus = isStatus
        }
    }

    package var columns: [Column]
    package var rows: [[String]]

    /// Makes a table; control characters in cells are escaped, missing cells are empty.
    package init(columns: [Column], rows: [[String]]) {
        self.columns = columns
        self.rows = rows.map { row in
            columns.indices.map { $0 < row.count ? Sanitizer.clean(row[$0]).replacing("\t", with: "    ") : "" }
        }
    }

    /// The lines, each ended by a line feed; `width` nil cuts nothing.
    package func text(width: Int?, style: Style) -> String {
        let widths = fit(natural(), into: width)
        var text = ""
        let titles = columns.indices.map { cell(columns[$0].title, column: $0, width: widths[$0]) }
        text += style.bold(joined(titles)) + "\n"
        for row in rows {
            let cells = columns.indices.map { index in
                let padded = cell(row[index], column: index, width: widths[index])
                return columns[index].isStatus ? style.status(padded) : padded
            }
            text += joined(cells) + "\n"
        }
        return text
    }

    private func joined(_ cells: [String]) -> String {
        var line = cells.joined(separator: "  ")
        while line.last == " " { line.removeLast() }
        return line
    }

    private func cell(_ text: String, column: Int, width: Int) -> String {
        DisplayWidth.pad(DisplayWidth.truncate(text, to: width), to: width, right: columns[column].isRight)
    }

    private func natural() -> [Int] {
        columns.indices.map { index in
            rows.reduce(DisplayWidth.of(columns[index].title)) { max($0, DisplayWidth.of($1[index])) }
        }
    }

    /// Takes columns from the widest flexible one until the line fits; no column gets narrower than eight.
    private func fit(_ natural: [Int], into width: Int?) -> [Int] {
        guard let width else { return natural }
        var widths = natural
        var excess = widths.reduce(0, +) + 2 * max(0, widths.count - 1) - width
        let anyFlexible = columns.contains(where: \.isFlexible)
        while excess > 0 {
            let candidates = widths.indices.filter { widths[$0] > 8 && (columns[$0].isFlexible || !anyFlexible) }
            guard let widest = candidates.max(by: { widths[$0] < widths[$1] }) else { break }
            let second = candidates.filter { $0 != widest }.map { widths[$0] }.max() ?? 8
            let cut = min(excess, max(1, widths[widest] - max(second, 8)))
            widths[widest] -= cut
            excess -= cut
        }
        return widths
    }
}

/// Labels and values under each other, values in one column.
package struct FieldList: Sendable {
    package private(set) var fields: [(label: String, value: String)] = []

    package init() {}

    /// Adds a field; an absent or empty value adds none.
    package mutating func add(_ label: String, _ value: String?) {
        guard let value, !value.isEmpty else { return }
        fields.append((label, value))
    }

    /// The lines, each ended by a line feed.
    package func text(style: Style) -> String {
        let width = (fields.map { DisplayWidth.of($0.label) }.max() ?? 0) + 1
        var text = ""
        for field in fields {
            let label = style.dim(DisplayWidth.pad(field.label + ":", to: width))
            let lines = field.value.split(separator: "\n", omittingEmptySubsequences: false)
            for (index, line) in lines.enumerated() {
                let value =
                    ["Status", "State"].contains(field.label)
                    ? style.status(Sanitizer.clean(line)) : Sanitizer.clean(line)
                text += index == 0 ? "\(label) \(value)\n" : String(repeating: " ", count: width + 1) + value + "\n"
            }
        }
        return text
    }
}
