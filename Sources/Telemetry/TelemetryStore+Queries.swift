// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
package import MartletCore
import Tables

extension TelemetryStore {
    package func logs(_ query: LogQuery) async throws -> Page<LogRecord> {
        var conditions = Conditions()
        conditions.add("pipeline = ?", query.pipeline)
        conditions.add("function = ?", query.function)
        conditions.add("time", .greaterOrEqual, query.since)
        conditions.add("time", .lessOrEqual, query.end)
        conditions.add("trace_id", equals: query.traceID)
        conditions.add("span_id", equals: query.spanID)
        conditions.add("contains(message, ?)", query.contains)
        if let name = query.severity {
            guard let severity = Severity(name: name) else {
                throw ServiceError.invalid(
                    field: "severity",
                    "'\(name.prefix(40))' is not a severity",
                    fix: "write TRACE, DEBUG, INFO, WARN, ERROR or FATAL"
                )
            }
            conditions.add("severity_number >= ?", .int(severity.rawValue))
        }
        if let scope = query.scope { conditions.add("scope = ?", .string(try Self.scope(scope))) }
        if let cursor = query.cursor {
            guard let number = Int64(cursor) else {
                throw ServiceError.invalid(
                    field: "cursor",
                    "'\(cursor.prefix(40))' is not a cursor of this list",
                    fix: "leave it out to start over"
                )
            }
            conditions.add("_offset", .greaterOrEqual, number)
        }
        // The newest are wanted, except by a tail that goes on where it stopped.
        let newestFirst = query.cursor == nil
        let rows =
            newestFirst
            ? try await newest(query, conditions)
            : try await rows(of: conditions, order: "_offset", limit: query.limit)
        let number = rows.compactMap { $0[9].int }.max().map(String.init) ?? query.cursor
        var records = rows.map(Self.log)
        if newestFirst == query.ascending { records.reverse() }
        return Page(items: records, nextCursor: number ?? "0")
    }

    /// Lengths of time, in seconds, in which the newest log records are looked for before all there are.
    private static let windows: [Int64] = [600, 7_200, 86_400]

    /// The newest rows that pass: of the last minutes where those are enough, since reading all only to leave most of them out takes long.
    private func newest(_ query: LogQuery, _ conditions: Conditions) async throws -> [[DuckDBValue]] {
        let limit = query.limit
        let order = "time DESC, _offset DESC"
        // A trace is found by its id, whenever it was.
        guard query.traceID == nil, query.spanID == nil else {
            return try await rows(of: conditions, order: order, limit: limit)
        }
        var end = try await newestTime(.logs, column: "time")
        if let asked = query.end { end = min(end, Timestamp.microseconds(asked)) }
        for window in Self.windows {
            let start = end - window * 1_000_000
            if let since = query.since, start <= Timestamp.microseconds(since) { break }
            var narrower = conditions
            narrower.add("time", .greaterOrEqual, Date(timeIntervalSince1970: Double(start) / 1_000_000))
            let found = try await rows(of: narrower, order: order, limit: limit)
            if found.count == limit { return found }
        }
        return try await rows(of: conditions, order: order, limit: limit)
    }

    private func rows(of conditions: Conditions, order: String, limit: Int) async throws -> [[DuckDBValue]] {
        try await query(
            """
            SELECT epoch_us(time), severity_number, scope, pipeline, function, message, trace_id, span_id, attributes, _offset + 1
            FROM system.logs \(conditions.sql) ORDER BY \(order) LIMIT ?
            """,
            conditions.parameters + [.int(Int64(limit))],
            of: [.logs],
            predicates: conditions.predicates(.logs)
        )
    }

    package func traces(_ query: TraceQuery) async throws -> [TraceSummary] {
        var conditions = Conditions()
        conditions.add("start", .greaterOrEqual, query.since)
        conditions.add("start", .lessOrEqual, query.end)
        var having = Conditions()
        having.add("max(CASE WHEN pipeline = ? THEN 1 ELSE 0 END) = 1", query.pipeline)
        having.add("max(CASE WHEN event_id = ? THEN 1 ELSE 0 END) = 1", query.eventID)
        having.add("max(CASE WHEN event_type = ? THEN 1 ELSE 0 END) = 1", query.eventType)
        if let name = query.status?.uppercased() {
            guard ["UNSET", "OK", "ERROR"].contains(name) else {
                throw ServiceError.invalid(
                    field: "status",
                    "'\(name.prefix(40))' is not a status",
                    fix: "write UNSET, OK or ERROR"
                )
            }
            having.add("\(Self.traceStatus) = ?", .string(name))
        }
        let rows = try await self.query(
            """
            SELECT trace_id, min(epoch_us(start)), \(Self.traceDuration), \(Self.traceStatus), min(pipeline),
                list(DISTINCT function ORDER BY function) FILTER (function IS NOT NULL), min(event_id), min(event_type), count(*),
                to_json(list({'s': span_id, 'p': parent_span_id}))
            FROM system.spans \(conditions.sql) GROUP BY trace_id \(having.sql.replacingOccurrences(of: "WHERE", with: "HAVING"))
            ORDER BY 2 DESC, 1 LIMIT ?
            """,
            conditions.parameters + having.parameters + [.int(Int64(query.limit))],
            of: [.spans],
            predicates: conditions.predicates(.spans)
        )
        // The newest are wanted in either order.
        return (query.ascending ? rows.reversed() : rows).map { row in
            TraceSummary(
                traceId: row[0].text,
                start: Date(timeIntervalSince1970: Double(row[1].int ?? 0) / 1_000_000),
                durationMicros: row[2].int ?? 0,
                status: row[3].text,
                pipeline: row[4].string,
                functions: (try? JSONValue(parsing: row[5].text))?.arrayValue?.compactMap(\.stringValue) ?? [],
                eventId: row[6].string,
                eventType: row[7].string,
                spans: Int(row[8].int ?? 0),
                depth: Self.depth(of: row[9].text)
            )
        }
    }

    package func trace(_ traceID: String) async throws -> (spans: [SpanRecord], logs: [LogRecord]) {
        var conditions = Conditions()
        conditions.add("trace_id", equals: traceID.lowercased())
        let rows = try await query(
            """
            SELECT trace_id, span_id, parent_span_id, name, kind, epoch_us(start), duration_us, status, status_message, pipeline,
                function, event_id, event_type, attributes, events
            FROM system.spans \(conditions.sql) ORDER BY start, duration_us DESC
            """,
            of: [.spans, .logs],
            predicates: conditions.predicates(.spans)
        )
        guard !rows.isEmpty else {
            throw ServiceError(
                .notFound,
                "no trace '\(traceID.prefix(64))'",
                fix: "list recent ones with: martlet traces list --since 1h"
            )
        }
        var logs = LogQuery(limit: 10_000, ascending: true)
        logs.traceID = traceID.lowercased()
        let spans = rows.map(Self.span)
        // A trace's log records are about as old as its spans: what else there is need not be read.
        let start = spans.map(\.startMicros).min() ?? 0
        let end = spans.map { $0.startMicros + $0.durationMicros }.max() ?? start
        logs.since = Date(timeIntervalSince1970: Double(start) / 1_000_000 - Self.logMargin)
        logs.end = Date(timeIntervalSince1970: Double(end) / 1_000_000 + Self.logMargin)
        return (spans, try await self.logs(logs).items)
    }

    package func metricNames(_ query: MetricNameQuery) async throws -> [MetricName] {
        try await metricReader.names(query)
    }

    package func metrics(_ query: MetricQuery) async throws -> MetricAnswer {
        try await metricReader.values(query)
    }

    private var metricReader: MetricReader {
        MetricReader(
            table: """
                (SELECT epoch_us(time) AS time, name, type, unit, pipeline, function, value, count, attributes::VARCHAR AS attributes,
                    buckets::VARCHAR AS buckets FROM system.metrics)
                """,
            definitions: EngineMetrics.all
        ) { try await self.query($0, $1, of: [.metrics]) }
    }

    // MARK: Parts

    /// Seconds around a trace in which log records of it are looked for.
    private static let logMargin = 3600.0

    private static let traceStatus = """
        CASE WHEN count(*) FILTER (status = 'ERROR') > 0 THEN 'ERROR' WHEN count(*) FILTER (status = 'OK') > 0 THEN 'OK' ELSE 'UNSET' END
        """

    /// From the first to the last of the work: a commit that rows waited for does not make a trace long, unless there is nothing else.
    private static let traceDuration = {
        let isCommit = """
            coalesce(kind = '\(CommitSpans.kind)' AND starts_with(name, '\(CommitSpans.namePrefix)')
                AND contains(attributes::VARCHAR, '"\(CommitSpans.waitAttribute)"'), false)
            """
        let end = "max(epoch_us(start) + duration_us)"
        let start = "min(epoch_us(start))"
        return
            "coalesce(\(end) FILTER (NOT \(isCommit)), \(end)) - coalesce(\(start) FILTER (NOT \(isCommit)), \(start))"
    }()

    private static func scope(_ name: String) throws -> String {
        switch name.lowercased() {
        case "user": return "user"
        case "runtime", "vast-runtime": return "vast-runtime"
        case "engine": return "engine"
        default:
            throw ServiceError.invalid(
                field: "scope",
                "'\(name.prefix(40))' is not a scope",
                fix: "write user, runtime or engine"
            )
        }
    }

    private static func log(_ row: [DuckDBValue]) -> LogRecord {
        LogRecord(
            time: Date(timeIntervalSince1970: Double(row[0].int ?? 0) / 1_000_000),
            severity: Severity(number: row[1].int ?? 9).name,
            scope: row[2].text,
            pipeline: row[3].string,
            function: row[4].string,
            message: row[5].text,
            traceId: row[6].string,
            spanId: row[7].string,
            attributes: attributes(row[8])
        )
    }

    private static func span(_ row: [DuckDBValue]) -> SpanRecord {
        var span = SpanRecord(
            traceId: row[0].text,
            spanId: row[1].text,
            parentSpanId: row[2].string,
            name: row[3].text,
            kind: row[4].text,
            startMicros: row[5].int ?? 0,
            durationMicros: row[6].int ?? 0,
            status: row[7].text,
            statusMessage: row[8].string,
            pipeline: row[9].string,
            function: row[10].string,
            eventId: row[11].string,
            eventType: row[12].string
        )
        span.attributes = attributes(row[13])
        let events = row[14].string.flatMap { try? JSONValue(parsing: $0) }?.arrayValue ?? []
        span.events = events.map { event in
            SpanRecord.Event(
                name: event["name"]?.stringValue ?? "",
                time: Date(timeIntervalSince1970: Double(event["time"]?.intValue ?? 0) / 1_000_000),
                attributes: strings(event["attributes"])
            )
        }
        return span
    }

    private static func attributes(_ value: DuckDBValue) -> [String: String] {
        strings(value.string.flatMap { try? JSONValue(parsing: $0) })
    }

    private static func strings(_ value: JSONValue?) -> [String: String] {
        var all: [String: String] = [:]
        for member in value?.objectValue?.members ?? [] {
            all[member.key] = member.value.stringValue ?? member.value.text
        }
        return all
    }

    /// Longest chain of parents, from `[{"s":span,"p":parent},…]`.
    private static func depth(of json: String) -> Int {
        var parents: [String: String] = [:]
        for pair in (try? JSONValue(parsing: json))?.arrayValue ?? [] {
            guard let span = pair["s"]?.stringValue else { continue }
            parents[span] = pair["p"]?.stringValue ?? ""
        }
        var depths: [String: Int] = [:]
        for span in parents.keys {
            var chain = [String]()
            var current: String? = span
            while let here = current, depths[here] == nil, let parent = parents[here] {
                depths[here] = 0  // Ends a circle, which only damaged input has.
                chain.append(here)
                current = parent
            }
            var depth = current.flatMap { depths[$0] } ?? 0
            for here in chain.reversed() {
                depth += 1
                depths[here] = depth
            }
        }
        return depths.values.max() ?? 0
    }
}

/// Conditions of a WHERE clause with their parameters.
private struct Conditions {
    private var terms: [String] = []
    private var comparisons: [QueryPredicates.Comparison] = []
    private(set) var parameters: [DuckDBValue] = []

    mutating func add(_ term: String, _ value: DuckDBValue) {
        terms.append(term)
        parameters.append(value)
    }

    mutating func add(_ term: String, _ value: String?) {
        if let value { add(term, .string(value)) }
    }

    /// A condition that also says which files can matter; written out, because DuckDB looks at statistics before it knows parameters.
    mutating func add(_ column: String, equals value: String?) {
        guard let value else { return }
        terms.append("\(column) = \(SQLText.literal(value))")
        comparisons.append(.init(column, .equal, .text(value)))
    }

    mutating func add(_ column: String, _ comparison: QueryPredicates.Comparison.Operator, _ value: Date?) {
        guard let value else { return }
        let micros = Timestamp.microseconds(value)
        terms.append("\(column) \(Self.sign(comparison)) make_timestamp(\(micros)::BIGINT)")
        comparisons.append(.init(column, comparison, .timestamp(micros)))
    }

    mutating func add(_ column: String, _ comparison: QueryPredicates.Comparison.Operator, _ value: Int64) {
        terms.append("\(column) \(Self.sign(comparison)) \(value)")
        comparisons.append(.init(column, comparison, .integer(value)))
    }

    private static func sign(_ comparison: QueryPredicates.Comparison.Operator) -> String {
        switch comparison {
        case .equal: "="
        case .less: "<"
        case .lessOrEqual: "<="
        case .greater: ">"
        case .greaterOrEqual: ">="
        }
    }

    func predicates(_ table: SystemTable) -> QueryPredicates { QueryPredicates([table.name: comparisons]) }

    var sql: String { terms.isEmpty ? "" : "WHERE " + terms.joined(separator: " AND ") }
}

extension DuckDBValue {
    fileprivate var string: String? {
        if case .null = self { return nil }
        return text
    }

    fileprivate var int: Int64? {
        switch self {
        case .int(let value): value
        case .hugeint(let value): Int64(exactly: value)
        default: nil
        }
    }
}
