// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import DuckDB
internal import Synchronization

/// What others may do with a query while it waits, runs or hands out rows.
///
/// A query that is given one delivers whole chunks of rows, runs on the statements' threads, measures its progress, and its
/// time limit does not count the time in which nobody reads its rows.
package final class StatementControl: Sendable {
    private struct State {
        var channel: QueryChannel?
        var isCancelled = false
    }

    private let state = Mutex(State())
    private let onStart: @Sendable () -> Void

    /// Makes a control; `onStart` is called once a thread takes the query, from that thread, and must not block.
    package init(onStart: @escaping @Sendable () -> Void = {}) {
        self.onStart = onStart
    }

    /// Stops the query wherever it is.
    package func cancel() {
        let channel = state.withLock { state in
            state.isCancelled = true
            return state.channel
        }
        channel?.cancel()
    }

    /// How far DuckDB is, or nil where it cannot tell.
    package func progress() -> StatementProgress? {
        state.withLock { $0.channel }?.progress()
    }

    func attach(_ channel: QueryChannel) {
        let isCancelled = state.withLock { state in
            state.channel = channel
            return state.isCancelled
        }
        if isCancelled { channel.cancel() }
    }

    func markStarted() {
        onStart()
    }
}
