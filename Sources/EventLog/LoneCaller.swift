// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Decides whether whoever brings an append to an idle writer may write and flush it on their own thread.
///
/// Waking the writer thread and being woken by it costs about as long as a fast disk takes for the flush. A producer that
/// waits for each record before it sends the next need not pay for that. Everybody else must not be affected: callers would
/// flush one after the other what a writer flushes at once, and a slow disk would hold up what else the caller's thread does.
package struct LoneCaller: Sendable {
    /// How many appends in a row must have been alone.
    package static let runMin = 16
    /// Whatever comes this soon behind another append was waiting already, in nanoseconds.
    package static let pauseMin: Int64 = 30_000
    /// The longest that recent cycles may have taken, in nanoseconds.
    package static let cycleMax: Int64 = 500_000
    /// After a cycle of this length callers stay away for ``stallPause``, in nanoseconds.
    package static let stallMin: Int64 = 20_000_000
    package static let stallPause: Int64 = 10_000_000_000
    /// The largest batch, in bytes.
    package static let batchBytesMax = 16 << 10

    private var run = 0
    private var endedAt: Int64 = .min
    private var stalledUntil: Int64 = .min
    /// The longest cycle, forgotten by an eighth with each further one.
    private var cycle: Int64 = 0

    private let isAlways: Bool

    /// Knows of no appends yet; with `always` whoever brings a batch may write it, for tests of what follows.
    package init(always: Bool = false) {
        isAlways = always
    }

    /// Whether a batch may be written by whoever brings it, now that nothing is being written.
    package mutating func mayWrite(bytes: Int, at now: Int64) -> Bool {
        if isAlways { return true }
        guard endedAt == .min || now - endedAt >= Self.pauseMin else {
            run = 0
            return false
        }
        return run >= Self.runMin && now >= stalledUntil && cycle <= Self.cycleMax && bytes <= Self.batchBytesMax
    }

    /// Takes note of an append that came while others were being written.
    package mutating func met() {
        run = 0
    }

    /// Takes note of a cycle that is over.
    package mutating func ended(appends: Int, nanoseconds: Int64, at now: Int64) {
        guard appends > 0 else { return }
        run = appends > 1 ? 0 : run + 1
        cycle = max(nanoseconds, cycle - cycle / 8)
        if nanoseconds >= Self.stallMin { stalledUntil = now + Self.stallPause }
        endedAt = now
    }
}
