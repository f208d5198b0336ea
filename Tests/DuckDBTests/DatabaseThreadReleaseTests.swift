// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Testing

@Suite struct DatabaseThreadReleaseTests {
    /// Submits work when nobody needs it any more, as rows in memory do that are dropped.
    private final class Resubmitting: Sendable {
        let thread: DatabaseThread
        let done: @Sendable () -> Void

        init(thread: DatabaseThread, done: @escaping @Sendable () -> Void) {
            self.thread = thread
            self.done = done
        }

        deinit { if thread.submit(done) != nil { done() } }
    }

    @Test(.timeLimit(.minutes(5)))
    func workCanSubmitMoreWhenItsObjectsGo() async {
        let thread = DatabaseThread(name: "release")
        for _ in 0..<600 {
            await withCheckedContinuation { continuation in
                let object = Resubmitting(thread: thread) { continuation.resume() }
                // The closure holds the only reference left when it has run.
                if thread.submit({ withExtendedLifetime(object) {} }) != nil { Issue.record("refused") }
            }
        }
        thread.stop()
    }
}
