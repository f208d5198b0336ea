// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// Tells the coordinator the time.
package struct GroupClock: Sendable {
    /// The time now.
    package let now: @Sendable () -> GroupTime

    /// A clock that asks `now`.
    package init(now: @escaping @Sendable () -> GroupTime) {
        self.now = now
    }

    /// The machine's clocks.
    package static let system = GroupClock {
        GroupTime(instant: .now, wallMilliseconds: Timestamp.nowMicroseconds() / 1000)
    }
}
