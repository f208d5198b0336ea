// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A cron expression of five (Unix), six or seven (Quartz) fields.
///
/// Five fields count days of the week from Sunday as 0 (or 7), six and seven from Sunday as 1. Where both the day of month and the
/// day of week are given, a day that matches either one matches. ``normalized`` is always in seven fields.
package struct CronExpression: Sendable, Hashable {
    /// The expression as it was written.
    package let text: String
    /// The same schedule in seven Quartz fields, for example `0 0/5 * ? * * *`.
    package let normalized: String

    let seconds: UInt64
    let minutes: UInt64
    let hours: UInt64
    let months: UInt64
    /// Nil is every year.
    let years: Set<Int>?
    /// Nil matches through the day of the week alone.
    let monthDays: [CronItem]?
    /// Nil matches through the day of the month alone.
    let weekDays: [CronItem]?

    private static let macros = [
        "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
        "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
    ]

    /// Parses an expression.
    ///
    /// - Throws: `CronError` naming the field, its value and the fix; also where no date ever matches.
    package init(_ text: String) throws(CronError) {
        self.text = text
        let parts = try Self.split(text)
        let dialect: CronDialect = parts.count == 5 ? .unix : .quartz
        let padded = (parts.count == 5 ? ["0"] : []) + parts + (parts.count == 7 ? [] : ["*"])
        var fields: [[CronItem]?] = []
        for (field, part) in zip(CronField.allCases, padded) {
            fields.append(try CronFieldParser(field: field, dialect: dialect, text: part).parse())
        }
        let (days, weekdays) = try Self.days(fields[3], fields[5], written: padded)
        monthDays = days
        weekDays = weekdays
        seconds = Self.bits(fields[0], .seconds)
        minutes = Self.bits(fields[1], .minutes)
        hours = Self.bits(fields[2], .hours)
        months = Self.bits(fields[4], .month)
        let years = fields[6] ?? [.any]
        self.years = years == [.any] ? nil : Set(years.flatMap { $0.values(in: CronField.year.range) })
        var normal = fields
        normal[3] = days
        normal[5] = weekdays
        normalized = normal.map { items in items.map { $0.map(\.text).joined(separator: ",") } ?? "?" }
            .joined(separator: " ")
        guard matchesSomeDay else {
            throw CronError(
                field: CronField.dayOfMonth.name,
                value: padded[3],
                "no date ever has this day in month '\(padded[4])'\(self.years == nil ? "" : " of year '\(padded[6])'")",
                fix: "choose a day that the month has; L is the last day of every month"
            )
        }
    }

    /// Whether the hours are not restricted, so that the schedule follows real hours when the clock is changed.
    var hasEveryHour: Bool { hours == (1 << 24) - 1 }

    private static func split(_ text: String) throws(CronError) -> [String] {
        guard text.utf8.count <= 1000 else {
            throw CronError(field: "expression", value: text, "is longer than 1000 bytes", fix: "use ranges and steps")
        }
        var parts = text.uppercased().split { $0 == " " || $0 == "\t" || $0 == "\n" || $0 == "\r\n" }.map(String.init)
        if parts.count == 1, parts[0].hasPrefix("@") {
            guard let macro = macros[parts[0].lowercased()] else {
                let known = macros.keys.sorted().joined(separator: ", ")
                throw CronError(field: "expression", value: text, "is not a known name", fix: "use one of \(known)")
            }
            parts = macro.split(separator: " ").map(String.init)
        }
        guard (5...7).contains(parts.count) else {
            throw CronError(
                field: "expression",
                value: text,
                "has \(parts.count) fields",
                fix: "write 5 fields (minute hour day month weekday), 6 (second first) or 7 (year last)"
            )
        }
        return parts
    }

    /// Decides which of the two day fields counts.
    private static func days(
        _ days: [CronItem]?,
        _ weekdays: [CronItem]?,
        written: [String]
    ) throws(CronError) -> ([CronItem]?, [CronItem]?) {
        switch (days, weekdays) {
        case (nil, nil):
            throw CronError(
                field: CronField.dayOfWeek.name,
                value: "?",
                "the day of month is '?' too",
                fix: "write * in one of the two"
            )
        case ([.any]?, nil), ([.any]?, [.any]?): return (nil, [.any])
        case ([.any]?, let weekdays?): return (nil, weekdays)
        case (let days?, [.any]?): return (days, nil)
        default: return (days, weekdays)
        }
    }

    private static func bits(_ items: [CronItem]?, _ field: CronField) -> UInt64 {
        var bits: UInt64 = 0
        for item in items ?? [.any] {
            for value in item.values(in: field.range) { bits |= 1 << UInt64(value) }
        }
        return bits
    }
}
