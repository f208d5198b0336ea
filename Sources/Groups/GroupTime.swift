// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A moment, as the state machine is told it.
package struct GroupTime: Sendable, Equatable {
    /// For timeouts; never goes back.
    package var instant: ContinuousClock.Instant
    /// For what is stored, in milliseconds since 1970.
    package var wallMilliseconds: Int64

    /// Describes a moment.
    package init(instant: ContinuousClock.Instant, wallMilliseconds: Int64) {
        self.instant = instant
        self.wallMilliseconds = wallMilliseconds
    }
}
