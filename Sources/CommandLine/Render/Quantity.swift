// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Numbers with units, the way people read them.
package enum Quantity {
    /// A duration with the unit that keeps it short: `740 µs`, `12.4 ms`, `3.05 s`, `2 min 5 s`, `1 h 3 min`.
    package static func duration(microseconds: Int64) -> String {
        let sign = microseconds < 0 ? "-" : ""
        let micros = microseconds.magnitude
        switch micros {
        case 0..<1000: return "\(sign)\(micros) µs"
        case 1000..<1_000_000: return "\(sign)\(decimal(Double(micros) / 1000)) ms"
        case 1_000_000..<60_000_000: return "\(sign)\(decimal(Double(micros) / 1_000_000)) s"
        case 60_000_000..<3_600_000_000:
            return "\(sign)\(micros / 60_000_000) min \(micros / 1_000_000 % 60) s"
        default: return "\(sign)\(micros / 3_600_000_000) h \(micros / 60_000_000 % 60) min"
        }
    }

    /// A size in binary units: `512 B`, `1.5 KiB`, `12 MiB`.
    package static func size(bytes: Int64) -> String {
        var value = Double(bytes)
        for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
            if abs(value) < 1024 || unit == "TiB" {
                return unit == "B" ? "\(bytes) B" : "\(decimal(value)) \(unit)"
            }
            value /= 1024
        }
        return "\(bytes) B"
    }

    /// Three significant digits at most, without trailing zeros.
    private static func decimal(_ value: Double) -> String {
        let scale: Double = value < 10 ? 100 : value < 100 ? 10 : 1
        let units = Int64((value * scale).rounded())
        let whole = units / Int64(scale)
        var fraction = units % Int64(scale)
        guard fraction != 0 else { return "\(whole)" }
        var width = scale == 100 ? 2 : 1
        while fraction % 10 == 0 {
            fraction /= 10
            width -= 1
        }
        let digits = String(fraction)
        return "\(whole)." + String(repeating: "0", count: width - digits.count) + digits
    }

    /// An RFC 3339 time to the second; anything else comes back as it is.
    package static func time(_ text: String?) -> String? {
        guard let text, let micros = Timestamp.parseMicroseconds(text) else { return text }
        return Timestamp.format(microseconds: micros).prefix(19) + "Z"
    }
}
