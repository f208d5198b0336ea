// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// How many spans are kept when more come than are worth their cost.
///
/// Up to ``perSecond`` all are. Beyond that spans that failed stay, and every sixteenth trace, chosen by its id so that it stays whole; where
/// these are still more, every 256th. The others are dropped. A span that is kept costs about 15 µs of a processor until its file is merged.
struct SpanBudget {
    static let perSecond = 5_000
    /// What may come at once after a quiet second.
    private static let burst = 2 * perSecond

    private var left = SpanBudget.burst
    private var filledAt = ContinuousClock.now

    /// Whether so many spans would all be kept.
    mutating func hasRoom(for count: Int, now: ContinuousClock.Instant = .now) -> Bool {
        refill(now)
        return left >= count
    }

    /// The spans to keep.
    mutating func kept(_ spans: [SpanRecord], now: ContinuousClock.Instant = .now) -> [SpanRecord] {
        refill(now)
        guard left < spans.count else {
            left -= spans.count
            return spans
        }
        let isDeep = left <= -Self.perSecond
        let kept = spans.filter {
            $0.status == "ERROR" || (SpanSample.holds(traceID: $0.traceId) && (!isDeep || $0.traceId.hasSuffix("00")))
        }
        // The sample is paid for as well, also beforehand: as long as a flood lasts there is no room for others beside it.
        left = max(-Self.burst, left - kept.count)
        return kept
    }

    private mutating func refill(_ now: ContinuousClock.Instant) {
        let passed = now - filledAt
        let micros = passed.components.seconds * 1_000_000 + passed.components.attoseconds / 1_000_000_000_000
        if micros > 1000 {
            left = min(Self.burst, left + Int(min(micros, 2_000_000)) * Self.perSecond / 1_000_000)
            filledAt = now
        }
    }
}
