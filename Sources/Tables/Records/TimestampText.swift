// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Reads the common form of a timestamp in place.
enum TimestampText {
    /// Microseconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.f…]Z` with one to six digits of a fraction; nil for every other text.
    static func micros(_ p: Bytes, _ count: Int) -> Int64? {
        guard count >= 20, count <= 27, p[4] == 0x2D, p[7] == 0x2D, p[10] == 0x54, p[13] == 0x3A, p[16] == 0x3A,
            p[count - 1] == 0x5A
        else { return nil }
        var isBad = false
        func pair(_ index: Int) -> Int64 {
            let (high, low) = (p[index] &- 0x30, p[index + 1] &- 0x30)
            if high > 9 || low > 9 { isBad = true }
            return Int64(high) * 10 + Int64(low)
        }
        let (year, month, day) = (pair(0) * 100 + pair(2), pair(5), pair(8))
        let (hour, minute, second) = (pair(11), pair(14), pair(17))
        // Later days of a month depend on the month and are left to the general reading.
        guard !isBad, month >= 1, month <= 12, day >= 1, day <= 28, hour < 24, minute < 60, second < 60 else {
            return nil
        }
        var fraction: Int64 = 0
        if count > 20 {
            guard p[19] == 0x2E, count > 21 else { return nil }
            for index in 20..<26 {
                let digit = index < count - 1 ? p[index] &- 0x30 : 0
                guard digit <= 9 else { return nil }
                fraction = fraction * 10 + Int64(digit)
            }
        }
        // Days by Howard Hinnant's `days_from_civil`: years begin in March, so the leap day is the last.
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        return ((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction
    }
}
