// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Numbers of a metric as people read them.
package enum MetricNumber {
    /// A value with its unit: `12.4 ms`, `1.5 MiB`, `12.3k`; of a rate, a second.
    package static func text(_ value: Double?, unit: String, aggregation: String) -> String {
        guard let value else { return "-" }
        let end = aggregation == "rate" ? "/s" : ""
        if aggregation == "count" || (aggregation == "rate" && isTime(unit)) { return plain(value) + end }
        switch unit {
        case "ms": return duration(value * 1000)
        case "s": return duration(value * 1_000_000) + end
        case "us": return duration(value)
        case "By":
            guard abs(value) < 9e18 else { return plain(value) + " B" + end }
            return Quantity.size(bytes: Int64(value.rounded())) + end
        default: return plain(value) + end
        }
    }

    static func isTime(_ unit: String) -> Bool { ["ms", "s", "us"].contains(unit) }

    private static func duration(_ micros: Double) -> String {
        guard abs(micros) < 9e18 else { return plain(micros) + " µs" }
        return Quantity.duration(microseconds: Int64(micros.rounded()))
    }

    /// At most four digits, then k, M, G and T.
    package static func plain(_ value: Double) -> String {
        guard value.isFinite else { return "\(value)" }
        var scaled = value
        var suffix = ""
        for next in ["k", "M", "G", "T"] where abs(scaled) >= 9999.5 {
            scaled /= 1000
            suffix = next
        }
        guard abs(scaled) < 1e15 else { return "\(value)" }
        let size = abs(scaled)
        let places =
            size >= 100 || size == 0 ? (suffix.isEmpty && size >= 1000 ? 0 : 1) : size >= 10 ? 1 : size >= 1 ? 2 : 3
        return decimal(scaled, places: places) + suffix
    }

    /// So many decimals at most, without trailing zeros.
    static func decimal(_ value: Double, places: Int) -> String {
        var factor = 1.0
        for _ in 0..<places { factor *= 10 }
        let units = (value * factor).rounded()
        guard abs(units) < 9e15 else { return "\(value)" }
        let whole = Int64(units) / Int64(factor)
        var fraction = String(Int64(units).magnitude % UInt64(factor))
        fraction = String(repeating: "0", count: max(0, places - fraction.count)) + fraction
        while fraction.last == "0" { fraction.removeLast() }
        let sign = units < 0 && whole == 0 ? "-" : ""
        return sign + "\(whole)" + (fraction.isEmpty ? "" : "." + fraction)
    }
}

/// The upright axis of a chart: a range that fits the values, with round marks.
package struct ValueAxis: Sendable {
    package let low: Double
    package let high: Double
    /// Values and labels, from below.
    package let ticks: [(value: Double, label: String)]
    /// What the labels count in, such as `ms`; empty for plain numbers.
    package let unit: String

    /// An axis over `values` with about `count` marks; it begins at 0 unless values are below, or all are far above and `mayFloat`.
    package init(values: [Double], unit: String, aggregation: String, count: Int, mayFloat: Bool) {
        let least = values.min() ?? 0
        let most = values.max() ?? 0
        let (factor, name) = Self.display(unit, aggregation, max(abs(most), abs(least)))
        var low = min(0, least)
        if mayFloat, least > 0, most > least, least > most * 0.7 { low = least }
        var high = max(most, low)
        if high == low { high = low + (high == 0 ? factor : abs(high)) }
        let step = Self.round(step: (high - low) / factor / Double(max(1, count)))
        low = (low / factor / step).rounded(.down) * step
        high = max(low + step, (high / factor / step - 1e-9).rounded(.up) * step)
        let marks = Int(((high - low) / step).rounded())
        self.low = low * factor
        self.high = high * factor
        self.unit = name
        ticks = (0...max(1, marks)).map { index in
            let value = low + Double(index) * step
            return (value * factor, Self.label(value, step))
        }
    }

    /// 1, 2 or 5 times a power of ten, at least `step`.
    private static func round(step: Double) -> Double {
        guard step > 0, step.isFinite else { return 1 }
        var power = 1.0
        while power * 10 <= step { power *= 10 }
        while power > step { power /= 10 }
        return [1, 2, 5, 10].map { $0 * power }.first { $0 >= step * 0.999 } ?? power * 10
    }

    private static func label(_ value: Double, _ step: Double) -> String {
        if abs(value) >= 9999.5 { return MetricNumber.plain(value) }
        let places = step >= 1 ? 0 : step >= 0.1 ? 1 : step >= 0.01 ? 2 : step >= 0.001 ? 3 : 6
        return MetricNumber.decimal(value, places: places)
    }

    private static func display(_ unit: String, _ aggregation: String, _ most: Double) -> (Double, String) {
        let end = aggregation == "rate" ? "/s" : ""
        if aggregation == "count" { return (1, "") }
        if MetricNumber.isTime(unit), aggregation == "rate" { return (1, "/s") }
        let seconds: Double? = unit == "ms" ? 0.001 : unit == "s" ? 1 : unit == "us" ? 0.000_001 : nil
        if let seconds {
            let size = most * seconds
            for (length, name) in [(3600.0, "h"), (60.0, "min"), (1, "s"), (0.001, "ms")] where size >= length * 2 {
                return (length / seconds, name + end)
            }
            return size >= 0.001 ? (0.001 / seconds, "ms" + end) : (0.000_001 / seconds, "µs" + end)
        }
        if unit == "By" {
            for (name, size) in [("TiB", 1099511627776.0), ("GiB", 1073741824.0), ("MiB", 1048576.0), ("KiB", 1024.0)]
            where most >= size {
                return (size, name + end)
            }
            return (1, "B" + end)
        }
        let noun = unit.hasPrefix("{") ? "" : unit == "1" ? "" : unit
        return (1, noun + end)
    }
}

/// The time axis of a chart: marks at round times, UTC.
package struct TimeAxis: Sendable {
    /// Microseconds since 1970.
    package let since: Int64
    package let end: Int64
    /// Times and labels, in order.
    package let ticks: [(micros: Int64, label: String)]

    /// An axis with at most `count` marks.
    package init(since: Int64, end: Int64, count: Int) {
        self.since = since
        self.end = max(end, since + 1)
        let widths: [Int64] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800,
            604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000,
        ]
        let length = self.end - since
        let width = (widths.first { length / ($0 * 1_000_000) <= Int64(max(1, count)) } ?? 315_360_000) * 1_000_000
        let first = (since + width - 1) / width
        let last = self.end / width
        ticks =
            first > last
            ? []
            : (first...last).map { number in
                let text = Timestamp.format(microseconds: number * width)
                switch width {
                case 86_400_000_000...: return (number * width, String(text.dropFirst(5).prefix(5)))
                case 60_000_000...: return (number * width, String(text.dropFirst(11).prefix(5)))
                default: return (number * width, String(text.dropFirst(11).prefix(8)))
                }
            }
    }

    /// Where a time stands, 0 to 1.
    package func share(_ micros: Int64) -> Double { Double(micros - since) / Double(end - since) }
}
