// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// UTC times as the engine writes them: RFC 3339 with microseconds.
///
/// Times come from clients and files, too, and can be any number: what is beyond the years 1 to 9999, which RFC 3339 can write, is taken
/// for their beginning or their end. Times of this range can be subtracted from each other.
package enum Timestamp {
    /// From `0001-01-01T00:00:00Z` to the last microsecond of 9999.
    package static let microsecondsRange: ClosedRange<Int64> = -62_135_596_800_000_000...253_402_300_799_999_999

    /// `2026-04-08T15:41:29.591955Z`.
    package static func format(microseconds: Int64) -> String {
        let microseconds = clamped(microseconds)
        var seconds = microseconds / 1_000_000
        var fraction = microseconds % 1_000_000
        if fraction < 0 {
            fraction += 1_000_000
            seconds -= 1
        }
        var time = time_t(seconds)
        var parts = tm()
        gmtime_r(&time, &parts)
        var text = [UInt8]()
        text.reserveCapacity(27)
        append(Int64(parts.tm_year) + 1900, width: 4, to: &text)
        text.append(0x2D)
        append(Int64(parts.tm_mon) + 1, width: 2, to: &text)
        text.append(0x2D)
        append(Int64(parts.tm_mday), width: 2, to: &text)
        text.append(0x54)
        append(Int64(parts.tm_hour), width: 2, to: &text)
        text.append(0x3A)
        append(Int64(parts.tm_min), width: 2, to: &text)
        text.append(0x3A)
        append(Int64(parts.tm_sec), width: 2, to: &text)
        text.append(0x2E)
        append(fraction, width: 6, to: &text)
        text.append(0x5A)
        return String(decoding: text, as: UTF8.self)
    }

    /// The same for a date.
    package static func format(_ date: Date) -> String {
        format(microseconds: microseconds(date))
    }

    /// Microseconds since 1970, rounded, in ``microsecondsRange``.
    package static func microseconds(_ date: Date) -> Int64 {
        let value = (date.timeIntervalSince1970 * 1_000_000).rounded()
        return clamped(Int64(exactly: value) ?? (value > 0 ? .max : .min))
    }

    /// Microseconds since 1970 of milliseconds since then, in ``microsecondsRange``.
    package static func microseconds(milliseconds: Int64) -> Int64 {
        let (value, isBeyond) = milliseconds.multipliedReportingOverflow(by: 1000)
        return clamped(isBeyond ? (milliseconds > 0 ? .max : .min) : value)
    }

    /// How many seconds have passed since a time in milliseconds since 1970; 0 where it is yet to come.
    package static func age(milliseconds: Int64, nowMicroseconds: Int64 = nowMicroseconds()) -> Double {
        Double(max(0, clamped(nowMicroseconds) - microseconds(milliseconds: milliseconds))) / 1_000_000
    }

    private static func clamped(_ microseconds: Int64) -> Int64 {
        min(max(microseconds, microsecondsRange.lowerBound), microsecondsRange.upperBound)
    }

    /// Now, in microseconds since 1970.
    package static func nowMicroseconds() -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    }

    /// Parses RFC 3339 with `Z` or an offset and up to nine decimals; nil where it is not one.
    package static func parse(_ text: some StringProtocol) -> Date? {
        guard let micros = parseMicroseconds(text) else { return nil }
        return Date(timeIntervalSince1970: Double(micros) / 1_000_000)
    }

    /// As ``parse(_:)``, in microseconds since 1970.
    package static func parseMicroseconds(_ text: some StringProtocol) -> Int64? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20, bytes[4] == 0x2D, bytes[7] == 0x2D, bytes[13] == 0x3A, bytes[16] == 0x3A,
            [0x54, 0x74, 0x20].contains(bytes[10]),
            let year = number(bytes, 0, 4), let month = number(bytes, 5, 2), let day = number(bytes, 8, 2),
            let hour = number(bytes, 11, 2), let minute = number(bytes, 14, 2), let second = number(bytes, 17, 2),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second < 61
        else { return nil }
        var index = 19
        var fraction = 0
        if bytes[index] == 0x2E {
            index += 1
            let start = index
            while index < bytes.count, (0x30...0x39).contains(bytes[index]) {
                if index - start < 6 { fraction = fraction * 10 + Int(bytes[index] - 0x30) }
                index += 1
            }
            guard index > start else { return nil }
            for _ in 0..<max(0, 6 - (index - start)) { fraction *= 10 }
        }
        guard let offset = offsetSeconds(bytes[index...]) else { return nil }
        var parts = tm()
        parts.tm_year = Int32(year - 1900)
        parts.tm_mon = Int32(month - 1)
        parts.tm_mday = Int32(day)
        parts.tm_hour = Int32(hour)
        parts.tm_min = Int32(minute)
        parts.tm_sec = Int32(second)
        let seconds = Int64(timegm(&parts))
        guard parts.tm_mday == Int32(day) else { return nil }
        return (seconds - Int64(offset)) * 1_000_000 + Int64(fraction)
    }

    private static func offsetSeconds(_ zone: ArraySlice<UInt8>) -> Int? {
        let bytes = Array(zone)
        if bytes == [0x5A] || bytes == [0x7A] { return 0 }
        guard bytes.count == 6, bytes[0] == 0x2B || bytes[0] == 0x2D, bytes[3] == 0x3A,
            let hours = number(bytes, 1, 2), let minutes = number(bytes, 4, 2), hours < 24, minutes < 60
        else { return nil }
        return (hours * 3600 + minutes * 60) * (bytes[0] == 0x2D ? -1 : 1)
    }

    private static func number(_ bytes: [UInt8], _ start: Int, _ count: Int) -> Int? {
        guard start + count <= bytes.count else { return nil }
        var value = 0
        for byte in bytes[start..<start + count] {
            guard (0x30...0x39).contains(byte) else { return nil }
            value = value * 10 + Int(byte - 0x30)
        }
        return value
    }

    private static func append(_ value: Int64, width: Int, to text: inout [UInt8]) {
        let start = text.count
        var rest = value
        for _ in 0..<width {
            text.append(0x30 + UInt8(rest % 10))
            rest /= 10
        }
        text[start...].reverse()
    }
}
