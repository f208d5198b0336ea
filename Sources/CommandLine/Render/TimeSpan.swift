// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Spans of time as people write them: `90s`, `5m`, `1h30m`, `2d`.
package enum TimeSpan {
    /// The span in microseconds; nil where `text` is none.
    package static func microseconds(_ text: String) -> Int64? {
        let units: [String: Int64] = [
            "us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000,
            "w": 604_800_000_000,
        ]
        var rest = Substring(text)
        var total: Int64 = 0
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let count = Int64(digits), let factor = units[String(unit)] else { return nil }
            let (part, isTooLong) = count.multipliedReportingOverflow(by: factor)
            let (sum, isTooMuch) = total.addingReportingOverflow(part)
            guard !isTooLong, !isTooMuch else { return nil }
            total = sum
        }
        return total
    }
}
