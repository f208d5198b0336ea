// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Writes charts as one SVG file that needs nothing else: light or dark as the reader has it, values shown under the pointer.
package enum SVGChart {
    private static let width = 960.0
    private static let left = 76.0
    private static let right = 24.0
    private static let plotHeight = 240.0
    private static let above = 84.0
    private static let rowHeight = 20.0

    private static let light = [
        "#2563eb", "#ea580c", "#059669", "#c026d3", "#ca8a04", "#dc2626", "#0891b2", "#7c3aed", "#65a30d", "#db2777",
    ]
    private static let dark = [
        "#60a5fa", "#fb923c", "#34d399", "#e879f9", "#facc15", "#f87171", "#22d3ee", "#a78bfa", "#a3e635", "#f472b6",
    ]

    /// The document: the charts below each other.
    package static func text(_ charts: [MetricChart]) -> String {
        var body = ""
        var y = 0.0
        for chart in charts {
            let height = self.height(chart)
            body += "<g transform=\"translate(0 \(number(y)))\">\n" + panel(chart) + "</g>\n"
            y += height
        }
        let names = charts.map(\.name).joined(separator: ", ")
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(number(width)) \(number(y))" width="\(number(width))" \
            height="\(number(y))" role="img" aria-label="\(escape(names))">
            <title>\(escape(names))</title>
            <style>
            \(style)
            </style>
            <rect class="ground" width="100%" height="100%"/>
            \(body)</svg>

            """
    }

    private static var style: String {
        var lines = [
            "svg { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }",
            ".ground { fill: #ffffff; } text { fill: #374151; } .name { font-size: 15px; font-weight: 600; fill: #111827; }",
            ".faint { fill: #6b7280; } .grid { stroke: #e5e7eb; } .axis { stroke: #9ca3af; }",
            ".line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; } .area { opacity: 0.12; stroke: none; }",
            ".hit { fill: transparent; stroke: none; } .hit:hover { fill: currentColor; } .end { text-anchor: end; } .mid { text-anchor: middle; }",
            ".num { font-variant-numeric: tabular-nums; }",
        ]
        for (index, colour) in light.enumerated() { lines.append(colours(index, colour)) }
        lines.append("@media (prefers-color-scheme: dark) {")
        lines.append(
            ".ground { fill: #111827; } text { fill: #d1d5db; } .name { fill: #f9fafb; } .faint { fill: #9ca3af; }"
        )
        lines.append(".grid { stroke: #1f2937; } .axis { stroke: #4b5563; }")
        for (index, colour) in dark.enumerated() { lines.append(colours(index, colour)) }
        lines.append("}")
        return lines.joined(separator: "\n")
    }

    private static func colours(_ index: Int, _ colour: String) -> String {
        ".l\(index) { stroke: \(colour); } .f\(index) { fill: \(colour); } .h\(index) { color: \(colour); }"
    }

    private static func height(_ chart: MetricChart) -> Double {
        above + plotHeight + 36 + rowHeight * Double(chart.lines.count + 1) + (chart.linesLeftOut > 0 ? rowHeight : 0)
            + 20
    }

    private static func panel(_ chart: MetricChart) -> String {
        let axis = chart.axis(ticks: 5)
        let time = TimeAxis(since: chart.since, end: chart.end, count: 10)
        let inner = width - left - right
        func x(_ micros: Int64) -> Double { left + time.share(micros) * inner }
        func y(_ value: Double) -> Double { above + (1 - (value - axis.low) / (axis.high - axis.low)) * plotHeight }
        var text = "<text class=\"name\" x=\"20\" y=\"28\">\(escape(chart.name))</text>\n"
        text += "<text class=\"faint\" x=\"20\" y=\"47\">\(escape(chart.meaning)), \(escape(chart.span))</text>\n"
        if !axis.unit.isEmpty {
            text +=
                "<text class=\"faint end\" x=\"\(number(left - 8))\" y=\"\(number(above - 16))\">\(escape(axis.unit))</text>\n"
        }
        for tick in axis.ticks {
            let place = number(y(tick.value))
            text +=
                "<line class=\"grid\" x1=\"\(number(left))\" x2=\"\(number(width - right))\" y1=\"\(place)\" y2=\"\(place)\"/>"
            text +=
                "<text class=\"end num\" x=\"\(number(left - 8))\" y=\"\(number(y(tick.value) + 4))\">\(escape(tick.label))</text>\n"
        }
        let floor = above + plotHeight
        for tick in time.ticks {
            let place = number(x(tick.micros))
            text +=
                "<line class=\"axis\" x1=\"\(place)\" x2=\"\(place)\" y1=\"\(number(floor))\" y2=\"\(number(floor + 5))\"/>"
            text += "<text class=\"mid num\" x=\"\(place)\" y=\"\(number(floor + 20))\">\(tick.label)</text>\n"
        }
        text +=
            "<line class=\"axis\" x1=\"\(number(left))\" x2=\"\(number(width - right))\" y1=\"\(number(floor))\" y2=\"\(number(floor))\"/>\n"
        for (index, line) in chart.lines.enumerated().reversed() {
            text += self.line(line, index % light.count, chart, x: x, y: y, floor: floor)
        }
        return text + legend(chart, top: floor + 52)
    }

    private static func line(
        _ line: MetricChart.Line,
        _ colour: Int,
        _ chart: MetricChart,
        x: (Int64) -> Double,
        y: (Double) -> Double,
        floor: Double
    ) -> String {
        var runs: [[(x: Double, y: Double)]] = []
        var hits = ""
        var isOpen = false
        for point in line.points {
            guard let value = point.value else {
                isOpen = false
                continue
            }
            let place = (x: x(chart.middle(point.micros)), y: y(value))
            if isOpen { runs[runs.count - 1].append(place) } else { runs.append([place]) }
            isOpen = true
            let label = line.label.isEmpty ? "" : line.label + ": "
            let moment = String(Timestamp.format(microseconds: point.micros).prefix(19)).replacing("T", with: " ")
            hits += "<circle class=\"hit h\(colour)\" cx=\"\(number(place.x))\" cy=\"\(number(place.y))\" r=\"5\">"
            hits += "<title>\(escape("\(label)\(chart.text(value)), \(moment) UTC"))</title></circle>\n"
        }
        var text = ""
        for run in runs {
            guard run.count > 1, let first = run.first, let last = run.last else {
                for point in run {
                    text +=
                        "<circle class=\"f\(colour)\" cx=\"\(number(point.x))\" cy=\"\(number(point.y))\" r=\"2.5\"/>\n"
                }
                continue
            }
            let path = run.map { "\(number($0.x)) \(number($0.y))" }.joined(separator: " L")
            if chart.lines.count == 1 {
                text +=
                    "<path class=\"area f\(colour)\" d=\"M\(number(first.x)) \(number(floor)) L\(path) L\(number(last.x)) \(number(floor)) Z\"/>\n"
            }
            text += "<path class=\"line l\(colour)\" d=\"M\(path)\"/>\n"
        }
        return text + hits
    }

    private static func legend(_ chart: MetricChart, top: Double) -> String {
        let columns = [540.0, 640, 740, 840, 936]
        var text = ""
        for (place, title) in zip(columns, ["last", "min", "max", "avg", chart.totalTitle.lowercased()]) {
            text += "<text class=\"faint end\" x=\"\(number(place))\" y=\"\(number(top))\">\(title)</text>"
        }
        text += "\n"
        for (index, line) in chart.lines.enumerated() {
            let y = top + rowHeight * Double(index + 1)
            let label = DisplayWidth.truncate(line.label.isEmpty ? chart.aggregation : line.label, to: 58)
            text +=
                "<rect class=\"f\(index % light.count)\" x=\"20\" y=\"\(number(y - 9))\" width=\"14\" height=\"10\" rx=\"2\"/>"
            text += "<text x=\"42\" y=\"\(number(y))\">\(escape(label))</text>"
            let values = [line.last, line.values.min(), line.values.max(), line.average, line.total]
            for (place, value) in zip(columns, values) {
                text +=
                    "<text class=\"end num\" x=\"\(number(place))\" y=\"\(number(y))\">\(escape(chart.text(value)))</text>"
            }
            text += "\n"
        }
        if chart.linesLeftOut > 0 {
            let y = top + rowHeight * Double(chart.lines.count + 1)
            text +=
                "<text class=\"faint\" x=\"42\" y=\"\(number(y))\">and \(chart.linesLeftOut) more groups, not drawn</text>\n"
        }
        return text
    }

    private static func number(_ value: Double) -> String { MetricNumber.decimal(value, places: 1) }

    private static func escape(_ text: some StringProtocol) -> String {
        var clean = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": clean += "&amp;"
            case "<": clean += "&lt;"
            case ">": clean += "&gt;"
            case "\"": clean += "&quot;"
            default:
                // XML has no way to write other control characters.
                if scalar.value >= 0x20, scalar.value != 0xFFFE, scalar.value != 0xFFFF {
                    clean.unicodeScalars.append(scalar)
                }
            }
        }
        return clean
    }
}
