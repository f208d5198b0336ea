// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Which records of transactions a reader gets.
package enum ReadIsolation: String, Sendable, CaseIterable {
    /// All, also those of transactions that are open or were aborted.
    case uncommitted
    /// None of an open transaction: reading stops in front of the first one. Those of aborted transactions are among the
    /// bytes, and the answer names them.
    case committed
}
