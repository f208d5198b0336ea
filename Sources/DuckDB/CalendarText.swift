// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Dates and times as text and back, in the proleptic Gregorian calendar (ISO 8601).
package enum CalendarText {
    /// Days since 1970-01-01 as `YYYY-MM-DD`; DuckDB's infinities as `infinity` and `-infinity`.
    package static func date(_ days: Int64) -> String {
        if days == Int64(Int32.max) { return "infinity" }
        if days == -Int64(Int32.max) { return "-infinity" }
        let (year, month, day) = civil(days)
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
    }

    /// Units since 1970-01-01 as date, separator and time, with as many digits after the second as are not zero.
    package static func timestamp(_ value: Int64, unitsPerSecond: Int64, separator: String) -> String {
        if value == .max { return "infinity" }
        if value == -.max { return "-infinity" }
        let unitsPerDay = 86_400 * unitsPerSecond
        var days = value / unitsPerDay
        var rest = value % unitsPerDay
        if rest < 0 {
            rest += unitsPerDay
            days -= 1
        }
        return date(days) + separator + time(rest, digits: unitsPerSecond == 1_000_000_000 ? 9 : 6)
    }

    /// Units since midnight as `HH:MM:SS[.fraction]`, where a unit is ten to the power of minus `digits` seconds.
    package static func time(_ value: Int64, digits: Int) -> String {
        var unitsPerSecond: Int64 = 1
        for _ in 0..<digits { unitsPerSecond *= 10 }
        let seconds = value / unitsPerSecond
        var text = "\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))"
        let fraction = value % unitsPerSecond
        if fraction != 0 {
            var digitsText = padded(fraction, digits)
            while digitsText.hasSuffix("0") { digitsText.removeLast() }
            text += "." + digitsText
        }
        return text
    }

    /// Days since 1970-01-01 of a `YYYY-MM-DD` text, or nil when it is none.
    package static func parseDate(_ text: some StringProtocol) -> Int32? {
        var scanner = DigitScanner(text)
        guard let days = scanner.date(), scanner.isAtEnd else { return nil }
        return Int32(exactly: days)
    }

    /// Microseconds since 1970-01-01 UTC of an ISO 8601 date and time; without an offset it is taken as UTC.
    ///
    /// Digits after the sixth are cut off. Nil when the text is none or out of range.
    package static func parseTimestamp(_ text: some StringProtocol) -> Int64? {
        var scanner = DigitScanner(text)
        guard let days = scanner.date() else { return nil }
        if scanner.isAtEnd { return micros(days, 0, 0) }
        guard scanner.skip("T") || scanner.skip("t") || scanner.skip(" "), let hours = scanner.number(2), hours < 24,
            scanner.skip(":"), let minutes = scanner.number(2), minutes < 60
        else { return nil }
        var seconds: Int64 = 0
        var fraction: Int64 = 0
        if scanner.skip(":") {
            guard let value = scanner.number(2), value < 60 else { return nil }
            seconds = value
            if scanner.skip(".") {
                guard let value = scanner.fraction(6) else { return nil }
                fraction = value
            }
        }
        guard let offset = scanner.offset(), scanner.isAtEnd else { return nil }
        return micros(days, hours * 3600 + minutes * 60 + seconds - offset, fraction)
    }

    /// Bytes as lowercase hexadecimal digits.
    package static func hexadecimal(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func micros(_ days: Int64, _ seconds: Int64, _ fraction: Int64) -> Int64? {
        let (scaled, isOverflow) = (days * 86_400 + seconds).multipliedReportingOverflow(by: 1_000_000)
        guard !isOverflow else { return nil }
        let (sum, isSumOverflow) = scaled.addingReportingOverflow(fraction)
        return isSumOverflow ? nil : sum
    }

    private static func padded(_ value: Int64, _ width: Int) -> String {
        let digits = String(value.magnitude)
        let zeroes = String(repeating: "0", count: max(0, width - digits.utf8.count))
        return (value < 0 ? "-" : "") + zeroes + digits
    }

    /// Howard Hinnant's `civil_from_days`: years begin in March, so the leap day is the last.
    private static func civil(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
    }

    /// The inverse of ``civil(_:)``.
    fileprivate static func days(year: Int64, month: Int64, day: Int64) -> Int64? {
        let lengths: [Int64] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard month >= 1, month <= 12, day >= 1 else { return nil }
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        guard day <= lengths[Int(month) - 1] + (month == 2 && isLeap ? 1 : 0) else { return nil }
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

/// Reads fixed runs of digits from ASCII text.
private struct DigitScanner {
    private let bytes: [UInt8]
    private var index = 0

    init(_ text: some StringProtocol) {
        bytes = Array(text.utf8)
    }

    var isAtEnd: Bool { index == bytes.count }

    mutating func skip(_ character: Character) -> Bool {
        guard index < bytes.count, bytes[index] == character.asciiValue else { return false }
        index += 1
        return true
    }

    mutating func number(_ digits: Int) -> Int64? {
        guard index + digits <= bytes.count else { return nil }
        var value: Int64 = 0
        for byte in bytes[index..<index + digits] {
            guard byte &- 0x30 <= 9 else { return nil }
            value = value * 10 + Int64(byte - 0x30)
        }
        index += digits
        return value
    }

    mutating func date() -> Int64? {
        guard let year = number(4), skip("-"), let month = number(2), skip("-"), let day = number(2) else { return nil }
        return CalendarText.days(year: year, month: month, day: day)
    }

    mutating func fraction(_ digits: Int) -> Int64? {
        var value: Int64 = 0
        var count = 0
        while index < bytes.count, bytes[index] &- 0x30 <= 9 {
            if count < digits { value = value * 10 + Int64(bytes[index] - 0x30) }
            count += 1
            index += 1
        }
        guard count > 0 else { return nil }
        while count < digits {
            value *= 10
            count += 1
        }
        return value
    }

    /// Seconds east of UTC; 0 when no offset stands there.
    mutating func offset() -> Int64? {
        if isAtEnd || skip("Z") || skip("z") { return 0 }
        let isNegative: Bool
        if skip("+") { isNegative = false } else if skip("-") { isNegative = true } else { return nil }
        guard let hours = number(2) else { return nil }
        var seconds = hours * 3600
        if skip(":") || !isAtEnd {
            guard let minutes = number(2), minutes < 60 else { return nil }
            seconds += minutes * 60
        }
        return isNegative ? -seconds : seconds
    }
}
