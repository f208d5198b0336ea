// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import NIOCore
import NIOPosix
import Synchronization

/// Threads that do nothing but hash passwords, with a bound on what waits for them.
///
/// Hashing takes milliseconds of a processor, on purpose: neither tasks, nor connections, nor whoever reads files may wait for it.
package final class PasswordThreads: Sendable {
    private let pool: NIOThreadPool
    private let most: Int
    /// What waits or is at work.
    private let taken = Mutex(0)

    /// Starts `threads` threads; no more than `waitingMax` calls may wait for one.
    package init(threads: Int = min(4, max(1, System.coreCount / 2)), waitingMax: Int = 64) {
        pool = NIOThreadPool(numberOfThreads: threads)
        most = threads + waitingMax
        pool.start()
    }

    deinit { pool.shutdownGracefully { _ in } }

    /// Runs `body` on one of the threads.
    ///
    /// - Throws: What `body` throws; `ServiceError.unavailable` where too much waits.
    package func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        let mayRun = taken.withLock { taken in
            guard taken < most else { return false }
            taken += 1
            return true
        }
        guard mayRun else {
            throw ServiceError(
                .unavailable,
                "too many passwords wait to be hashed",
                fix: "try again in a moment"
            )
        }
        defer { taken.withLock { $0 -= 1 } }
        return try await pool.runIfActive(body)
    }
}
