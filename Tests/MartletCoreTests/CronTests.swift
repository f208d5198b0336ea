// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Testing

struct CronTests {
    @Test(arguments: [
        ("*/5 * * * *", "0 0/5 * ? * * *"),
        ("0 0/5 * * * ?", "0 0/5 * ? * * *"),
        ("0 0 * * 0", "0 0 0 ? * 1 *"),
        ("0 0 * * 7", "0 0 0 ? * 1 *"),
        ("0 0 * * 1-5", "0 0 0 ? * 2-6 *"),
        ("0 0 * * 5-7", "0 0 0 ? * 6-1 *"),
        ("0 0 * * 0-7", "0 0 0 ? * * *"),
        ("0 0 * * 5#3", "0 0 0 ? * 6#3 *"),
        ("0 0 * * 5L", "0 0 0 ? * 6L *"),
        ("0 0 0 ? * 2-6", "0 0 0 ? * 2-6 *"),
        ("0 0 0 ? * MON-FRI 2027-2030", "0 0 0 ? * 2-6 2027-2030"),
        ("0 0 12 L-3 JAN,jul ?", "0 0 12 L-3 1,7 ? *"),
        ("0 0 12 LW * ?", "0 0 12 LW * ? *"),
        ("0 0 12 15W * ?", "0 0 12 15W * ? *"),
        ("0 9 1 * *", "0 0 9 1 * ? *"),
        ("0 0 1 * 1", "0 0 0 1 * 2 *"),
        ("0 22-2/2 * * *", "0 0 22-2/2 ? * * *"),
        ("@daily", "0 0 0 ? * * *"),
        ("  0   0\t12 * * ?  ", "0 0 12 ? * * *"),
    ])
    func normalisesToSevenQuartzFields(_ pair: (String, String)) throws {
        let expression = try CronExpression(pair.0)
        #expect(expression.normalized == pair.1)
        let again = try CronExpression(pair.1)
        #expect(again.normalized == pair.1)
    }

    @Test(arguments: [
        ("0 0 0 L * ?", "2028-02-01T00:00:00Z", ["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"]),
        ("0 0 0 L-3 * ?", "2027-02-01T00:00:00Z", ["2027-02-25T00:00:00Z", "2027-03-28T00:00:00Z"]),
        ("0 0 0 LW * ?", "2026-01-20T00:00:00Z", ["2026-01-30T00:00:00Z", "2026-02-27T00:00:00Z"]),
        ("0 0 0 15W * ?", "2026-08-01T00:00:00Z", ["2026-08-14T00:00:00Z", "2026-09-15T00:00:00Z"]),
        ("0 0 0 1W * ?", "2026-07-15T00:00:00Z", ["2026-08-03T00:00:00Z", "2026-09-01T00:00:00Z"]),
        ("0 0 0 ? * 6#3", "2026-11-01T00:00:00Z", ["2026-11-20T00:00:00Z", "2026-12-18T00:00:00Z"]),
        ("0 0 0 ? * 6L", "2026-11-01T00:00:00Z", ["2026-11-27T00:00:00Z", "2026-12-25T00:00:00Z"]),
        ("0 0 0 29 2 ?", "2026-01-01T00:00:00Z", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("0 0 0 ? 2 2#5", "2026-01-01T00:00:00Z", ["2044-02-29T00:00:00Z", "2072-02-29T00:00:00Z"]),
        ("0 0 0 1 1 ? 2199", "2026-01-01T00:00:00Z", ["2199-01-01T00:00:00Z"]),
        (
            "0 0 13 * 5", "2026-11-01T00:00:00Z",
            ["2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"]
        ),
        (
            "0 22-2/2 * * *", "2026-11-01T03:00:00Z",
            ["2026-11-01T22:00:00Z", "2026-11-02T00:00:00Z", "2026-11-02T02:00:00Z"]
        ),
    ])
    func findsTheNextTimes(_ row: (String, String, [String])) throws {
        let start = try #require(Timestamp.parse(row.1))
        let schedule = try CronSchedule(row.0)
        let found = schedule.next(after: start.addingTimeInterval(-0.5), count: row.2.count)
        #expect(found == row.2.compactMap { Timestamp.parse($0) })
    }

    @Test func nextIsStrictlyAfter() throws {
        let schedule = try CronSchedule("*/5 * * * *")
        let noon = try #require(Timestamp.parse("2026-11-21T12:00:00Z"))
        #expect(schedule.next(after: noon) == noon.addingTimeInterval(300))
        #expect(schedule.next(after: noon.addingTimeInterval(-0.001)) == noon)
    }

    @Test(arguments: [
        ("61 * * * *", "minutes", "'61'"), ("* 24 * * *", "hours", "'24'"), ("* * 0 * *", "day of month", "'0'"),
        ("* * * 13 *", "month", "'13'"), ("* * * FOO *", "month", "'FOO'"), ("* * * * 8", "day of week", "'8'"),
        ("0 0 0 ? * 0", "day of week", "'0'"), ("0 0 0 ? * ?", "day of week", "'?'"),
        ("* * * *", "expression", "4 fields"),
        ("* * * * * * * *", "expression", "8 fields"), ("*/0 * * * *", "minutes", "'0'"),
        ("1,,2 * * * *", "minutes", "empty"),
        ("? * * * *", "minutes", "'?'"), ("* * 30 2 *", "day of month", "no date"),
        ("* * 31 4,6,9,11 *", "day of month", "no date"),
        ("* * 32W * *", "day of month", "W"), ("* * * * 5#6", "day of week", "#"), ("@reboot", "expression", "@daily"),
        ("", "expression", "0 fields"), ("1-2-3 * * * *", "minutes", "range"), ("1/2/3 * * * *", "minutes", "'/'"),
        ("0 0 0 29 2 ? 2027", "day of month", "no date"),
    ])
    func errorsNameFieldValueAndFix(_ row: (String, String, String)) throws {
        let error = try #require(throws: CronError.self) { try CronExpression(row.0) }
        #expect(error.field == row.1)
        #expect(error.description.contains(row.2), "\(error)")
        #expect(!error.fix.isEmpty)
    }

    @Test func unknownZoneSuggestsNearOnes() throws {
        let error = try #require(throws: CronError.self) { try CronSchedule("0 0 * * *", timeZone: "Europe/Berlinn") }
        #expect(error.field == "time zone")
        #expect(error.fix.contains("Europe/Berlin"))
        #expect(throws: CronError.self) { try CronSchedule("0 0 * * *", timeZone: "GMT+3") }
        #expect(throws: CronError.self) { try CronSchedule("0 0 * * *", timeZone: "../etc/passwd") }
        #expect(throws: CronError.self) { try CronSchedule("0 0 * * *", timeZone: "") }
        #expect(try CronSchedule("0 0 * * *", timeZone: "europe/berlin").timeZone.identifier == "Europe/Berlin")
        #expect(
            try CronSchedule("0 0 * * *", timeZone: "US/Eastern").timeZone.secondsFromGMT(
                for: Date(timeIntervalSince1970: 0)
            ) == -18_000
        )
    }

    @Test func searchingManyYearsIsQuick() throws {
        let schedule = try CronSchedule("59 59 23 ? 2 2#5 2199,2100,2072", timeZone: "Europe/Berlin")
        let start = ContinuousClock.now
        for _ in 0..<100 { _ = schedule.next(after: Date(timeIntervalSince1970: 0)) }
        #expect(ContinuousClock.now - start < .seconds(2))
    }
}
