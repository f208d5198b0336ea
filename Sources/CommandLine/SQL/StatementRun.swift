// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Runs statements in the engine: starts them, shows how far they are, fetches their rows, and cancels them on Ctrl-C.
struct StatementRun {
    /// What goes with every statement.
    struct Options: Sendable {
        var parameters: [JSONValue] = []
        /// Time limit in seconds; nil takes the engine's.
        var timeout: Double?
        var write = false
        /// Seconds.
        var maxStaleness: Double?
        /// Commit by table.
        var asOf: JSONObject = JSONObject()
        /// Most rows to fetch; nil takes all.
        var rowsMax: Int?
    }

    /// What came of a statement.
    struct Summary: Sendable {
        var columns: [SQLAnswer.Column] = []
        var rowCount = 0
        /// Whether there were more rows than wanted.
        var isTruncated = false
        var rowsChanged: Int64?
        var seconds = 0.0
    }

    /// Rows of one request; the engine makes pages smaller where rows are large.
    private static let pageRows = 20_000

    let client: EngineClient

    /// The request that starts a statement.
    static func request(_ sql: String, _ options: Options) -> APIRequest {
        var fields = JSONObject(members: [.init(key: "sql", value: .string(sql))])
        if !options.parameters.isEmpty { fields["parameters"] = .array(options.parameters) }
        if let timeout = options.timeout { fields["timeout_seconds"] = .int(Int64(max(1, timeout.rounded()))) }
        if options.write { fields["write"] = .bool(true) }
        if let seconds = options.maxStaleness { fields["max_staleness"] = .double(seconds) }
        if !options.asOf.isEmpty { fields["as_of"] = .object(options.asOf) }
        return APIRequest("POST", ["statements"], body: .json(.object(fields)))
    }

    /// Runs a statement and hands over its rows page by page.
    ///
    /// - Throws: `CancellationError` after Ctrl-C, when the engine has been told to stop.
    func run(
        _ sql: String,
        _ options: Options,
        _ onRows: (_ columns: [SQLAnswer.Column], _ rows: [[JSONValue]]) throws -> Void
    ) async throws -> Summary {
        try await InterruptFlag.with {
            let started = ContinuousClock.now
            let status = try await client.exchange(Self.request(sql, options))
            guard let id = status["id"]?.stringValue else {
                throw CommandFailure(.failure, "the engine answered a new statement without its id")
            }
            let bar = Progress(client)
            do {
                var summary = try await fetch(id, options, bar, started, onRows)
                try bar.clear()
                if summary.isTruncated { await cancel(id) }
                summary.seconds = (ContinuousClock.now - started) / .seconds(1)
                return summary
            } catch {
                try? bar.clear()  // The error says more than a terminal that is gone.
                await cancel(id)
                throw error
            }
        }
    }

    private func fetch(
        _ id: String,
        _ options: Options,
        _ bar: Progress,
        _ started: ContinuousClock.Instant,
        _ onRows: ([SQLAnswer.Column], [[JSONValue]]) throws -> Void
    ) async throws -> Summary {
        var summary = Summary()
        var cursor: String?
        while true {
            if InterruptFlag.isRaised { throw CancellationError() }
            let left = options.rowsMax.map { $0 - summary.rowCount + 1 } ?? Self.pageRows
            let query: [(String, String?)] = [
                ("cursor", cursor), ("page_size", String(min(Self.pageRows, left))), ("wait_ms", "250"),
            ]
            let answer = try await client.exchange(
                APIRequest("GET", ["statements", id, "rows"], query: query),
                seconds: 60,
                isOrdered: false
            )
            guard var rows = answer["rows"]?.arrayValue?.map({ $0.arrayValue ?? [] }) else {
                let elapsed = (ContinuousClock.now - started) / .seconds(1)
                if elapsed > 0.9, client.session.diagnostics.isTerminal {
                    try bar.show(StatementProgressText.line(answer, elapsed: elapsed, style: client.noteStyle))
                }
                continue
            }
            try bar.clear()
            if let changed = answer["rows_changed"]?.intValue { summary.rowsChanged = changed }
            summary.columns = (answer["columns"]?.arrayValue ?? []).map {
                SQLAnswer.Column(name: $0["name"]?.stringValue ?? "", type: $0["type"]?.stringValue ?? "")
            }
            if let limit = options.rowsMax, summary.rowCount + rows.count > limit {
                rows = Array(rows.prefix(limit - summary.rowCount))
                summary.isTruncated = true
            }
            summary.rowCount += rows.count
            try onRows(summary.columns, rows)
            guard let next = answer["next_cursor"]?.stringValue, !summary.isTruncated else { return summary }
            cursor = next
        }
    }

    /// Stops a statement; when that fails the engine does it by itself after a while.
    private func cancel(_ id: String) async {
        _ = try? await client.exchange(APIRequest("DELETE", ["statements", id]), seconds: 5)
    }
}

/// How far a statement is, in one line.
enum StatementProgressText {
    /// `42% ████████░░░░░░░░░░░░ 1.2M of 3.4M rows, about 12 s left`.
    static func line(_ status: JSONValue, elapsed: Double, style: Style) -> String {
        let time = Quantity.duration(microseconds: Int64(elapsed * 1_000_000).roundedToSeconds)
        if status["state"]?.stringValue == "queued" { return "waiting for other statements, \(time)" }
        let progress = status["progress"]
        let fraction = progress?["fraction"].flatMap { $0.doubleValue ?? $0.intValue.map { Double($0) } } ?? 0
        guard fraction > 0 else { return "running, \(time)" }
        let width = 24
        let filled = min(width, Int(fraction * Double(width)))
        let marks = style.isUnicode ? ("█", "░") : ("#", ".")
        let bar = String(repeating: marks.0, count: filled) + String(repeating: marks.1, count: width - filled)
        var text = "\(DisplayWidth.pad("\(Int(fraction * 100))%", to: 4, right: true)) \(bar)"
        if let total = progress?["rows_total"]?.intValue, total > 0, let done = progress?["rows_processed"]?.intValue {
            text += " \(short(min(done, total))) of \(short(total)) rows"
        }
        if let left = progress?["seconds_left"].flatMap({ $0.doubleValue ?? $0.intValue.map { Double($0) } }) {
            let micros = Int64(max(1, left) * 1_000_000).roundedToSeconds
            text += ", about \(Quantity.duration(microseconds: micros)) left"
        } else {
            text += ", \(time)"
        }
        return text
    }

    private static func short(_ count: Int64) -> String {
        switch count {
        case ..<10_000: "\(count)"
        case ..<1_000_000: "\(count / 1000)k"
        case ..<1_000_000_000: "\(count / 1_000_000).\(count / 100_000 % 10)M"
        default: "\(count / 1_000_000_000).\(count / 100_000_000 % 10)G"
        }
    }
}

extension Int64 {
    fileprivate var roundedToSeconds: Int64 { (self + 500_000) / 1_000_000 * 1_000_000 }
}
