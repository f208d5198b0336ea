// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// How rows are written.
enum RowMode: String, Sendable, CaseIterable {
    case table, csv, json, yaml, line

    /// The names people use.
    static let names = "table, csv, json, yaml or line"

    /// Whether rows can be written as they come, so that there may be any number of them.
    var isStreaming: Bool { self == .csv || self == .line }

    /// Reads a name; `human` and `box` mean a table.
    init?(name: String) {
        switch name.lowercased() {
        case "human", "box", "text": self = .table
        case "yml": self = .yaml
        case "lines": self = .line
        case let word: self.init(rawValue: word)
        }
    }
}

/// Runs statements and writes their rows in one of the modes.
struct RowPrinter {
    let client: EngineClient
    var mode: RowMode
    /// Where rows go; standard output unless it was changed.
    var output: Output
    /// Whether to tell how many rows there were and how long it took.
    var showsSummary: Bool
    /// Whether to say how long it took.
    var showsTime = true

    init(_ client: EngineClient, mode: RowMode) {
        self.client = client
        self.mode = mode
        output = client.session.output
        showsSummary = client.session.output.isTerminal
    }

    /// Runs one statement and writes what it gives.
    @discardableResult
    func run(_ sql: String, _ options: StatementRun.Options) async throws -> StatementRun.Summary {
        var kept: [[JSONValue]] = []
        var written = 0
        let summary = try await StatementRun(client: client).run(sql, options) { columns, rows in
            guard mode.isStreaming, !columns.isEmpty else {
                kept += rows
                return
            }
            let answer = SQLAnswer(columns: columns, rows: rows)
            switch mode {
            case .csv: try output.write(answer.csv(withTitles: written == 0))
            default: try output.write(answer.lines(firstRow: written + 1).utf8)
            }
            written += max(1, rows.count)
        }
        if !mode.isStreaming { try write(SQLAnswer(columns: summary.columns, rows: kept), summary) }
        try tell(summary)
        return summary
    }

    private func write(_ answer: SQLAnswer, _ summary: StatementRun.Summary) throws {
        switch mode {
        case .json: try output.write(JSONText.pretty(answer.objects()).utf8)
        case .yaml: try output.write(YAMLText.write(answer.objects()).utf8)
        case .table, .csv, .line:
            if let plan = answer.plan {
                try page(Sanitizer.cleanLines(plan) + (plan.hasSuffix("\n") ? "" : "\n"))
            } else if answer.columns.isEmpty {
                return
            } else if output.isTerminal {
                try page(BoxTable(answer.table()).text(width: output.columns, style: client.style))
            } else {
                try output.write(answer.table().text(width: output.columns, style: client.style).utf8)
            }
        }
    }

    private func tell(_ summary: StatementRun.Summary) throws {
        if showsSummary, mode == .table || mode == .line {
            var text = "\(summary.rowCount) \(summary.rowCount == 1 ? "row" : "rows")"
            if let changed = summary.rowsChanged {
                text = "\(changed) \(changed == 1 ? "row" : "rows") changed"
            } else if summary.columns.isEmpty {
                text = "done"
            }
            if showsTime { text += ", \(Quantity.duration(microseconds: Int64(summary.seconds * 1_000_000)))" }
            try client.session.output.line(client.style.dim("(\(text))"))
        }
        if summary.isTruncated {
            try client.note("only the first \(summary.rowCount) rows are shown; ask for more with --limit")
        }
    }

    private func page(_ text: String) throws {
        guard output.isTerminal, client.session.inputIsTerminal, let pager = Pager(client.session) else {
            try output.write(text.utf8)
            return
        }
        if try !pager.show(text) { try output.write(text.utf8) }
    }
}
