// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Rows in a box as wide as the terminal allows.
struct BoxTable: Sendable {
    var columns: [TextTable.Column]
    var rows: [[String]]

    /// Makes a table; control characters in cells are escaped.
    init(_ table: TextTable) {
        columns = table.columns.map { column in
            var column = column
            column.title = Sanitizer.clean(column.title).replacing("\t", with: " ")
            return column
        }
        rows = table.rows
    }

    /// The lines, each ended by a line feed; columns that do not fit even when cut are left out and counted.
    func text(width: Int?, style: Style) -> String {
        let natural = columns.indices.map { index in
            rows.reduce(max(1, DisplayWidth.of(columns[index].title))) { max($0, DisplayWidth.of($1[index])) }
        }
        let (shown, widths) = fit(natural, into: width)
        let line: [Character] = style.isUnicode ? Array("─│┌┬┐├┼┤└┴┘") : Array("-|+++++++++")
        func rule(_ left: Int, _ middle: Int, _ right: Int) -> String {
            let parts = widths.map { String(repeating: line[0], count: $0 + 2) }
            return style.dim(String(line[left]) + parts.joined(separator: String(line[middle])) + String(line[right]))
                + "\n"
        }
        let bar = style.dim(String(line[1]))
        func row(_ cells: [String]) -> String { bar + cells.map { " \($0) " }.joined(separator: bar) + bar + "\n" }
        var text = rule(2, 3, 4)
        text += row(
            zip(shown, widths).map { index, width in style.bold(cell(columns[index].title, columns[index], width)) }
        )
        text += rule(5, 6, 7)
        for values in rows {
            text += row(
                zip(shown, widths).map { index, width in
                    let cell = cell(values[index], columns[index], width)
                    return values[index] == SQLAnswer.null ? style.dim(cell) : cell
                }
            )
        }
        text += rule(8, 9, 10)
        if shown.count < columns.count {
            text +=
                style.dim(
                    "\(columns.count - shown.count) of \(columns.count) columns do not fit; see them with .mode line"
                ) + "\n"
        }
        return text
    }

    private func cell(_ text: String, _ column: TextTable.Column, _ width: Int) -> String {
        DisplayWidth.pad(DisplayWidth.truncate(text, to: width), to: width, right: column.isRight)
    }

    /// Cuts the widest columns, none below ten, and then leaves out columns before the last one.
    private func fit(_ natural: [Int], into width: Int?) -> (shown: [Int], widths: [Int]) {
        var shown = Array(natural.indices)
        guard let width else { return (shown, natural) }
        while true {
            var widths = shown.map { natural[$0] }
            let room = width - 3 * shown.count - 1
            var excess = widths.reduce(0, +) - room
            while excess > 0 {
                guard let widest = widths.indices.max(by: { widths[$0] < widths[$1] }), widths[widest] > 10 else {
                    break
                }
                let second = widths.filter { $0 < widths[widest] }.max() ?? 10
                let cut = min(excess, max(1, widths[widest] - max(second, 10)))
                widths[widest] -= cut
                excess -= cut
            }
            if excess <= 0 || shown.count == 1 { return (shown, widths.map { min($0, max(1, width - 4)) }) }
            shown.remove(at: shown.count - 1)
        }
    }
}
