// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// How long a slow client is borne with: waiting for it costs time, each byte that moves gives some back.
///
/// So a client may rest for a while, and may be slow for as long as it keeps to the lowest rate; a step of one byte now and then
/// buys nothing.
package struct Patience {
    /// How long it lasts with a client that does nothing.
    package let most: TimeAmount
    private let bytesPerSecond: Int64
    private var left: Int64

    package init(_ most: TimeAmount, bytesPerSecond: Int) {
        self.most = most
        self.bytesPerSecond = Int64(bytesPerSecond)
        left = most.nanoseconds
    }

    /// Whether nothing of it is left.
    package var isOver: Bool { left <= 0 }

    /// The client was waited for.
    package mutating func spend(_ time: TimeAmount) {
        left -= max(0, time.nanoseconds)
    }

    /// Bytes have moved.
    package mutating func earn(bytes: Int) {
        // In two steps, so that no number of bytes overflows.
        let seconds = Int64(bytes) / bytesPerSecond
        let rest = Int64(bytes) % bytesPerSecond
        let earned = seconds * 1_000_000_000 + rest * 1_000_000_000 / bytesPerSecond
        left = min(most.nanoseconds, left + min(earned, most.nanoseconds))
    }

    /// Others wait for what the client holds, so there is no more than this left.
    package mutating func limit(to time: TimeAmount) {
        left = min(left, time.nanoseconds)
    }

    /// The client begins anew.
    package mutating func refill() {
        left = most.nanoseconds
    }
}
