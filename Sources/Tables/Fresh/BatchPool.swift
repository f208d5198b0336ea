// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Synchronization

/// Keeps the memory of batches for the next rounds of a sink: getting it anew from the kernel costs more than reading records into it.
final class BatchPool: Sendable {
    private let batches = Mutex<[RowBatch]>([])
    private let countMax: Int

    /// Keeps at most so many.
    init(countMax: Int) {
        self.countMax = countMax
    }

    /// An empty batch that begins with `columns`.
    func take(columns: [AppendTableSchemaVersion.Column], settings: RowBatchSettings) throws -> RowBatch {
        let kept = batches.withLock { batches in
            batches.lastIndex { $0.continues(columns, settings) }.map { batches.remove(at: $0) }
        }
        kept?.removeAll()
        return try kept ?? RowBatch(columns: columns, settings: settings)
    }

    /// Takes a batch back, with whatever is in it.
    func put(_ batch: RowBatch) {
        batches.withLock { batches in
            batches.append(batch)
            if batches.count > countMax { batches.removeFirst() }
        }
    }

    /// Bytes of memory kept.
    var memoryBytes: Int { batches.withLock { $0.reduce(0) { $0 + $1.memoryBytes } } }

    /// Lets go of everything kept.
    func empty() { batches.withLock { $0 = [] } }
}
