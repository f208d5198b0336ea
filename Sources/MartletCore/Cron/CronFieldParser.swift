// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Reads one field of a cron expression.
struct CronFieldParser {
    let field: CronField
    let dialect: CronDialect
    let text: String

    /// Entries of the field; nil for `?`.
    func parse() throws(CronError) -> [CronItem]? {
        if text == "?" {
            guard field == .dayOfMonth || field == .dayOfWeek else {
                throw fail(text, "'?' is only for the day of month and the day of week", fix: "write * for every value")
            }
            return nil
        }
        var items: [CronItem] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard !part.isEmpty else {
                throw fail(text, "an entry of the list is empty", fix: "write values with one comma between them")
            }
            items.append(try item(String(part)))
        }
        return items.contains(.any) ? [.any] : items
    }

    private func item(_ part: String) throws(CronError) -> CronItem {
        if field == .dayOfMonth, let special = try dayOfMonth(part) { return special }
        if field == .dayOfWeek, let special = try dayOfWeek(part) { return special }
        let halves = part.split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count <= 2 else {
            throw fail(part, "more than one '/'", fix: "write start/step, such as 0/5")
        }
        let base = String(halves[0])
        guard halves.count == 2 else { return try plain(base, step: nil) }
        let span = field.range.count
        guard let step = number(String(halves[1])), (1...span).contains(step) else {
            throw fail(part, "the step '\(halves[1].prefix(20))' is not 1 to \(span)", fix: field.hint(dialect))
        }
        return try plain(base, step: step)
    }

    private func plain(_ base: String, step: Int?) throws(CronError) -> CronItem {
        if base == "*" {
            guard let step, step > 1 else { return .any }
            return .every(low: field.range.lowerBound, step: step)
        }
        let ends = base.split(separator: "-", omittingEmptySubsequences: false)
        switch ends.count {
        case 1:
            let low = try value(base)
            guard let step else { return .range(low: low, high: low, step: 1) }
            return .every(low: low, step: step)
        case 2:
            return try span(String(ends[0]), String(ends[1]), step: step ?? 1)
        default:
            throw fail(base, "is not a value or a range", fix: field.hint(dialect))
        }
    }

    private func span(_ first: String, _ last: String, step: Int) throws(CronError) -> CronItem {
        if field == .dayOfWeek, dialect == .unix, number(first) == 0, number(last) == 7 {
            return step == 1 ? .any : .every(low: 1, step: step)
        }
        let low = try value(first)
        let high = try value(last)
        if field == .year, low > high {
            throw fail("\(first)-\(last)", "the range goes backwards", fix: "write the earlier year first")
        }
        return .range(low: low, high: high, step: step)
    }

    private func dayOfMonth(_ part: String) throws(CronError) -> CronItem? {
        var rest = Substring(part)
        if rest.first == "L" {
            rest = rest.dropFirst()
            let workday = rest.last == "W"
            if workday { rest = rest.dropLast() }
            if rest.isEmpty { return workday ? .lastWorkday(offset: 0) : .last(offset: 0) }
            guard rest.first == "-", let offset = number(String(rest.dropFirst())), (0...30).contains(offset) else {
                throw fail(part, "is not a day counted from the last", fix: "write L, L-3, LW or L-3W, at most L-30")
            }
            return workday ? .lastWorkday(offset: offset) : .last(offset: offset)
        }
        guard rest.last == "W" else { return nil }
        guard let day = number(String(rest.dropLast())), (1...31).contains(day) else {
            throw fail(part, "'W' follows one day of the month", fix: "write 15W or LW")
        }
        return .nearestWorkday(day: day)
    }

    private func dayOfWeek(_ part: String) throws(CronError) -> CronItem? {
        if part == "L" { return .range(low: 7, high: 7, step: 1) }
        if let hash = part.firstIndex(of: "#") {
            let day = try value(String(part[..<hash]))
            guard let n = number(String(part[part.index(after: hash)...])), (1...5).contains(n) else {
                throw fail(part, "after '#' stands 1 to 5, the week of the month", fix: field.hint(dialect))
            }
            return .nthWeekday(day, n: n)
        }
        guard part.last == "L", part.count > 1 else { return nil }
        return .lastWeekday(try value(String(part.dropLast())))
    }

    /// One value as a number, days of the week counted as in Quartz.
    private func value(_ text: String) throws(CronError) -> Int {
        if let index = field.names.firstIndex(of: text) {
            return index + (field == .dayOfWeek ? 1 : field.range.lowerBound)
        }
        guard let number = number(text) else {
            throw fail(text, "is not a value of this field", fix: field.hint(dialect))
        }
        if field == .dayOfWeek, dialect == .unix {
            guard (0...7).contains(number) else { throw fail(text, "is out of range", fix: field.hint(dialect)) }
            return number % 7 + 1
        }
        guard field.range.contains(number) else { throw fail(text, "is out of range", fix: field.hint(dialect)) }
        return number
    }

    private func number(_ text: String) -> Int? {
        guard (1...6).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(text)
    }

    private func fail(_ value: String, _ message: String, fix: String) -> CronError {
        CronError(field: field.name, value: value, message, fix: fix)
    }
}
