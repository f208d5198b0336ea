// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import MartletCore

/// What traces see of a commit: one span for each trace that has records in it, below the span that wrote the record.
///
/// A span tells the work of the commit. That the record waited for it, which is how a table is set up and nobody's slowness, is an attribute.
package struct CommitSpans: Sendable {
    /// The attribute that says how many microseconds the record waited for the commit; only spans of commits have it.
    package static let waitAttribute = "martlet.wait_micros"
    /// What the names of these spans begin with.
    package static let namePrefix = "table "
    /// The kind of these spans.
    package static let kind = "CONSUMER"
    /// The most traces of one commit.
    static let tracesMax = 50
    /// Rows with a trace that are looked at to find them.
    private static let rowsMax = 2048

    let table: AppendTable
    let commit: TableCommit

    /// Reads the spans from the rows of the commit, whose work took the microseconds of `work`; blocks.
    func read(_ rows: [FreshRows], work: Range<Int64>, on connection: Connection) throws -> [SpanRecord] {
        guard !rows.isEmpty else { return [] }
        let headers = table.layout.format == .raw ? "headers" : "_headers"
        let all = FreshRows.sources(of: rows).map {
            "SELECT _trace_id, _timestamp, _partition, _offset, \(headers) AS headers FROM \($0) WHERE _trace_id IS NOT NULL"
        }.joined(separator: " UNION ALL ")
        let found = try connection.query(
            """
            WITH every AS (\(all)), few AS (SELECT DISTINCT _trace_id FROM (SELECT _trace_id FROM every LIMIT \(Self.rowsMax)) \
            LIMIT \(Self.tracesMax)) \
            SELECT _trace_id, arg_min(list_filter(headers, lambda h: h."key" IN ('ce_traceparent', 'traceparent'))[-1]."value", _offset), \
            epoch_us(min(_timestamp)), arg_min(_partition, _offset), min(_offset), count(*) \
            FROM every WHERE _trace_id IN (FROM few) GROUP BY _trace_id
            """
        ).rows()
        return found.compactMap { span($0, work) }
    }

    private func span(_ row: [DuckDBValue], _ work: Range<Int64>) -> SpanRecord? {
        guard row.count == 6, case .string(let trace) = row[0] else { return nil }
        var wait: Int64 = 0
        if case .int(let micros) = row[2] { wait = max(0, work.lowerBound - micros) }
        return SpanRecord(
            traceId: trace,
            spanId: Self.spanID(),
            parentSpanId: Self.parent(row[1]),
            name: Self.namePrefix + table.name,
            kind: Self.kind,
            startMicros: work.lowerBound,
            durationMicros: work.upperBound - work.lowerBound,
            status: "OK",
            attributes: [
                "table": table.name, "topic": table.spec.topic, "commit": String(commit.number),
                "partition": row[3].text,
                "offset": row[4].text, "rows": row[5].text, Self.waitAttribute: String(wait),
            ]
        )
    }

    /// The span of a W3C `traceparent` whose trace was found good already.
    private static func parent(_ value: DuckDBValue) -> String? {
        guard case .blob(let bytes) = value, bytes.count >= 55 else { return nil }
        let digits = bytes[36..<52]
        let isHexadecimal = digits.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        guard isHexadecimal, digits.contains(where: { $0 != 0x30 }) else { return nil }
        return String(decoding: digits, as: UTF8.self)
    }

    private static func spanID() -> String {
        TraceContext.text(UInt64.random(in: 1 ... .max))
    }
}
