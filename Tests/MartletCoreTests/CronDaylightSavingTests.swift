// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Testing

struct CronDaylightSavingTests {
    private func times(_ cron: String, _ zone: String, from: String, _ count: Int) throws -> [String] {
        let start = try #require(Timestamp.parse(from))
        return try CronSchedule(cron, timeZone: zone).next(after: start, count: count)
            .map { String(Timestamp.format($0).prefix(16)) }
    }

    // Berlin: 2026-03-29 02:00 becomes 03:00 (01:00Z); 2026-10-25 03:00 becomes 02:00 (01:00Z).

    @Test func missingTimeFiresAtTheEndOfTheGapOnce() throws {
        #expect(
            try times("30 2 * * *", "Europe/Berlin", from: "2026-03-28T00:00:00Z", 3)
                == ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]
        )
        #expect(
            try times("0/10 2 * * *", "Europe/Berlin", from: "2026-03-29T00:00:00Z", 2)
                == ["2026-03-29T01:00", "2026-03-30T00:00"]
        )
    }

    @Test func doubledTimeFiresTheFirstTimeOnly() throws {
        #expect(
            try times("30 2 * * *", "Europe/Berlin", from: "2026-10-24T12:00:00Z", 2)
                == ["2026-10-25T00:30", "2026-10-26T01:30"]
        )
        #expect(
            try times("30 2 * * *", "Europe/Berlin", from: "2026-10-25T00:45:00Z", 1) == ["2026-10-26T01:30"]
        )
    }

    @Test func everyHourFollowsRealHours() throws {
        #expect(
            try times("30 * * * *", "Europe/Berlin", from: "2026-10-24T23:00:00Z", 4)
                == ["2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]
        )
        #expect(
            try times("30 * * * *", "Europe/Berlin", from: "2026-03-29T00:00:00Z", 3)
                == ["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"]
        )
    }

    @Test func newYorkChangesAtTwo() throws {
        #expect(
            try times("0 2 * * *", "America/New_York", from: "2026-03-08T00:00:00Z", 2)
                == ["2026-03-08T07:00", "2026-03-09T06:00"]
        )
        #expect(
            try times("30 1 * * *", "America/New_York", from: "2026-11-01T00:00:00Z", 2)
                == ["2026-11-01T05:30", "2026-11-02T06:30"]
        )
    }

    // Lord Howe moves by half an hour: 2026-10-04 02:00 becomes 02:30 (15:30Z), 2026-04-05 02:00 becomes 01:30 (15:00Z).
    @Test func lordHoweChangesByHalfAnHour() throws {
        #expect(
            try times("15 2 * * *", "Australia/Lord_Howe", from: "2026-10-03T00:00:00Z", 2)
                == ["2026-10-03T15:30", "2026-10-04T15:15"]
        )
        #expect(
            try times("45 1 * * *", "Australia/Lord_Howe", from: "2026-04-04T00:00:00Z", 2)
                == ["2026-04-04T14:45", "2026-04-05T15:15"]
        )
        #expect(
            try times("0/30 * * * *", "Australia/Lord_Howe", from: "2026-04-04T14:00:00Z", 4)
                == ["2026-04-04T14:30", "2026-04-04T15:00", "2026-04-04T15:30", "2026-04-04T16:00"]
        )
    }

    @Test func skippedDayFiresWhenItIsOver() throws {
        // Samoa had no 30 December 2011.
        #expect(
            try times("0 12 * * *", "Pacific/Apia", from: "2011-12-29T00:00:00Z", 3)
                == ["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"]
        )
    }

    @Test func agreesWithBruteForceAroundClockChanges() throws {
        let seed = ProcessInfo.processInfo.environment["CRON_SEED"].flatMap(UInt64.init) ?? .random(in: 0...UInt64.max)
        print("CRON_SEED=\(seed)")
        var random = SplitMix(state: seed)
        let changes = [
            ("Europe/Berlin", "2026-03-29T01:00:00Z"), ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z"), ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"), ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
            ("America/Havana", "2026-03-08T05:00:00Z"), ("UTC", "2026-02-28T23:00:00Z"),
        ]
        for round in 0..<240 {
            let (zone, change) = changes[round % changes.count]
            let fields = RandomFields(&random)
            let schedule = try CronSchedule(fields.text, timeZone: zone)
            let middle = Int(try #require(Timestamp.parse(change)).timeIntervalSince1970)
            let start = middle - 40 * 3600 - Int.random(in: 0..<7200, using: &random)
            let end = middle + 40 * 3600
            let wanted = fields.bruteForce(schedule.timeZone, from: start, to: end)
            var found: [Int] = []
            var last = Date(timeIntervalSince1970: Double(start))
            while let next = schedule.next(after: last), Int(next.timeIntervalSince1970) <= end {
                found.append(Int(next.timeIntervalSince1970))
                last = next
            }
            #expect(found == wanted, "\(fields.text) in \(zone) from \(start), CRON_SEED=\(seed)")
        }
    }

    @Test func randomTextNeverTraps() {
        let seed = ProcessInfo.processInfo.environment["CRON_SEED"].flatMap(UInt64.init) ?? .random(in: 0...UInt64.max)
        print("CRON_SEED=\(seed)")
        var random = SplitMix(state: seed)
        let pieces = [
            "*", "?", "L", "W", "#", "/", "-", ",", " ", " ", " ", "0", "5", "59", "99999999999999999999", "MON", "JAN",
            "é",
            "\u{0}", "LW", "L-3", "15W", "6#3", "-1", "2026", "@daily", "\n", "🦆", "*/7", "1-5",
        ]
        var accepted = 0
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...16, using: &random)
            var text = (0..<count).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &random)] }.joined()
            if Bool.random(using: &random) { text = text.map { "\($0) " }.joined() }
            if let schedule = try? CronSchedule(text) {  // A refusal is the usual outcome here.
                accepted += 1
                _ = schedule.next(after: Date(timeIntervalSince1970: 1.7e9), count: 3)
            }
        }
        #expect(accepted > 0)
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Random minutes, hours and weekdays with the rule of daylight saving spelled out minute by minute.
private struct RandomFields {
    var minutes: Set<Int>
    var hours: Set<Int>
    var weekdays: Set<Int>

    init(_ random: inout SplitMix) {
        minutes = Set((0..<Int.random(in: 1...4, using: &random)).map { _ in Int.random(in: 0...59, using: &random) })
        let everyHour = Bool.random(using: &random)
        hours = everyHour ? Set(0...23) : Set((0..<6).map { _ in Int.random(in: 0...4, using: &random) })
        let everyDay = Bool.random(using: &random)
        weekdays = everyDay ? Set(1...7) : Set((0..<4).map { _ in Int.random(in: 1...7, using: &random) })
    }

    var text: String {
        func list(_ values: Set<Int>) -> String { values.sorted().map(String.init).joined(separator: ",") }
        return
            "0 \(list(minutes)) \(hours.count == 24 ? "*" : list(hours)) ? * \(weekdays.count == 7 ? "*" : list(weekdays))"
    }

    private func matches(local: Int) -> Bool {
        let day = Int((Double(local) / 86_400).rounded(.down))
        let weekday = ((day + 4) % 7 + 7) % 7 + 1
        let second = local - day * 86_400
        return weekdays.contains(weekday) && hours.contains(second / 3600) && minutes.contains(second / 60 % 60)
    }

    func bruteForce(_ zone: TimeZone, from start: Int, to end: Int) -> [Int] {
        func offset(_ instant: Int) -> Int { zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(instant))) }
        var fires: Set<Int> = []
        var seenLocals: Set<Int> = []
        let first = (start - 90_000) / 60 * 60
        for instant in stride(from: first, through: end, by: 60) {
            let local = instant + offset(instant)
            let before = offset(instant - 60)
            if offset(instant) > before, hours.count != 24 {
                let gap = stride(from: instant + before, to: local, by: 60)
                if gap.contains(where: { matches(local: $0) }) { fires.insert(instant) }
            }
            let isRepeat = !seenLocals.insert(local).inserted
            if matches(local: local), hours.count == 24 || !isRepeat { fires.insert(instant) }
        }
        return fires.filter { $0 > start }.sorted()
    }
}
