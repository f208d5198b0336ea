// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// When a failed event is tried again: 2, 4, 8 … seconds after each failure, at most 60.
enum RetryPolicy {
    static let delaySecondsMax = 60

    /// Microseconds to wait after `failures` failed attempts.
    static func delayMicros(failures: Int) -> Int64 {
        Int64(min(1 << min(max(failures, 1), 6), delaySecondsMax)) * 1_000_000
    }
}
