// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Draws a chart with characters: braille dots where the terminal has them, else one character a column.
package struct TerminalChart: Sendable {
    private let chart: MetricChart
    private let style: Style
    private let width: Int
    private let rows: Int

    /// A drawing `width` columns wide with `rows` lines for the values.
    package init(_ chart: MetricChart, width: Int, rows: Int = 12, style: Style) {
        self.chart = chart
        self.style = style
        self.width = max(40, min(width, 200))
        self.rows = max(3, min(rows, 60))
    }

    /// Lines are told apart by letters where they cannot be by colour.
    private var usesLetters: Bool { !style.isUnicode || (!style.isEnabled && chart.lines.count > 1) }

    private func mark(_ line: Int) -> String {
        let letters = Array("abcdefghijklmnopqrstuvwxyz")
        if usesLetters { return chart.lines.count == 1 ? "*" : String(letters[line % letters.count]) }
        return "━"
    }

    /// Heading, plot and legend, each line ended by a line feed.
    package func text() -> String {
        let axis = chart.axis(ticks: max(2, rows / 3))
        let labels = axis.ticks.map(\.label)
        let labelWidth = max(4, labels.map { DisplayWidth.of($0) }.max() ?? 0, DisplayWidth.of(axis.unit))
        let columns = max(10, width - labelWidth - 3)
        let time = TimeAxis(since: chart.since, end: chart.end, count: max(2, columns / 12))
        var text = heading()
        if !axis.unit.isEmpty { text += style.dim(DisplayWidth.pad(axis.unit, to: labelWidth, right: true)) + "\n" }
        let plot = usesLetters ? letters(columns, axis, time) : braille(columns, axis, time)
        var marks: [Int: String] = [:]
        for tick in axis.ticks {
            let share = (tick.value - axis.low) / (axis.high - axis.low)
            marks[rows - 1 - Int((share * Double(rows - 1)).rounded())] = tick.label
        }
        for (row, line) in plot.enumerated() {
            let label = DisplayWidth.pad(marks[row] ?? "", to: labelWidth, right: true)
            let edge = style.isUnicode ? (marks[row] == nil ? "│" : "┤") : (marks[row] == nil ? "|" : "+")
            text += style.dim("\(label) \(edge)") + line + "\n"
        }
        text += timeLines(time, columns, indent: labelWidth + 1)
        return text + legend()
    }

    private func heading() -> String {
        let rest = "  \(chart.meaning)  \(chart.span)"
        return style.bold(chart.name)
            + style.dim(DisplayWidth.truncate(rest, to: max(0, width - DisplayWidth.of(chart.name))))
            + "\n"
    }

    private func timeLines(_ time: TimeAxis, _ columns: Int, indent: Int) -> String {
        var ruler = [Character](repeating: style.isUnicode ? "─" : "-", count: columns)
        var labels = [Character](repeating: " ", count: columns + 8)
        var free = 0
        for tick in time.ticks {
            let column = min(columns - 1, Int(time.share(tick.micros) * Double(columns)))
            let start = max(0, column - tick.label.count / 2)
            guard start >= free, start + tick.label.count <= columns + 2 else { continue }
            ruler[column] = style.isUnicode ? "┬" : "+"
            for (offset, character) in tick.label.enumerated() { labels[start + offset] = character }
            free = start + tick.label.count + 2
        }
        var below = String(labels)
        while below.last == " " { below.removeLast() }
        let space = String(repeating: " ", count: indent)
        let corner = style.isUnicode ? "└" : "+"
        return style.dim(space + corner + String(ruler)) + "\n" + style.dim(space + " " + below) + "\n"
    }

    // MARK: Dots

    /// Eight dots to a character, in the order of their bits in Unicode.
    private func braille(_ columns: Int, _ axis: ValueAxis, _ time: TimeAxis) -> [String] {
        var bits = [[UInt32]](repeating: [UInt32](repeating: 0, count: columns), count: rows)
        var owner = [[Int]](repeating: [Int](repeating: 0, count: columns), count: rows)
        let dot: [[UInt32]] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]]
        // The first line, which is the largest, is drawn last and so over the others.
        for (index, line) in chart.lines.enumerated().reversed() {
            trace(line, columns * 2, rows * 4, axis, time) { x, y in
                bits[y / 4][x / 2] |= dot[x % 2][y % 4]
                owner[y / 4][x / 2] = index
            }
        }
        return bits.indices.map { row in
            var text = ""
            for column in 0..<columns {
                guard bits[row][column] != 0, let scalar = Unicode.Scalar(0x2800 + bits[row][column]) else {
                    text += " "
                    continue
                }
                text += style.series(String(scalar), owner[row][column])
            }
            return text
        }
    }

    private func letters(_ columns: Int, _ axis: ValueAxis, _ time: TimeAxis) -> [String] {
        var cells = [[String]](repeating: [String](repeating: " ", count: columns), count: rows)
        for (index, line) in chart.lines.enumerated().reversed() {
            let letter = style.series(mark(index), index)
            trace(line, columns, rows, axis, time) { x, y in cells[y][x] = letter }
        }
        return cells.map { $0.joined() }
    }

    /// Calls `set` for the dots of a line: straight from point to point, with a gap where values are missing.
    private func trace(
        _ line: MetricChart.Line,
        _ width: Int,
        _ height: Int,
        _ axis: ValueAxis,
        _ time: TimeAxis,
        _ set: (_ x: Int, _ y: Int) -> Void
    ) {
        var before: (x: Int, y: Int)?
        for point in line.points {
            guard let value = point.value else {
                before = nil
                continue
            }
            let across = time.share(chart.middle(point.micros)) * Double(width - 1)
            let up = (value - axis.low) / (axis.high - axis.low) * Double(height - 1)
            let x = max(0, min(width - 1, Int(across.rounded())))
            let y = height - 1 - max(0, min(height - 1, Int(up.rounded())))
            if let before {
                let steps = max(abs(x - before.x), abs(y - before.y), 1)
                for step in 1...steps {
                    set(before.x + (x - before.x) * step / steps, before.y + (y - before.y) * step / steps)
                }
            } else {
                set(x, y)
            }
            before = (x, y)
        }
    }

    // MARK: Legend

    private func legend() -> String {
        let titles = ["", "last", "min", "max", "avg", chart.totalTitle.lowercased()]
        let rows = chart.lines.map { line in
            [
                line.label.isEmpty ? chart.aggregation : line.label, chart.text(line.last),
                chart.text(line.values.min()), chart.text(line.values.max()), chart.text(line.average),
                chart.text(line.total),
            ]
        }
        var widths = titles.indices.map { column in
            ([titles] + rows).map { DisplayWidth.of($0[column]) }.max() ?? 0
        }
        let others = widths.dropFirst().reduce(0) { $0 + $1 + 2 }
        widths[0] = max(6, min(widths[0], width - others - 2))
        func joined(_ cells: [String]) -> String {
            cells.indices.map { column in
                let cell = column == 0 ? DisplayWidth.truncate(cells[0], to: widths[0]) : cells[column]
                return DisplayWidth.pad(cell, to: widths[column], right: column > 0)
            }.joined(separator: "  ")
        }
        var text = style.dim("  " + joined(titles)) + "\n"
        for (index, row) in rows.enumerated() { text += style.series(mark(index), index) + " " + joined(row) + "\n" }
        if chart.linesLeftOut > 0 {
            text +=
                style.dim("  and \(chart.linesLeftOut) more groups, not drawn; choose with --top-k or --bottom-k")
                + "\n"
        }
        return text
    }
}
