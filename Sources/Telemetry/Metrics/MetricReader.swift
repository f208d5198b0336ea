// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB
package import Foundation
package import MartletCore

/// Answers questions about metric points in a table.
///
/// The table has the columns `time` (BIGINT, µs since 1970), `name`, `type`, `unit`, `pipeline`, `function`, `attributes` and `buckets` (VARCHAR),
/// `value` (DOUBLE) and `count` (BIGINT), as `MetricPoint` says; counters and histograms hold what was gained, others the present value.
package struct MetricReader: Sendable {
    /// Series in an answer; more groups are left out, the smallest first, and counted.
    static let seriesMax = 200
    /// Widths of buckets in seconds; instruments are read every ten.
    private static let steps = [
        10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
        2_592_000, 31_536_000,
    ]

    let table: String
    let definitions: [MetricDefinition]
    let run: @Sendable (String, [DuckDBValue]) async throws -> [[DuckDBValue]]

    /// Reads `table`, an SQL expression, through `run`.
    package init(
        table: String,
        definitions: [MetricDefinition],
        run: @escaping @Sendable (String, [DuckDBValue]) async throws -> [[DuckDBValue]]
    ) {
        self.table = table
        self.definitions = definitions
        self.run = run
    }

    // MARK: Names

    /// Metrics that have points, and those the engine has defined but not measured yet.
    package func names(_ query: MetricNameQuery) async throws -> [MetricName] {
        var type: String?
        if let word = query.type {
            guard
                let kind = MetricDefinition.Kind.allCases.first(where: { $0.rawValue.lowercased() == word.lowercased() }
                )
            else {
                throw ServiceError.invalid(
                    field: "metric_type",
                    "'\(word.prefix(40))' is no type of metric",
                    fix: "write Counter, UpDownCounter, Gauge or Histogram"
                )
            }
            type = kind.rawValue
        }
        var filter = MetricFilter()
        filter.add(pipeline: query.pipeline, function: query.function)
        if let type { filter.add("type = ?", .string(type)) }
        let rows = try await run(
            """
            SELECT name, type, any_value(unit), count(DISTINCT hash(pipeline, function, attributes)), max(time)
            FROM \(table)\(filter.sql) GROUP BY name, type ORDER BY name, type
            """,
            filter.parameters
        )
        let known = Dictionary(definitions.map { ($0.name, $0) }) { first, _ in first }
        var names = rows.map { row in
            MetricName(
                name: row[0].text,
                type: row[1].text,
                unit: row[2].text,
                description: known[row[0].text]?.description ?? "",
                series: Int(row[3].integer ?? 0),
                lastSeen: row[4].integer.map { Date(timeIntervalSince1970: Double($0) / 1_000_000) }
            )
        }
        if query.pipeline == nil, query.function == nil {
            let seen = Set(names.map(\.name))
            names += definitions.filter { !seen.contains($0.name) && (type == nil || $0.kind.rawValue == type) }.map {
                MetricName(
                    name: $0.name,
                    type: $0.kind.rawValue,
                    unit: $0.unit,
                    description: $0.description,
                    series: 0,
                    lastSeen: nil
                )
            }
            names.sort { ($0.name, $0.type) < ($1.name, $1.type) }
        }
        guard let search = query.search?.lowercased(), !search.isEmpty else { return names }
        return names.filter { $0.name.lowercased().contains(search) || $0.description.lowercased().contains(search) }
    }

    // MARK: Values

    /// Values over time.
    package func values(_ query: MetricQuery, now: Date = Date()) async throws -> MetricAnswer {
        try Self.check(query)
        let end = Timestamp.microseconds(query.end ?? now)
        let since = query.since.map(Timestamp.microseconds) ?? Self.hour(before: end, pointsMax: query.maxPoints)
        guard since < end else {
            throw ServiceError.invalid(
                field: "since",
                "is not before the end",
                fix: "give a since that is earlier than the end"
            )
        }
        let step = Self.step(since: since, end: end, pointsMax: query.maxPoints)
        let window = MetricWindow(since: since, end: end, step: step)
        let keys = Self.unique(query.groupBy)
        var filter = MetricFilter()
        filter.add("time >= ?", .int(since))
        filter.add("time < ?", .int(end))
        filter.add(names: Self.unique(query.names))
        filter.add(pipeline: query.pipeline, function: query.function)
        let sql = MetricSQL(table: table, groups: keys, filter: filter, window: window)
        let numbers = try await sql.numbers(query.aggregation, run)
        let histograms = try await sql.histograms(run)
        var series = (numbers + histograms).map { $0.series(query.aggregation, keys, window) }
        let order = Dictionary(query.names.enumerated().map { ($1, $0) }) { first, _ in first }
        series.sort {
            (order[$0.name] ?? 0, $1.total ?? -.infinity, Self.label($0)) < (
                order[$1.name] ?? 0, $0.total ?? -.infinity, Self.label($1)
            )
        }
        let kept = Self.choose(series, query)
        let found = Set(series.map(\.name))
        return MetricAnswer(
            since: Date(timeIntervalSince1970: Double(since) / 1_000_000),
            end: Date(timeIntervalSince1970: Double(end) / 1_000_000),
            stepSeconds: step,
            groupBy: keys,
            series: kept,
            missing: Self.unique(query.names).filter { !found.contains($0) },
            groupsLeftOut: series.count - kept.count
        )
    }

    private static func label(_ series: MetricAnswer.Series) -> String {
        series.group.sorted { $0.key < $1.key }.map(\.value).joined(separator: "\u{0}")
    }

    private static func unique(_ names: [String]) -> [String] {
        var seen = Set<String>()
        return names.filter { seen.insert($0).inserted }
    }

    /// The largest and the smallest groups of each metric, as asked for; series are in falling order.
    private static func choose(_ series: [MetricAnswer.Series], _ query: MetricQuery) -> [MetricAnswer.Series] {
        guard query.topK != nil || query.bottomK != nil else { return Array(series.prefix(seriesMax)) }
        var kept: [MetricAnswer.Series] = []
        for name in unique(series.map(\.name)) {
            let own = series.filter { $0.name == name }
            let top = min(query.topK ?? 0, own.count)
            let bottom = min(query.bottomK ?? 0, own.count - top)
            kept += own.prefix(top) + own.suffix(bottom)
        }
        return Array(kept.prefix(seriesMax))
    }

    /// An hour of whole buckets, the one that holds the end included.
    private static func hour(before end: Int64, pointsMax: Int) -> Int64 {
        let step = steps.first { $0 * pointsMax >= 3600 } ?? 3600
        let width = Int64(step) * 1_000_000
        return ((end - 1) / width - Int64(max(1, 3600 / step)) + 1) * width
    }

    private static func step(since: Int64, end: Int64, pointsMax: Int) -> Int {
        steps.first { step in
            let width = Int64(step) * 1_000_000
            return (end - 1) / width - since / width + 1 <= Int64(pointsMax)
        } ?? max(1, Int((end - since) / 1_000_000 / Int64(max(1, pointsMax - 1))) + 1)
    }

    private static func check(_ query: MetricQuery) throws {
        guard (1...10).contains(query.names.count) else {
            throw ServiceError.invalid(
                field: "name",
                "names \(query.names.count) metrics",
                fix: "name 1 to 10; list them with: martlet metrics names"
            )
        }
        guard (1...100).contains(query.maxPoints) else {
            throw ServiceError.invalid(field: "max_points", "\(query.maxPoints) is out of range", fix: "use 1 to 100")
        }
        for (field, value) in [("top_k", query.topK), ("bottom_k", query.bottomK)] {
            if let value, !(1...100).contains(value) {
                throw ServiceError.invalid(field: field, "\(value) is out of range", fix: "use 1 to 100")
            }
        }
        let isGrouped = !query.groupBy.isEmpty
        guard isGrouped || (query.topK == nil && query.bottomK == nil) else {
            throw ServiceError.invalid(
                field: query.topK != nil ? "top_k" : "bottom_k",
                "chooses among groups, and nothing is grouped",
                fix: "add group_by, for example function_name"
            )
        }
        guard query.groupBy.count <= 4 else {
            throw ServiceError.invalid(field: "group_by", "has more than four keys", fix: "group by at most four")
        }
        for key in query.groupBy {
            let isPlain = key.utf8.allSatisfy {
                (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                    || [0x2D, 0x2E, 0x2F, 0x3A, 0x5F].contains($0)
            }
            guard isPlain, (1...100).contains(key.utf8.count) else {
                throw ServiceError.invalid(
                    field: "group_by",
                    "'\(key.prefix(40))' cannot be the name of an attribute",
                    fix: "use function_name, function_deployment_name, pipeline_name or an attribute's name"
                )
            }
        }
    }
}

/// The time asked for, in buckets that begin at multiples of the step since 1970.
struct MetricWindow {
    /// Microseconds since 1970.
    let since: Int64
    let end: Int64
    /// Seconds.
    let step: Int

    var width: Int64 { Int64(step) * 1_000_000 }
    /// Numbers of the buckets.
    var slots: ClosedRange<Int64> { since / width...(end - 1) / width }

    /// Seconds of a bucket that lie in the time asked for.
    func seconds(_ slot: Int64) -> Double {
        Double(min(end, (slot + 1) * width) - max(since, slot * width)) / 1_000_000
    }
}

/// Terms of a WHERE clause with their parameters.
struct MetricFilter {
    private var terms: [String] = []
    private(set) var parameters: [DuckDBValue] = []

    mutating func add(_ term: String, _ value: DuckDBValue) {
        terms.append(term)
        parameters.append(value)
    }

    mutating func add(names: [String]) {
        terms.append("name IN (\(names.map { _ in "?" }.joined(separator: ", ")))")
        parameters += names.map { .string($0) }
    }

    mutating func add(pipeline: String?, function: String?) {
        if let pipeline { add("pipeline = ?", .string(pipeline)) }
        guard let function else { return }
        terms.append("(function = ? OR json_extract_string(attributes, '$.function_deployment_name') = ?)")
        parameters += [.string(function), .string(function)]
    }

    var sql: String { terms.isEmpty ? "" : " WHERE " + terms.joined(separator: " AND ") }
}

extension DuckDBValue {
    var integer: Int64? {
        switch self {
        case .int(let value): value
        case .hugeint(let value): Int64(exactly: value)
        case .uhugeint(let value): Int64(exactly: value)
        default: nil
        }
    }

    var real: Double? {
        switch self {
        case .double(let value): value.isFinite ? value : nil
        case .null: nil
        default: integer.map(Double.init)
        }
    }
}
