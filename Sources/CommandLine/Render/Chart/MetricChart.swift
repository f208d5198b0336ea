// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// One chart: a metric with a line for each group.
package struct MetricChart: Sendable {
    /// A group's line.
    package struct Line: Sendable {
        /// What was grouped by; "" where nothing was.
        package var label: String
        package var points: [(micros: Int64, value: Double?)]
        /// The aggregation over the whole time.
        package var total: Double?

        /// The values there are, without the gaps.
        package var values: [Double] { points.compactMap(\.value) }
        /// The newest value.
        package var last: Double? { values.last }
        /// The mean of the values, each bucket counted once.
        package var average: Double? { values.isEmpty ? nil : values.reduce(0, +) / Double(values.count) }
    }

    /// Lines drawn; the others are counted.
    package static let linesMax = 10

    package var name: String
    package var type: String
    package var unit: String
    package var aggregation: String
    /// Microseconds since 1970.
    package var since: Int64
    package var end: Int64
    package var stepSeconds: Int64
    package var lines: [Line]
    /// Groups that are in the answer and not drawn.
    package var linesLeftOut: Int

    /// The charts of an answer of `/metrics/query`, in the order asked for.
    package static func all(_ answer: JSONValue) -> [MetricChart] {
        let keys = (answer["group_by"]?.arrayValue ?? []).compactMap(\.stringValue)
        let since = answer["since"]?.stringValue.flatMap { Timestamp.parseMicroseconds($0) } ?? 0
        let end = answer["end"]?.stringValue.flatMap { Timestamp.parseMicroseconds($0) } ?? 0
        var charts: [MetricChart] = []
        for series in answer["series"]?.arrayValue ?? [] {
            let name = series["name"]?.stringValue ?? ""
            let type = series["type"]?.stringValue ?? ""
            let values = keys.map { key in (series["group"]?[key]?.stringValue).nonEmpty ?? "(none)" }
            let line = Line(
                label: Sanitizer.clean(values.joined(separator: " / ")),
                points: (series["points"]?.arrayValue ?? []).compactMap { point in
                    point["time"]?.stringValue.flatMap { Timestamp.parseMicroseconds($0) }.map {
                        ($0, point["value"]?.doubleValue)
                    }
                },
                total: series["total"]?.doubleValue
            )
            if let index = charts.firstIndex(where: { $0.name == name && $0.type == type }) {
                if charts[index].lines.count < linesMax {
                    charts[index].lines.append(line)
                } else {
                    charts[index].linesLeftOut += 1
                }
                continue
            }
            charts.append(
                MetricChart(
                    name: Sanitizer.clean(name),
                    type: type,
                    unit: Sanitizer.clean(series["unit"]?.stringValue ?? ""),
                    aggregation: series["aggregation"]?.stringValue ?? "",
                    since: since,
                    end: end,
                    stepSeconds: answer["step_seconds"]?.intValue ?? 1,
                    lines: [line],
                    linesLeftOut: 0
                )
            )
        }
        return charts
    }

    /// A value of the chart with its unit.
    package func text(_ value: Double?) -> String { MetricNumber.text(value, unit: unit, aggregation: aggregation) }

    /// The middle of a bucket, within the time asked for.
    func middle(_ micros: Int64) -> Int64 {
        (max(micros, since) + min(micros + stepSeconds * 1_000_000, end)) / 2
    }

    func axis(ticks: Int) -> ValueAxis {
        ValueAxis(
            values: lines.flatMap(\.values),
            unit: unit,
            aggregation: aggregation,
            count: ticks,
            mayFloat: type == "Gauge" || type == "UpDownCounter"
        )
    }

    /// What the values are, such as `p95 of each 1 min`.
    var meaning: String {
        let step = Quantity.duration(microseconds: stepSeconds * 1_000_000).replacing(" 0 s", with: "")
            .replacing(" 0 min", with: "")
        switch aggregation {
        case "rate": return "a second, over each \(step)"
        case "count": return "samples in each \(step)"
        case "sum":
            return type == "Counter" || type == "Histogram"
                ? "sum of each \(step)" : "sum over all series, each \(step)"
        default: return "\(aggregation) of each \(step)"
        }
    }

    /// Day and time of both ends.
    var span: String {
        let (from, to) = (Timestamp.format(microseconds: since), Timestamp.format(microseconds: end))
        let start = String(from.prefix(16)).replacing("T", with: " ")
        let isSameDay = from.prefix(10) == to.prefix(10)
        let finish = isSameDay ? String(to.dropFirst(11).prefix(5)) : String(to.prefix(16)).replacing("T", with: " ")
        return "\(start) to \(finish) UTC"
    }

    var totalTitle: String {
        switch aggregation {
        case "sum" where type == "Counter" || type == "Histogram", "count": "Total"
        default: "Overall"
        }
    }
}
