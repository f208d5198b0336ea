// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// A cron expression in a time zone.
///
/// Where clocks go forward, a time that does not exist fires at the first instant after the gap, once however many times fall into
/// it; where they go back, a time that comes twice fires the first time only. A schedule of every hour follows real time instead:
/// it fires in both of two equal hours and has nothing to make up for in a gap.
package struct CronSchedule: Sendable, Equatable {
    /// The expression.
    package let expression: CronExpression
    /// The zone its fields are read in.
    package let timeZone: TimeZone

    /// Makes a schedule of its parts.
    package init(_ expression: CronExpression, timeZone: TimeZone) {
        self.expression = expression
        self.timeZone = timeZone
    }

    /// Parses an expression and finds its zone, UTC where none is given.
    package init(_ text: String, timeZone name: String? = nil) throws(CronError) {
        try self.init(CronExpression(text), timeZone: ZoneName.zone(name ?? "UTC"))
    }

    /// The first fire time after an instant, in whole seconds; nil where there is none before the year 2200.
    package func next(after date: Date) -> Date? {
        let seconds = date.timeIntervalSince1970
        guard seconds.isFinite, abs(seconds) < 1e11 else { return nil }
        return next(after: Int(seconds.rounded(.down))).map { Date(timeIntervalSince1970: Double($0)) }
    }

    /// The next `count` fire times after an instant.
    package func next(after date: Date, count: Int) -> [Date] {
        var times: [Date] = []
        var last = date
        while times.count < count, let time = next(after: last) {
            times.append(time)
            last = time
        }
        return times
    }

    private func next(after instant: Int) -> Int? {
        expression.hasEveryHour ? nextOfEveryHour(after: instant) : nextOfFixedHours(after: instant)
    }

    private func nextOfFixedHours(after instant: Int) -> Int? {
        var local = instant + 1 + offset(instant)
        while let match = expression.nextLocal(from: local) {
            let (before, after, transition) = neighbourhood(of: match)
            let first = match - before
            let second = match - after
            let fire = first < transition ? first : max(second, transition)
            if fire > instant { return fire }
            local = match + 1
        }
        return nil
    }

    private func nextOfEveryHour(after instant: Int) -> Int? {
        let offset = offset(instant)
        var local = instant + 1 + offset
        var found: Int?
        while found == nil, let match = expression.nextLocal(from: local) {
            let (before, after, transition) = neighbourhood(of: match)
            let first = match - before
            let second = match - after
            if first < transition, first > instant {
                found = first
            } else if second >= transition, second > instant {
                found = second
            }
            local = match + 1
        }
        // A clock that goes back soon brings local times again that lie before `local`.
        let (before, after, transition) = change(from: instant, to: instant + 25 * 3600)
        guard after < before, transition > instant, transition <= found ?? .max,
            let match = expression.nextLocal(from: transition + after), match - after >= transition
        else { return found }
        return min(found ?? .max, match - after)
    }

    /// The offsets around a local time and the instant that separates them; `Int.max` where they are the same.
    private func neighbourhood(of local: Int) -> (before: Int, after: Int, transition: Int) {
        // Local times lie 12 hours behind to 14 hours ahead of UTC.
        change(from: local - 15 * 3600, to: local + 13 * 3600)
    }

    private func change(from start: Int, to end: Int) -> (before: Int, after: Int, transition: Int) {
        let before = offset(start)
        let after = offset(end)
        guard before != after else { return (before, after, .max) }
        var low = start
        var high = end
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if offset(middle) == before { low = middle } else { high = middle }
        }
        return (before, offset(high), high)
    }

    private func offset(_ instant: Int) -> Int {
        timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(instant)))
    }
}
