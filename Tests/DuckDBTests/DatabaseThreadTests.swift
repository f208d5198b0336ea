// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)))
struct DatabaseThreadTests {
    /// Says when it is freed by submitting work to the thread that held it.
    private final class Held: Sendable {
        let thread: DatabaseThread
        let whenFreed: @Sendable () -> Void
        init(thread: DatabaseThread, whenFreed: @escaping @Sendable () -> Void) {
            self.thread = thread
            self.whenFreed = whenFreed
        }
        deinit { _ = thread.submit(whenFreed) }
    }

    @Test func whatWorkHoldsIsFreedWhenItHasRunAndMaySubmitMoreWork() async throws {
        let thread = DatabaseThread(name: "test")
        defer { thread.stop() }
        // Others wait behind the first, so that its slot in the queue is not the last.
        await withCheckedContinuation { continuation in
            hold(thread) { continuation.resume() }
            for _ in 0..<10 { _ = thread.submit {} }
        }
        let sum = try await thread.run { 1 + 1 }
        #expect(sum == 2)
    }

    private func hold(_ thread: DatabaseThread, _ whenFreed: @escaping @Sendable () -> Void) {
        let held = Held(thread: thread, whenFreed: whenFreed)
        _ = thread.submit { withExtendedLifetime(held) {} }
    }
}
