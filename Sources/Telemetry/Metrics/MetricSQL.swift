// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import MartletCore

/// The statements behind `MetricReader.values`.
struct MetricSQL {
    typealias Run = @Sendable (String, [DuckDBValue]) async throws -> [[DuckDBValue]]

    private struct Key: Hashable {
        let name: String
        let type: String
        let group: String
    }

    private static let histogram = MetricDefinition.Kind.histogram.rawValue

    private static let extremes = """
        CAST(json_extract(buckets, '$.min') AS DOUBLE) AS low, CAST(json_extract(buckets, '$.max') AS DOUBLE) AS high
        """

    let table: String
    let groups: [String]
    let filter: MetricFilter
    let window: MetricWindow

    /// The values grouped by as a JSON list.
    private var group: String {
        let columns = groups.map { key in
            switch key {
            case "pipeline_name": "pipeline"
            case "function_name": "function"
            default: "json_extract_string(attributes, '$.\"\(key)\"')"
            }
        }
        return columns.isEmpty ? "'[]'" : "CAST(to_json([\(columns.joined(separator: ", "))]) AS VARCHAR)"
    }

    private func points(_ condition: String, columns: String) -> String {
        """
        SELECT name, type, unit, \(group) AS grp, time // \(window.width) AS slot, time, value, count, \(columns)
        FROM \(table)\(filter.sql) AND \(condition)
        """
    }

    /// Counters and gauges.
    func numbers(_ aggregation: MetricAggregation?, _ run: Run) async throws -> [MeasuredGroup] {
        let source = points(
            "type <> '\(Self.histogram)'",
            columns: "hash(pipeline, function, attributes) AS series"
        )
        let rows = try await run(
            """
            WITH points AS (\(source)),
            one AS (
                SELECT name, type, any_value(unit) AS unit, grp, slot, sum(value) AS total, avg(value) AS mean, min(value) AS low,
                    max(value) AS high, count(*) AS n,
                    CASE WHEN max(time) > min(time) THEN (arg_max(value, time) - arg_min(value, time)) * 1e6 / (max(time) - min(time)) END
                        AS slope
                FROM points GROUP BY name, type, grp, slot, series)
            SELECT name, type, any_value(unit), grp, slot, sum(total), sum(mean), min(low), max(high), CAST(sum(n) AS BIGINT), sum(slope)
            FROM one GROUP BY name, type, grp, slot
            """,
            filter.parameters
        )
        var all: [Key: MeasuredGroup] = [:]
        for row in rows {
            let key = Key(name: row[0].text, type: row[1].text, group: row[3].text)
            all[key, default: MeasuredGroup(row[0].text, row[1].text, row[2].text, row[3].text)]
                .numbers[row[4].integer ?? 0] = .init(
                    total: row[5].real ?? 0,
                    means: row[6].real ?? 0,
                    low: row[7].real ?? 0,
                    high: row[8].real ?? 0,
                    count: row[9].integer ?? 0,
                    slope: row[10].real
                )
        }
        if let share = aggregation?.quantile { try await addQuantiles(share, source, to: &all, run) }
        return Array(all.values)
    }

    private func addQuantiles(
        _ share: Double,
        _ source: String,
        to all: inout [Key: MeasuredGroup],
        _ run: Run
    ) async throws {
        let rows = try await run(
            """
            WITH points AS (\(source))
            SELECT name, type, grp, slot, quantile_cont(value, \(share)) FROM points
            GROUP BY GROUPING SETS ((name, type, grp, slot), (name, type, grp))
            """,
            filter.parameters
        )
        for row in rows {
            let key = Key(name: row[0].text, type: row[1].text, group: row[2].text)
            if let slot = row[3].integer {
                all[key]?.numbers[slot]?.quantile = row[4].real
            } else {
                all[key]?.quantile = row[4].real
            }
        }
    }

    /// Histograms with their buckets merged.
    func histograms(_ run: Run) async throws -> [MeasuredGroup] {
        let totals = try await run(
            """
            WITH points AS (\(points("type = '\(Self.histogram)'", columns: Self.extremes)))
            SELECT name, any_value(unit), grp, slot, sum(value), CAST(sum(count) AS BIGINT),
                CASE WHEN count(*) = count(low) THEN min(low) END,
                CASE WHEN count(*) = count(high) THEN max(high) END
            FROM points GROUP BY name, grp, slot
            """,
            filter.parameters
        )
        var all: [Key: MeasuredGroup] = [:]
        for row in totals {
            let key = Key(name: row[0].text, type: Self.histogram, group: row[2].text)
            var merge = HistogramMerge()
            merge.add(sum: row[4].real ?? 0, count: row[5].integer ?? 0, min: row[6].real, max: row[7].real)
            all[key, default: MeasuredGroup(row[0].text, Self.histogram, row[1].text, row[2].text)]
                .histograms[row[3].integer ?? 0] = merge
        }
        if all.isEmpty { return [] }
        let buckets = try await run(
            """
            WITH points AS (\(points("type = '\(Self.histogram)' AND buckets IS NOT NULL", columns: "buckets"))),
            lists AS (
                SELECT name, grp, slot, CAST(json_extract(buckets, '$.bounds') AS VARCHAR) AS bounds, CAST(json_extract(buckets, '$.counts') AS BIGINT[]) AS counts
                FROM points),
            spread AS (SELECT name, grp, slot, bounds, unnest(counts) AS n, unnest(range(len(counts))) AS place FROM lists)
            SELECT name, grp, slot, bounds, place, CAST(sum(n) AS BIGINT) FROM spread WHERE n > 0 GROUP BY ALL
            """,
            filter.parameters
        )
        var known: [String: [Double]] = [:]
        for row in buckets {
            let text = row[3].text
            let bounds = known[text] ?? Self.numbers(text)
            known[text] = bounds
            all[Key(name: row[0].text, type: Self.histogram, group: row[1].text)]?
                .histograms[row[2].integer ?? 0]?.add(
                    row[5].integer ?? 0,
                    bucket: Int(row[4].integer ?? -1),
                    bounds: bounds
                )
        }
        return Array(all.values)
    }

    private static func numbers(_ json: String) -> [Double] {
        ((try? JSONValue(parsing: json))?.arrayValue ?? []).compactMap(\.doubleValue)
    }
}

/// What was measured of one metric in one group, by bucket.
struct MeasuredGroup {
    /// A bucket of a counter or a gauge.
    struct Numbers {
        var total: Double
        /// Averages of the single series, summed.
        var means: Double
        var low: Double
        var high: Double
        var count: Int64
        /// Change a second, summed over the series; nil where each has one point.
        var slope: Double?
        var quantile: Double?
    }

    let name: String
    let type: String
    let unit: String
    /// A JSON list of the values grouped by.
    let group: String
    var numbers: [Int64: Numbers] = [:]
    var histograms: [Int64: HistogramMerge] = [:]
    /// Over the whole time.
    var quantile: Double?

    init(_ name: String, _ type: String, _ unit: String, _ group: String) {
        self.name = name
        self.type = type
        self.unit = unit
        self.group = group
    }

    private var isHistogram: Bool { type == MetricDefinition.Kind.histogram.rawValue }
    private var isCounter: Bool { type == MetricDefinition.Kind.counter.rawValue }

    func series(_ wanted: MetricAggregation?, _ keys: [String], _ window: MetricWindow) -> MetricAnswer.Series {
        let aggregation = wanted ?? (isHistogram ? .p95 : isCounter ? .sum : .avg)
        let points = window.slots.map { slot in
            let count = histograms[slot]?.count ?? numbers[slot]?.count ?? 0
            return MetricAnswer.Point(
                time: Date(timeIntervalSince1970: Double(slot * Int64(window.step))),
                value: value(aggregation, slot, seconds: window.seconds(slot)),
                count: count
            )
        }
        let values = (try? JSONValue(parsing: group))?.arrayValue ?? []
        let group = zip(keys, values).map { ($0, $1.stringValue ?? "") }
        return MetricAnswer.Series(
            name: name,
            type: type,
            unit: unit,
            aggregation: aggregation.rawValue,
            group: Dictionary(group) { first, _ in first },
            total: total(aggregation, seconds: Double(window.end - window.since) / 1_000_000),
            count: points.reduce(0) { $0 + $1.count },
            points: points
        )
    }

    private func value(_ aggregation: MetricAggregation, _ slot: Int64, seconds: Double) -> Double? {
        if isHistogram {
            guard let histogram = histograms[slot] else { return Self.empty(aggregation) }
            return Self.value(aggregation, histogram, seconds: seconds)
        }
        guard let bucket = numbers[slot] else { return isCounter ? Self.empty(aggregation) : nil }
        switch aggregation {
        case .sum: return isCounter ? bucket.total : bucket.means
        case .avg: return bucket.count > 0 ? bucket.total / Double(bucket.count) : nil
        case .min: return bucket.low
        case .max: return bucket.high
        case .rate: return isCounter ? bucket.total / seconds : bucket.slope
        case .count: return Double(bucket.count)
        case .p50, .p95, .p99: return bucket.quantile
        }
    }

    /// What a bucket without points says where points are what was gained.
    private static func empty(_ aggregation: MetricAggregation) -> Double? {
        switch aggregation {
        case .sum, .rate, .count: 0
        default: nil
        }
    }

    private static func value(_ aggregation: MetricAggregation, _ merge: HistogramMerge, seconds: Double) -> Double? {
        switch aggregation {
        case .sum: merge.sum
        case .avg: merge.average
        case .min: merge.min
        case .max: merge.max
        case .rate: Double(merge.count) / seconds
        case .count: Double(merge.count)
        case .p50, .p95, .p99: aggregation.quantile.flatMap { merge.quantile($0) }
        }
    }

    private func total(_ aggregation: MetricAggregation, seconds: Double) -> Double? {
        if isHistogram {
            var whole = HistogramMerge()
            for histogram in histograms.values { whole.merge(histogram) }
            return Self.value(aggregation, whole, seconds: seconds)
        }
        let buckets = Array(numbers.values)
        let count = buckets.reduce(0) { $0 + $1.count }
        guard count > 0 else { return nil }
        switch aggregation {
        case .sum where isCounter: return buckets.reduce(0) { $0 + $1.total }
        case .sum: return buckets.reduce(0) { $0 + $1.means } / Double(buckets.count)
        case .avg: return buckets.reduce(0) { $0 + $1.total } / Double(count)
        case .min: return buckets.map(\.low).min()
        case .max: return buckets.map(\.high).max()
        case .rate where isCounter: return buckets.reduce(0) { $0 + $1.total } / seconds
        case .rate:
            let slopes = buckets.compactMap(\.slope)
            return slopes.isEmpty ? nil : slopes.reduce(0, +) / Double(slopes.count)
        case .count: return Double(count)
        case .p50, .p95, .p99: return quantile
        }
    }
}
