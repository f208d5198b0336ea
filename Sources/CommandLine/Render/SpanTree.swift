// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// A trace as a tree of spans with a bar for each, in start order.
package struct SpanTree: Sendable {
    /// One span as the API gives it.
    package struct Span: Sendable {
        package var id: String
        package var parent: String?
        package var name: String
        package var start: Int64
        package var duration: Int64
        package var status: String
        package var message: String?
        package var exceptions: [String]
        package var place: String?

        init(_ value: JSONValue) {
            id = value["span_id"]?.stringValue ?? ""
            parent = (value["parent_span_id"]?.stringValue).nonEmpty
            name = (value["name"]?.stringValue).nonEmpty ?? "(unnamed)"
            start = value["start_micros"]?.intValue ?? 0
            duration = max(0, value["duration_micros"]?.intValue ?? 0)
            status = value["status"]?.stringValue ?? "UNSET"
            message = (value["status_message"]?.stringValue).nonEmpty
            place = (value["function"]?.stringValue).nonEmpty
            exceptions = (value["events"]?.arrayValue ?? []).compactMap { event in
                guard event["name"]?.stringValue == "exception" else { return nil }
                let attributes = event["attributes"]
                let parts = [attributes?["exception.type"]?.stringValue, attributes?["exception.message"]?.stringValue]
                return parts.compactMap { $0.nonEmpty }.joined(separator: ": ")
            }
        }
    }

    private let spans: [Span]
    private let children: [String: [Int]]
    private let roots: [Int]
    private let start: Int64
    private let length: Int64

    /// Sorts spans into a tree; a span whose parent is not there is a root, and no span is shown twice.
    package init(spans values: [JSONValue]) {
        let spans = values.map(Span.init).sorted { ($0.start, -$0.duration, $0.id) < ($1.start, -$1.duration, $1.id) }
        let known = Set(spans.map(\.id))
        var children: [String: [Int]] = [:]
        var roots: [Int] = []
        for (index, span) in spans.enumerated() {
            if let parent = span.parent, parent != span.id, known.contains(parent) {
                children[parent, default: []].append(index)
            } else {
                roots.append(index)
            }
        }
        var reached = Set<Int>()
        var waiting = roots
        while let index = waiting.popLast() {
            guard reached.insert(index).inserted else { continue }
            waiting += children[spans[index].id] ?? []
        }
        roots += spans.indices.filter { !reached.contains($0) }
        self.spans = spans
        self.children = children
        self.roots = roots
        start = spans.map(\.start).min() ?? 0
        length = max(1, (spans.map { $0.start + $0.duration }.max() ?? 0) - start)
    }

    /// How long the whole trace took, in microseconds.
    package var durationMicros: Int64 { spans.isEmpty ? 0 : length }
    /// When it began, in microseconds since 1970.
    package var startMicros: Int64 { start }

    private struct Line {
        var label: String
        var offset: String
        var bar: String
        var duration: String
        var status: String
        var notes: [String]
        var indent: String
    }

    /// The lines, each ended by a line feed; `width` nil uses bars of 40 columns.
    package func text(width: Int?, style: Style) -> String {
        let barWidth = width.map { max(10, min(40, $0 - 60)) } ?? 40
        var lines: [Line] = []
        var shown = Set<Int>()
        for root in roots {
            append(root, prefix: "", tail: "", barWidth: barWidth, style: style, shown: &shown, to: &lines)
        }
        let labels = lines.map { DisplayWidth.of($0.label) }.max() ?? 0
        let offsets = lines.map { DisplayWidth.of($0.offset) }.max() ?? 0
        let durations = lines.map { DisplayWidth.of($0.duration) }.max() ?? 0
        let room = width.map { max(16, $0 - offsets - durations - barWidth - 13) } ?? labels
        let labelWidth = min(labels, room)
        var text = ""
        for line in lines {
            let label = DisplayWidth.pad(DisplayWidth.truncate(line.label, to: labelWidth), to: labelWidth)
            let offset = DisplayWidth.pad(line.offset, to: offsets, right: true)
            let duration = DisplayWidth.pad(line.duration, to: durations, right: true)
            let isError = line.status == "ERROR"
            let bar = isError ? style.red(line.bar) : style.cyan(line.bar)
            var whole = "\(label)  \(style.dim(offset))  \(bar)  \(duration)"
            if line.status != "UNSET" { whole += "  " + style.status(line.status) }
            text += whole + "\n"
            for note in line.notes { text += "\(line.indent)\(style.red("! " + note))\n" }
        }
        return text
    }

    private func append(
        _ index: Int,
        prefix: String,
        tail: String,
        barWidth: Int,
        style: Style,
        shown: inout Set<Int>,
        to lines: inout [Line]
    ) {
        guard shown.insert(index).inserted, shown.count <= spans.count else { return }
        let span = spans[index]
        let below = (children[span.id] ?? []).filter { !shown.contains($0) }
        let place = span.place.map { span.name.contains($0) ? "" : " [\($0)]" } ?? ""
        var notes: [String] = []
        for note in [span.message].compactMap(\.self) + span.exceptions where !note.isEmpty {
            let first = Sanitizer.clean(note.split(separator: "\n").first.map(String.init) ?? note)
            if !notes.contains(where: { $0.contains(first) || first.contains($0) }) { notes.append(first) }
        }
        let rail = below.isEmpty ? "  " : (style.isUnicode ? "│ " : "| ")
        lines.append(
            Line(
                label: prefix + Sanitizer.clean(span.name) + Sanitizer.clean(place),
                offset: "+" + Quantity.duration(microseconds: span.start - start),
                bar: bar(span, width: barWidth, style: style),
                duration: Quantity.duration(microseconds: span.duration),
                status: span.status,
                notes: notes,
                indent: tail + rail
            )
        )
        for (place, child) in below.enumerated() {
            let isLast = place == below.count - 1
            let branch = style.isUnicode ? (isLast ? "└─ " : "├─ ") : (isLast ? "`- " : "|- ")
            let rail = isLast ? "   " : (style.isUnicode ? "│  " : "|  ")
            append(
                child,
                prefix: tail + branch,
                tail: tail + rail,
                barWidth: barWidth,
                style: style,
                shown: &shown,
                to: &lines
            )
        }
    }

    private func bar(_ span: Span, width: Int, style: Style) -> String {
        let scale = Double(width) / Double(length)
        let first = min(width - 1, Int(Double(span.start - start) * scale))
        let count = max(1, min(width - first, Int((Double(span.duration) * scale).rounded())))
        let mark = style.isUnicode ? "█" : "#"
        return String(repeating: " ", count: first) + String(repeating: mark, count: count)
            + String(repeating: " ", count: width - first - count)
    }
}
