// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Synchronization

/// A batch, and what is accounted for it.
final class MeteredBatch: Sendable {
    let batch: RowBatch
    let charge: SinkMemory.Charge

    init(_ batch: RowBatch, _ charge: SinkMemory.Charge) {
        self.batch = batch
        self.charge = charge
    }
}

/// Keeps the memory of batches for the next rounds of a sink: getting it anew from the kernel costs more than reading records into it.
final class BatchPool: Sendable {
    private struct State {
        var batches: [MeteredBatch] = []
        /// Whether the sink has rounds; otherwise nothing is kept.
        var isBusy = false
    }

    private let state = Mutex(State())

    /// A batch that was kept, emptied, and begins with `columns`; from now on batches are kept.
    func take(columns: [AppendTableSchemaVersion.Column], settings: RowBatchSettings) -> MeteredBatch? {
        let kept = state.withLock { state -> MeteredBatch? in
            state.isBusy = true
            let index = state.batches.lastIndex { $0.batch.continues(columns, settings) }
            return index.map { state.batches.remove(at: $0) }
        }
        kept?.batch.removeAll()
        return kept
    }

    /// Keeps a batch, with whatever is in it, where there is memory for it.
    func put(_ metered: MeteredBatch) {
        guard state.withLock({ $0.isBusy }), metered.charge.grow(to: metered.batch.memoryBytes) else { return }
        state.withLock { if $0.isBusy { $0.batches.append(metered) } }
    }

    /// Lets go of everything there is now.
    func empty() {
        // What goes gives its memory back, and that outside the lock.
        _ = state.withLock { state in
            defer { state.batches = [] }
            return state.batches
        }
    }

    /// Lets go of everything, also of what comes back before the next round.
    func rest() {
        state.withLock { $0.isBusy = false }
        empty()
    }
}
