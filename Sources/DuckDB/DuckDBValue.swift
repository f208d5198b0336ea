// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One value of a column or a parameter.
package enum DuckDBValue: Sendable, Hashable {
    case null
    case bool(Bool)
    /// Any integer type up to 64 bits.
    case int(Int64)
    /// HUGEINT, and UBIGINT beyond the range of `int`.
    case hugeint(Int128)
    case uhugeint(UInt128)
    case double(Double)
    case decimal(DecimalValue)
    case string(String)
    case blob([UInt8])
    /// Days since 1970-01-01.
    case date(Int32)
    /// Microseconds since midnight.
    case time(Int64)
    /// Microseconds since 1970-01-01, without time zone.
    case timestamp(Int64)
    /// Microseconds since 1970-01-01 UTC.
    case timestampTZ(Int64)
    /// Nanoseconds since 1970-01-01, without time zone.
    case timestampNanoseconds(Int64)
    case interval(months: Int32, days: Int32, micros: Int64)
    case uuid(String)
    /// The JSON text of a JSON column or of a nested value.
    case json(String)

    /// The value as SQL would print it; NULL is the empty text.
    package var text: String {
        switch self {
        case .null: ""
        case .bool(let value): value ? "true" : "false"
        case .int(let value): String(value)
        case .hugeint(let value): String(value)
        case .uhugeint(let value): String(value)
        case .double(let value):
            value.isNaN ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : value.description
        case .decimal(let value): value.description
        case .string(let value), .uuid(let value), .json(let value): value
        case .blob(let bytes): CalendarText.hexadecimal(bytes)
        case .date(let days): CalendarText.date(Int64(days))
        case .time(let micros): CalendarText.time(micros, digits: 6)
        case .timestamp(let micros): CalendarText.timestamp(micros, unitsPerSecond: 1_000_000, separator: " ")
        case .timestampTZ(let micros): CalendarText.timestamp(micros, unitsPerSecond: 1_000_000, separator: " ") + "+00"
        case .timestampNanoseconds(let nanos):
            CalendarText.timestamp(nanos, unitsPerSecond: 1_000_000_000, separator: " ")
        case .interval(let months, let days, let micros): "\(months) months \(days) days \(micros) microseconds"
        }
    }
}

/// A DECIMAL: `unscaled` divided by ten to the power of `scale`.
package struct DecimalValue: Sendable, Hashable, CustomStringConvertible {
    /// All digits as an integer.
    package let unscaled: Int128
    /// How many digits there may be, 1 to 38.
    package let width: UInt8
    /// How many of them stand after the point.
    package let scale: UInt8

    /// Makes a decimal of parts that DuckDB accepts: `scale` at most `width`, `width` 1 to 38.
    package init(unscaled: Int128, width: UInt8, scale: UInt8) {
        self.unscaled = unscaled
        self.width = width
        self.scale = scale
    }

    /// The number in plain digits, with all digits of the scale.
    package var description: String {
        var digits = String(unscaled.magnitude)
        let scale = Int(scale)
        if digits.utf8.count <= scale { digits = String(repeating: "0", count: scale + 1 - digits.utf8.count) + digits }
        let sign = unscaled < 0 ? "-" : ""
        guard scale > 0 else { return sign + digits }
        return "\(sign)\(digits.dropLast(scale)).\(digits.suffix(scale))"
    }
}
