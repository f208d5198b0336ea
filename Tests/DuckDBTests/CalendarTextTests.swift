// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Testing

@Suite struct CalendarTextTests {
    @Test(
        arguments: [
            ("1970-01-01", 0), ("1969-12-31", -1), ("2000-02-29", 11_016), ("2026-04-08", 20_551),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
        ] as [(String, Int32)]
    )
    func datesGoBothWays(text: String, days: Int32) {
        #expect(CalendarText.parseDate(text) == days)
        #expect(CalendarText.date(Int64(days)) == text)
    }

    @Test(arguments: [
        "", "2026-13-01", "2026-02-29", "2026-2-1", "2026-04-08T", "26-04-08", "2026-04-31", "2026-04-00",
    ])
    func badDatesAreRefused(text: String) {
        #expect(CalendarText.parseDate(text) == nil)
    }

    @Test(
        arguments: [
            ("2026-04-08T15:41:29.591955Z", 1_775_662_889_591_955), ("1970-01-01T00:00:00", 0),
            ("1969-12-31T23:59:59.5Z", -500_000), ("2026-04-08 17:41:29.591955+02:00", 1_775_662_889_591_955),
            ("1970-01-01", 0), ("1970-01-01T00:00:00.1234567Z", 123_456), ("1970-01-01T00:00-0530", 19_800_000_000),
        ] as [(String, Int64)]
    )
    func timestampsAreRead(text: String, micros: Int64) {
        #expect(CalendarText.parseTimestamp(text) == micros)
    }

    @Test(arguments: [
        "x", "2026-04-08T", "2026-04-08T24:00:00", "2026-04-08T12:60", "2026-04-08T12:00:00.", "2026-04-08T12:00:00Zx",
    ])
    func badTimestampsAreRefused(text: String) {
        #expect(CalendarText.parseTimestamp(text) == nil)
    }

    @Test func decimalsKeepTheirZeroes() {
        #expect(DecimalValue(unscaled: -5, width: 4, scale: 2).description == "-0.05")
        #expect(DecimalValue(unscaled: 1230, width: 4, scale: 2).description == "12.30")
        #expect(DecimalValue(unscaled: 7, width: 4, scale: 0).description == "7")
    }
}
