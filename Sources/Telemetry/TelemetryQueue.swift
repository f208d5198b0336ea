// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Synchronization

/// What waits to be written: bounded, so that a flood of telemetry costs records and never the work it describes.
final class TelemetryQueue: Sendable {
    /// What one flush takes.
    struct Batch: Sendable {
        var logs: [LogRecord] = []
        var spans: [SpanRecord] = []
        var metrics: [MetricPoint] = []
        /// Records refused since the last flush because the queue was full.
        var dropped = 0

        var isEmpty: Bool { logs.isEmpty && spans.isEmpty && metrics.isEmpty && dropped == 0 }
        var count: Int { logs.count + spans.count + metrics.count }
    }

    private let countMax: Int
    private let batch = Mutex(Batch())

    init(countMax: Int) {
        self.countMax = countMax
    }

    func add(logs: [LogRecord] = [], spans: [SpanRecord] = [], metrics: [MetricPoint] = []) {
        batch.withLock { batch in
            let count = logs.count + spans.count + metrics.count
            guard batch.count + count <= countMax else {
                batch.dropped += count
                return
            }
            batch.logs += logs
            batch.spans += spans
            batch.metrics += metrics
        }
    }

    func take() -> Batch {
        batch.withLock { batch in
            defer { batch = Batch() }
            return batch
        }
    }
}
