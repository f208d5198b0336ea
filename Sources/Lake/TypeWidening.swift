// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB

/// Which column types can hold each other's values without loss.
///
/// integer → 128-bit integer → decimal; integer → double, where every value is within ±2^53; date → timestamp (midnight).
/// Decimals have 38 digits and grow in scale as long as the digits before the point still fit. Everything else is refused.
enum TypeWidening {
    /// Integers up to this magnitude are exact as doubles.
    static let exactDouble: Int64 = 1 << 53

    /// The type that holds both, or nil when there is none.
    static func common(_ left: ColumnType, _ right: ColumnType) -> ColumnType? {
        if left == right { return left }
        switch (left, right) {
        case (.bigint, .hugeint), (.hugeint, .bigint): return .hugeint
        case (.bigint, .double), (.double, .bigint): return .double
        case (.bigint, .decimal), (.hugeint, .decimal): return right
        case (.decimal, .bigint), (.decimal, .hugeint): return left
        case (.decimal(_, let first), .decimal(_, let second)): return .decimal(width: 38, scale: max(first, second))
        case (.date, .timestamp), (.timestamp, .date): return .timestamp
        default: return nil
        }
    }
}

/// A value that another type cannot hold.
struct InexactValue: Error {
    let row: Int
    let value: String
    let type: ColumnType
}

extension ColumnBuffer {
    /// The same values as another type that ``TypeWidening`` allows.
    func converted(to type: ColumnType) throws(InexactValue) -> ColumnBuffer {
        if type == self.type { return self }
        var result = ColumnBuffer(type)
        for row in 0..<count { try result.append(row: row, of: self) }
        return result
    }

    /// Appends one value of another column, converted to this column's type.
    mutating func append(row: Int, of source: ColumnBuffer) throws(InexactValue) {
        if source.isNull(row) {
            appendNull()
            return
        }
        switch (source.storage, type) {
        case (.booleans(let values), .boolean): append(values[row])
        case (.doubles(let values), .double): append(values[row])
        case (.bytes(let bytes, let ends), .varchar), (.bytes(let bytes, let ends), .json),
            (.bytes(let bytes, let ends), .blob):
            append(bytes: bytes[(row == 0 ? 0 : ends[row - 1])..<ends[row]])
        case (.integers(let values), _): try append(integer: values[row], from: source.type, row: row)
        case (.wide(let values), _): try append(wide: values[row], from: source.type, row: row)
        default: preconditionFailure("ColumnBuffer: a \(source.type) is no \(type)")
        }
    }

    private mutating func append(integer value: Int64, from source: ColumnType, row: Int) throws(InexactValue) {
        switch (source, type) {
        case (.date, .timestamp):
            let (micros, isOverflow) = value.multipliedReportingOverflow(by: 86_400_000_000)
            guard !isOverflow else {
                throw InexactValue(row: row, value: CalendarText.date(value), type: type)
            }
            append(micros)
        case (_, .hugeint): append(wide: Int128(value))
        case (_, .decimal): try append(wide: Int128(value), from: .hugeint, row: row)
        case (_, .double):
            guard value.magnitude <= TypeWidening.exactDouble.magnitude else {
                throw InexactValue(row: row, value: String(value), type: type)
            }
            append(Double(value))
        default: append(value)
        }
    }

    private mutating func append(wide value: Int128, from source: ColumnType, row: Int) throws(InexactValue) {
        guard case .decimal(let width, let scale) = type else {
            append(wide: value)
            return
        }
        var sourceScale: UInt8 = 0
        if case .decimal(_, let scale) = source { sourceScale = scale }
        var scaled = value
        var isOverflow = scale < sourceScale
        for _ in 0..<(isOverflow ? 0 : Int(scale - sourceScale)) where !isOverflow {
            (scaled, isOverflow) = scaled.multipliedReportingOverflow(by: 10)
        }
        guard !isOverflow, scaled.magnitude < DecimalText.limit(width: width) else {
            let decimal = DecimalValue(unscaled: value, width: 38, scale: sourceScale)
            throw InexactValue(row: row, value: decimal.description, type: type)
        }
        append(wide: scaled)
    }

    /// One value in the form queries give.
    func value(_ row: Int) -> DuckDBValue {
        if isNull(row) { return .null }
        switch (storage, type) {
        case (.booleans(let values), _): return .bool(values[row])
        case (.integers(let values), .date): return .date(Int32(truncatingIfNeeded: values[row]))
        case (.integers(let values), .timestamp): return .timestamp(values[row])
        case (.integers(let values), _): return .int(values[row])
        case (.wide(let values), .decimal(let width, let scale)):
            return .decimal(DecimalValue(unscaled: values[row], width: width, scale: scale))
        case (.wide(let values), _): return .hugeint(values[row])
        case (.doubles(let values), _): return .double(values[row])
        case (.bytes(let bytes, let ends), _):
            let slice = bytes[(row == 0 ? 0 : ends[row - 1])..<ends[row]]
            if type == .blob { return .blob(Array(slice)) }
            let text = String(decoding: slice, as: UTF8.self)
            return type == .json ? .json(text) : .string(text)
        }
    }
}

/// Decimal numbers as text.
enum DecimalText {
    /// Ten to the power of `width`: the first magnitude that does not fit.
    static func limit(width: UInt8) -> UInt128 {
        var limit: UInt128 = 1
        for _ in 0..<width { limit *= 10 }
        return limit
    }

    /// What a decimal text means, or nil when it is none or has more than 38 digits.
    ///
    /// A whole number without a point is `hugeint` beyond 64 bits, everything else a decimal of 38 digits.
    static func parse(_ text: String) -> (unscaled: Int128, type: ColumnType)? {
        var bytes = ArraySlice(text.utf8.map { $0 })
        var isNegative = false
        if let sign = bytes.first, sign == 0x2D || sign == 0x2B {
            isNegative = sign == 0x2D
            bytes.removeFirst()
        }
        var exponent = 0
        if let mark = bytes.firstIndex(where: { $0 | 0x20 == 0x65 }) {
            guard let value = Int(String(decoding: bytes[(mark + 1)...], as: UTF8.self)), value.magnitude <= 100 else {
                return nil
            }
            exponent = value
            bytes = bytes[..<mark]
        }
        var digits: UInt128 = 0
        var scale = 0
        var digitCount = 0
        var hasPoint = false
        for byte in bytes {
            if byte == 0x2E, !hasPoint {
                hasPoint = true
                continue
            }
            guard byte &- 0x30 <= 9 else { return nil }
            if digits >= limit(width: 37) { return nil }
            digits = digits * 10 + UInt128(byte - 0x30)
            digitCount += 1
            if hasPoint { scale += 1 }
        }
        guard digitCount > 0 else { return nil }
        scale -= exponent
        while scale < 0 {
            if digits >= limit(width: 37) { return nil }
            digits *= 10
            scale += 1
        }
        guard scale <= 38 else { return nil }
        let value = isNegative ? -Int128(digits) : Int128(digits)
        if scale == 0, !hasPoint, exponent == 0, Int64(exactly: value) == nil { return (value, .hugeint) }
        return (value, .decimal(width: 38, scale: UInt8(scale)))
    }
}
