// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension CronExpression {
    /// The first matching local second at or after `second`, both counted from 1970-01-01 as if the local time were UTC.
    func nextLocal(from second: Int) -> Int? {
        let day = CivilDate.floorDivide(second, CivilDate.secondsPerDay)
        var date = CivilDate.civil(dayNumber: day)
        if date.year < CronField.year.range.lowerBound { date = (CronField.year.range.lowerBound, 1, 1) }
        let start = CivilDate.dayNumber(year: date.year, month: date.month, day: date.day)
        let secondOfDay = start == day ? second - day * CivilDate.secondsPerDay : 0
        guard let first = nextDay(from: date) else { return nil }
        if first == start {
            if let time = nextTime(from: secondOfDay) { return first * CivilDate.secondsPerDay + time }
            guard let later = nextDay(from: CivilDate.civil(dayNumber: start + 1)) else { return nil }
            return nextTime(from: 0).map { later * CivilDate.secondsPerDay + $0 }
        }
        return nextTime(from: 0).map { first * CivilDate.secondsPerDay + $0 }
    }

    /// Whether any date matches at all.
    var matchesSomeDay: Bool {
        nextDay(from: (CronField.year.range.lowerBound, 1, 1)) != nil
    }

    private func nextDay(from date: (year: Int, month: Int, day: Int)) -> Int? {
        var (year, month, day) = date
        while year <= CronField.year.range.upperBound {
            if let years, !years.contains(year) {
                guard let next = years.filter({ $0 > year }).min() else { return nil }
                (year, month, day) = (next, 1, 1)
                continue
            }
            if months & (1 << UInt64(month)) != 0 {
                let left = (days(year: year, month: month) >> UInt64(day)) << UInt64(day)
                if left != 0 {
                    return CivilDate.dayNumber(year: year, month: month, day: left.trailingZeroBitCount)
                }
            }
            day = 1
            month += 1
            if month > 12 { (year, month) = (year + 1, 1) }
        }
        return nil
    }

    private func nextTime(from secondOfDay: Int) -> Int? {
        var hour = secondOfDay / 3600
        var minute = secondOfDay / 60 % 60
        var second = secondOfDay % 60
        while let matchingHour = Self.next(hours, from: hour) {
            if matchingHour > hour { (hour, minute, second) = (matchingHour, 0, 0) }
            while let matchingMinute = Self.next(minutes, from: minute) {
                if matchingMinute > minute { (minute, second) = (matchingMinute, 0) }
                if let matchingSecond = Self.next(seconds, from: second) {
                    return hour * 3600 + minute * 60 + matchingSecond
                }
                (minute, second) = (minute + 1, 0)
            }
            (hour, minute, second) = (hour + 1, 0, 0)
        }
        return nil
    }

    private static func next(_ bits: UInt64, from value: Int) -> Int? {
        let left = (bits >> UInt64(value)) << UInt64(value)
        return left == 0 ? nil : left.trailingZeroBitCount
    }

    /// The matching days of a month, bit n for day n.
    private func days(year: Int, month: Int) -> UInt64 {
        let count = CivilDate.daysInMonth(year: year, month: month)
        let firstWeekday = CivilDate.weekday(dayNumber: CivilDate.dayNumber(year: year, month: month, day: 1))
        var bits: UInt64 = 0
        for item in monthDays ?? [] { bits |= Self.monthDays(item, count: count, firstWeekday: firstWeekday) }
        for item in weekDays ?? [] { bits |= Self.weekDays(item, count: count, firstWeekday: firstWeekday) }
        return bits & ((1 << UInt64(count + 1)) - 2)
    }

    private static func monthDays(_ item: CronItem, count: Int, firstWeekday: Int) -> UInt64 {
        switch item {
        case .last(let offset): offset < count ? 1 << UInt64(count - offset) : 0
        case .lastWorkday(let offset):
            offset < count ? 1 << UInt64(workday(count - offset, count: count, firstWeekday: firstWeekday)) : 0
        case .nearestWorkday(let day):
            day <= count ? 1 << UInt64(workday(day, count: count, firstWeekday: firstWeekday)) : 0
        default: item.values(in: CronField.dayOfMonth.range).reduce(0) { $0 | 1 << UInt64($1) }
        }
    }

    /// The Monday to Friday nearest to a day, in the same month.
    private static func workday(_ day: Int, count: Int, firstWeekday: Int) -> Int {
        switch (firstWeekday - 1 + day - 1) % 7 {
        case 0: day < count ? day + 1 : day - 2
        case 6: day > 1 ? day - 1 : day + 2
        default: day
        }
    }

    private static func weekDays(_ item: CronItem, count: Int, firstWeekday: Int) -> UInt64 {
        func first(_ weekday: Int) -> Int { (weekday - firstWeekday + 7) % 7 + 1 }
        switch item {
        case .nthWeekday(let weekday, let n):
            let day = first(weekday) + 7 * (n - 1)
            return day <= count ? 1 << UInt64(day) : 0
        case .lastWeekday(let weekday):
            let day = first(weekday)
            return 1 << UInt64(day + (count - day) / 7 * 7)
        default:
            var bits: UInt64 = 0
            for weekday in item.values(in: CronField.dayOfWeek.range) {
                for day in stride(from: first(weekday), through: count, by: 7) { bits |= 1 << UInt64(day) }
            }
            return bits
        }
    }
}
