// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// A trace as a tree of spans with a bar for each, in start order; the hop that took longest and those that failed stand out.
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
        /// Which attempt at its event it is part of, where it says so.
        package var attempt: Int
        /// Microseconds that rows waited for the commit that this span is; nil where it is none.
        package var wait: Int64?

        init(_ value: JSONValue) {
            id = value["span_id"]?.stringValue ?? ""
            parent = (value["parent_span_id"]?.stringValue).nonEmpty
            name = (value["name"]?.stringValue).nonEmpty ?? "(unnamed)"
            start = value["start_micros"]?.intValue ?? 0
            duration = max(0, value["duration_micros"]?.intValue ?? 0)
            status = value["status"]?.stringValue ?? "UNSET"
            message = (value["status_message"]?.stringValue).nonEmpty
            place = (value["function"]?.stringValue).nonEmpty
            attempt = (value["attributes"]?["martlet.attempt"]?.stringValue).flatMap { Int($0) } ?? 1
            wait = (value["attributes"]?["martlet.wait_micros"]?.stringValue).flatMap { Int64($0) }
            exceptions = (value["events"]?.arrayValue ?? []).compactMap { event in
                guard event["name"]?.stringValue == "exception" else { return nil }
                let attributes = event["attributes"]
                let parts = [attributes?["exception.type"]?.stringValue, attributes?["exception.message"]?.stringValue]
                return parts.compactMap { $0.nonEmpty }.joined(separator: ": ")
            }
        }
    }

    /// Log records shown below a span that failed.
    private static let logsMax = 3

    private let spans: [Span]
    private let logs: [String: [JSONValue]]
    private let children: [String: [Int]]
    private let roots: [Int]
    private let start: Int64
    private let length: Int64

    /// Sorts spans into a tree; a span whose parent is not there is a root, and no span is shown twice.
    ///
    /// `logs` are the trace's log records, oldest first.
    package init(spans values: [JSONValue], logs: [JSONValue] = []) {
        self.logs = Dictionary(grouping: logs) { $0["span_id"]?.stringValue ?? "" }
        let spans = values.map(Span.init).sorted {
            // All attempts at an event begin when it was appended.
            ($0.start, $0.attempt, -$0.duration, $0.id) < ($1.start, $1.attempt, -$1.duration, $1.id)
        }
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
        // Rows wait for their commit as long as their table says, which makes nothing slower.
        let work = spans.contains { $0.wait == nil } ? spans.filter { $0.wait == nil } : spans
        length = max(1, (work.map { $0.start + $0.duration }.max() ?? 0) - (work.map(\.start).min() ?? 0))
    }

    /// How long the work of the trace took, in microseconds; what only waited for a table's commit is not in it.
    package var durationMicros: Int64 { spans.isEmpty ? 0 : length }
    /// When it began, in microseconds since 1970.
    package var startMicros: Int64 { start }

    /// The span with the most time of its own, where that says something: its place, that time, and its share of the whole.
    private var slowest: (index: Int, micros: Int64, share: Double)? {
        guard spans.count > 1 else { return nil }
        let own = spans.indices.filter { spans[$0].wait == nil }.map { (index: $0, micros: ownMicros($0)) }
        guard let most = own.max(by: { ($0.micros, $1.index) < ($1.micros, $0.index) }), most.micros > 0 else {
            return nil
        }
        return (most.index, most.micros, Double(most.micros) / Double(length))
    }

    /// Time of a span in which none of its children ran.
    private func ownMicros(_ index: Int) -> Int64 {
        let span = spans[index]
        let end = span.start + span.duration
        var covered: Int64 = 0
        var reached = span.start
        // Children are in order of their start.
        for child in (children[span.id] ?? []).map({ spans[$0] }) {
            let from = max(reached, child.start)
            let to = min(end, child.start + child.duration)
            guard to > from else { continue }
            covered += to - from
            reached = to
        }
        return span.duration - covered
    }

    /// The hop that took longest, in words; nil for a trace of one span.
    package var slowestText: String? {
        slowest.map { found in
            "\(Sanitizer.clean(spans[found.index].name)), \(Quantity.duration(microseconds: found.micros)) of its own (\(Self.percent(found.share)))"
        }
    }

    /// The first span that failed, with why; spans that failed because one below them did come after it.
    package var failureText: String? {
        let failed = spans.indices.filter { spans[$0].status == "ERROR" }
        let deepest = failed.first { index in
            !(children[spans[index].id] ?? []).contains { spans[$0].status == "ERROR" }
        }
        guard let span = (deepest ?? failed.first).map({ spans[$0] }) else { return nil }
        let why = span.message ?? span.exceptions.first
        return Sanitizer.clean(span.name) + (why.map { ": " + Self.firstLine($0) } ?? "")
    }

    private static func percent(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

    private static func firstLine(_ text: String) -> String {
        Sanitizer.clean(text.split(separator: "\n").first.map(String.init) ?? text)
    }

    private struct Line {
        var isSlowest: Bool
        var logs: [JSONValue]
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
            let bar = isError ? style.red(line.bar) : line.isSlowest ? style.yellow(line.bar) : style.cyan(line.bar)
            let time = line.isSlowest ? style.yellow(duration) : duration
            var whole = "\(isError ? style.red(label) : label)  \(style.dim(offset))  \(bar)  \(time)"
            if line.status != "UNSET" { whole += "  " + style.status(line.status) }
            if line.isSlowest { whole += "  " + style.yellow(style.isUnicode ? "◀ slowest" : "< slowest") }
            text += whole + "\n"
            for note in line.notes { text += "\(line.indent)\(style.red("! " + note))\n" }
            for record in line.logs { text += "\(line.indent)  \(Self.logLine(record, style))\n" }
        }
        return text
    }

    /// A log record on one line; the whole of it stands below the tree.
    private static func logLine(_ record: JSONValue, _ style: Style) -> String {
        let text = LogLine.text(record, style: style).split(separator: "\n", omittingEmptySubsequences: false)
        return String(text.first ?? "") + (text.count > 1 ? " …" : "")
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
        let attempt = span.attempt > 1 ? " (attempt \(span.attempt))" : ""
        let wait = span.wait.map { " (waited \(Quantity.duration(microseconds: $0)) for its commit)" } ?? ""
        let place = (span.place.map { span.name.contains($0) ? "" : " [\($0)]" } ?? "") + attempt + wait
        var notes: [String] = []
        for note in [span.message].compactMap(\.self) + span.exceptions where !note.isEmpty {
            let first = Self.firstLine(note)
            if !notes.contains(where: { $0.contains(first) || first.contains($0) }) { notes.append(first) }
        }
        let rail = below.isEmpty ? "  " : (style.isUnicode ? "│ " : "| ")
        lines.append(
            Line(
                isSlowest: slowest?.index == index,
                logs: span.status == "ERROR" ? (logs[span.id] ?? []).suffix(Self.logsMax) : [],
                label: prefix + (span.status == "ERROR" ? (style.isUnicode ? "✗ " : "x ") : "")
                    + Sanitizer.clean(span.name) + Sanitizer.clean(place),
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
