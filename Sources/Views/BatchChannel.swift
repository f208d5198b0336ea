// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Synchronization

/// Hands batches from a watcher's thread to one task.
///
/// The thread waits while too many changes are pending, so that memory stays bounded: the kernel's queue then fills, and what it
/// drops is found by a scan.
package final class BatchChannel: Sendable {
    private struct State {
        var pending = ElementBatch()
        var waiter: CheckedContinuation<ElementBatch?, Never>?
        var isClosed = false
        var isProducerWaiting = false
    }

    private let state = Mutex(State())
    private let room = DispatchSemaphore(value: 0)
    private let changesMax: Int

    /// Makes a channel that holds about `changesMax` changes.
    package init(changesMax: Int) {
        self.changesMax = changesMax
    }

    /// Adds a batch; blocks while the channel is full.
    ///
    /// - Returns: False after ``close()``.
    func push(_ batch: ElementBatch) -> Bool {
        while true {
            let outcome = state.withLock { state -> (isDone: Bool, accepted: Bool) in
                if state.isClosed { return (true, false) }
                if let waiter = state.waiter {
                    state.waiter = nil
                    waiter.resume(returning: batch)
                    return (true, true)
                }
                guard state.pending.changes.count < changesMax else {
                    state.isProducerWaiting = true
                    return (false, false)
                }
                state.pending.changes += batch.changes
                state.pending.states.merge(batch.states) { $1 }
                if batch.endsScan { state.pending.endsScan = true }
                return (true, true)
            }
            if outcome.isDone { return outcome.accepted }
            room.wait()
        }
    }

    /// Everything pending, waiting for something; nil after ``close()``.
    package func next() async -> ElementBatch? {
        await withCheckedContinuation { continuation in
            state.withLock { state in
                if !state.pending.isEmpty {
                    continuation.resume(returning: state.pending)
                    state.pending = ElementBatch()
                    wakeProducer(&state)
                } else if state.isClosed {
                    continuation.resume(returning: nil)
                } else {
                    state.waiter = continuation
                }
            }
        }
    }

    /// Ends both sides; what is pending can still be taken.
    package func close() {
        state.withLock { state in
            state.isClosed = true
            state.waiter?.resume(returning: nil)
            state.waiter = nil
            wakeProducer(&state)
        }
    }

    private func wakeProducer(_ state: inout State) {
        guard state.isProducerWaiting else { return }
        state.isProducerWaiting = false
        room.signal()
    }
}
