// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One of the seven fields of a cron expression: its name, range and names of values.
enum CronField: Int, CaseIterable, Sendable {
    case seconds
    case minutes
    case hours
    case dayOfMonth
    case month
    case dayOfWeek
    case year

    var name: String {
        switch self {
        case .seconds: "seconds"
        case .minutes: "minutes"
        case .hours: "hours"
        case .dayOfMonth: "day of month"
        case .month: "month"
        case .dayOfWeek: "day of week"
        case .year: "year"
        }
    }

    var range: ClosedRange<Int> {
        switch self {
        case .seconds, .minutes: 0...59
        case .hours: 0...23
        case .dayOfMonth: 1...31
        case .month: 1...12
        case .dayOfWeek: 1...7
        case .year: 1970...2199
        }
    }

    var names: [String] {
        switch self {
        case .month: ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
        case .dayOfWeek: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
        default: []
        }
    }

    /// What may be written, for messages.
    func hint(_ dialect: CronDialect) -> String {
        switch self {
        case .dayOfWeek where dialect == .unix:
            "write 0 to 7 (0 and 7 are Sunday, as in five-field cron) or SUN to SAT, such as 1-5, MON,WED, 5L or 5#3"
        case .dayOfWeek:
            "write 1 to 7 (1 is Sunday, as in Quartz) or SUN to SAT, such as 2-6, MON,WED, 6L, 6#3 or ?"
        case .dayOfMonth: "write 1 to 31, such as 1,15, L, L-3, 15W, LW or ?"
        case .month: "write 1 to 12 or JAN to DEC, such as 1-6 or 1/3"
        default: "write \(range.lowerBound) to \(range.upperBound), such as \(range.lowerBound), *, */5 or 1,2,3"
        }
    }
}

/// How many fields were written, which decides how days of the week are counted.
enum CronDialect: Sendable {
    /// Five fields: 0 and 7 are Sunday.
    case unix
    /// Six or seven fields: 1 is Sunday.
    case quartz
}

/// One entry of a field's list.
enum CronItem: Hashable, Sendable {
    /// `*`
    case any
    /// `a`, `a-b`, `a-b/n`; goes round the end of the field where `low` is above `high`.
    case range(low: Int, high: Int, step: Int)
    /// `a/n`: from `low` to the end of the field.
    case every(low: Int, step: Int)
    /// `L`, `L-3` days of the month.
    case last(offset: Int)
    /// `LW`, `L-3W`: the working day nearest to that day, in the same month.
    case lastWorkday(offset: Int)
    /// `15W`
    case nearestWorkday(day: Int)
    /// `6L` in days of the week.
    case lastWeekday(Int)
    /// `6#3`
    case nthWeekday(Int, n: Int)

    /// The entry in Quartz spelling.
    var text: String {
        switch self {
        case .any: "*"
        case .range(let low, let high, let step):
            (low == high ? "\(low)" : "\(low)-\(high)") + (step == 1 ? "" : "/\(step)")
        case .every(let low, let step): "\(low)/\(step)"
        case .last(let offset): offset == 0 ? "L" : "L-\(offset)"
        case .lastWorkday(let offset): offset == 0 ? "LW" : "L-\(offset)W"
        case .nearestWorkday(let day): "\(day)W"
        case .lastWeekday(let day): "\(day)L"
        case .nthWeekday(let day, let n): "\(day)#\(n)"
        }
    }

    /// The plain values of the entry; none for the entries that depend on the month.
    func values(in range: ClosedRange<Int>) -> [Int] {
        switch self {
        case .any: return Array(range)
        case .every(let low, let step): return Array(stride(from: low, through: range.upperBound, by: step))
        case .range(let low, let high, let step):
            guard low > high else { return Array(stride(from: low, through: high, by: step)) }
            let size = range.count
            return stride(from: low, through: high + size, by: step).map { $0 > range.upperBound ? $0 - size : $0 }
        default: return []
        }
    }
}
