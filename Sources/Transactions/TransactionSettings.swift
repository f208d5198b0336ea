// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// How a ``TransactionCoordinator`` works.
package struct TransactionSettings: Sendable {
    /// The longest timeout a producer may ask for (Kafka's `transaction.max.timeout.ms`).
    package var timeoutMillisecondsMax: Int32
    /// A transactional id that is not used for so long is forgotten (Kafka's `transactional.id.expiration.ms`).
    package var expirationMilliseconds: Int64
    /// The most transactional ids.
    package var transactionalIDsMax: Int
    /// The most bytes that the states of all transactional ids take together, with the partitions and offsets of open transactions.
    package var statesBytesMax: Int
    /// The longest transactional id, in bytes of UTF-8.
    package var transactionalIDBytesMax: Int
    /// The most groups whose offsets one transaction commits.
    package var groupsMax: Int
    /// The most requests that wait for another one of the same transactional id.
    package var waitingMax: Int
    /// How often ``TransactionCoordinator/run()`` looks for what is overdue or unfinished.
    package var interval: Duration
    /// The wall clock, in milliseconds since 1970.
    package var now: @Sendable () -> Int64

    /// Creates settings.
    package init(
        timeoutMillisecondsMax: Int32 = 900_000,
        expirationMilliseconds: Int64 = 7 * 24 * 3_600_000,
        transactionalIDsMax: Int = 100_000,
        statesBytesMax: Int = 256 << 20,
        transactionalIDBytesMax: Int = 1024,
        groupsMax: Int = 1000,
        waitingMax: Int = 64,
        interval: Duration = .seconds(1),
        now: @escaping @Sendable () -> Int64 = { Int64(Date().timeIntervalSince1970 * 1000) }
    ) {
        self.timeoutMillisecondsMax = timeoutMillisecondsMax
        self.expirationMilliseconds = expirationMilliseconds
        self.transactionalIDsMax = transactionalIDsMax
        self.statesBytesMax = statesBytesMax
        self.transactionalIDBytesMax = transactionalIDBytesMax
        self.groupsMax = groupsMax
        self.waitingMax = waitingMax
        self.interval = interval
        self.now = now
    }
}
