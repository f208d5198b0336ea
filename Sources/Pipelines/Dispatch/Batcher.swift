// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import MartletCore

/// Gathers the events of one input into calls of a batch handler.
struct Batcher {
    let batching: PipelineManifest.Batching
    private var waiting: Deque<(id: Int, sinceMicros: Int64)> = []

    init(batching: PipelineManifest.Batching) {
        self.batching = batching
    }

    /// Set while the deployment holds all it may: then a batch goes with what there is.
    var isPressed = false

    var count: Int { waiting.count }

    mutating func add(_ id: Int, nowMicros: Int64) {
        waiting.append((id, nowMicros))
    }

    /// When a batch that is not full goes all the same.
    var dueMicros: Int64? {
        waiting.first.map { $0.sinceMicros + Int64(batching.timeoutMilliseconds) * 1000 }
    }

    /// The next batch, once it is full or its first event has waited long enough.
    mutating func take(nowMicros: Int64) -> [Int]? {
        guard let due = dueMicros, waiting.count >= batching.size || isPressed || due <= nowMicros else { return nil }
        let batch = waiting.prefix(batching.size).map(\.id)
        waiting.removeFirst(batch.count)
        return batch
    }
}
