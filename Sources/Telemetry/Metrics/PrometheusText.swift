// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Writes metrics as Prometheus text 0.0.4 or OpenMetrics 1.0.
///
/// Names are those of the metrics with `_` for `.`; times are given in seconds and sizes in bytes, said by the name's end.
package enum PrometheusText {
    /// The text of all families that have series.
    package static func bytes(_ families: [MetricFamily], _ form: MetricExposition) -> [UInt8] {
        var text = ""
        for family in families where !family.series.isEmpty { append(family, form, to: &text) }
        if case .openMetrics = form { text += "# EOF\n" }
        return Array(text.utf8)
    }

    /// Unit as names end with it, and the factor to it.
    private static func unit(_ definition: MetricDefinition) -> (suffix: String?, factor: Double) {
        switch definition.unit {
        case "ms": ("seconds", 0.001)
        case "us": ("seconds", 0.000_001)
        case "s": ("seconds", 1)
        case "By": ("bytes", 1)
        default: (nil, 1)
        }
    }

    private static func append(_ family: MetricFamily, _ form: MetricExposition, to text: inout String) {
        let definition = family.definition
        let (suffix, factor) = unit(definition)
        var name = String(definition.name.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
        let isCounter = definition.kind == .counter
        if isCounter, name.hasSuffix("_total") { name.removeLast(6) }
        if let suffix, !name.hasSuffix("_" + suffix) { name += "_" + suffix }
        let sample = isCounter ? name + "_total" : name
        var type = "gauge"
        if isCounter { type = "counter" }
        if definition.kind == .histogram { type = "histogram" }
        var isOpen = false
        if case .openMetrics = form { isOpen = true }
        let heading = isOpen ? name : sample
        text += "# HELP \(heading) \(escape(definition.description, quotes: isOpen))\n# TYPE \(heading) \(type)\n"
        if isOpen, let suffix { text += "# UNIT \(heading) \(suffix)\n" }
        for series in family.series {
            let labels = series.labels.sorted { $0.key < $1.key }.map {
                "\(label($0.key))=\"\(escape($0.value, quotes: true))\""
            }
            switch series.value {
            case .number(let value):
                text += "\(sample)\(braces(labels)) \(number(value * factor))\n"
            case .histogram(let histogram):
                append(histogram, definition.bounds, factor, name, labels, to: &text)
            }
        }
    }

    private static func append(
        _ histogram: HistogramSnapshot,
        _ bounds: [Double],
        _ factor: Double,
        _ name: String,
        _ labels: [String],
        to text: inout String
    ) {
        var total: Int64 = 0
        for (index, count) in histogram.counts.enumerated() {
            total += count
            let bound = index < bounds.count ? boundary(bounds[index], factor) : "+Inf"
            text += "\(name)_bucket\(braces(labels + ["le=\"\(bound)\""])) \(total)\n"
        }
        text += "\(name)_sum\(braces(labels)) \(number(histogram.sum * factor))\n"
        text += "\(name)_count\(braces(labels)) \(total)\n"
    }

    private static func braces(_ labels: [String]) -> String {
        labels.isEmpty ? "" : "{" + labels.joined(separator: ",") + "}"
    }

    /// A bound without the noise of multiplication: 300 ms is 0.3 s, and not 0.30000000000000004.
    private static func boundary(_ bound: Double, _ factor: Double) -> String {
        "\(factor < 1 ? bound / (1 / factor).rounded() : bound)"
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value) { return "\(whole)" }
        return "\(value)"
    }

    private static func label(_ name: String) -> String {
        var clean = String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "_" })
        if clean.isEmpty || clean.first?.isNumber == true { clean = "_" + clean }
        return clean
    }

    private static func escape(_ text: String, quotes: Bool) -> String {
        var clean = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": clean += "\\\\"
            case "\n": clean += "\\n"
            case "\"" where quotes: clean += "\\\""
            default: clean.unicodeScalars.append(scalar)
            }
        }
        return clean
    }
}
