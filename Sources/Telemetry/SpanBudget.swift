// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// How many spans are kept when more come than are worth their cost.
///
/// Up to ``perSecond`` all are. Beyond that spans that failed stay, and every sixteenth trace, chosen by its id so that it stays whole; the
/// others are dropped.
struct SpanBudget {
    static let perSecond = 10_000
    /// What may come at once after a quiet second.
    private static let burst = 2 * perSecond

    private var left = SpanBudget.burst
    private var filledAt = ContinuousClock.now

    /// The spans to keep.
    mutating func kept(_ spans: [SpanRecord], now: ContinuousClock.Instant = .now) -> [SpanRecord] {
        let passed = now - filledAt
        let micros = passed.components.seconds * 1_000_000 + passed.components.attoseconds / 1_000_000_000_000
        if micros > 1000 {
            left = min(Self.burst, left + Int(min(micros, 2_000_000)) * Self.perSecond / 1_000_000)
            filledAt = now
        }
        guard left < spans.count else {
            left -= spans.count
            return spans
        }
        return spans.filter { $0.status == "ERROR" || $0.traceId.utf8.last == UInt8(ascii: "0") }
    }
}
