// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore
import Synchronization

/// Instruments of a log's writers.
package struct LogMetrics: Sendable {
    let append: MetricHistogram
    let flush: MetricHistogram

    /// Gets the instruments from a registry.
    package init(_ registry: MetricRegistry) {
        append = registry.histogram(EngineMetrics.appendLatency)
        flush = registry.histogram(EngineMetrics.flushLatency)
    }
}

/// What a topic holds, and what was appended to it since the log was opened.
package struct TopicStatistics: Sendable {
    package var topic: String
    package var appendedRecords: Int64 = 0
    package var appendedBytes: Int64 = 0
    /// Sum of the partitions' end offsets.
    package var endOffset: Int64 = 0
    /// Bytes of all segments.
    package var sizeBytes: Int64 = 0
}

extension LocalLog {
    /// Figures of every topic, ordered by name.
    package func statistics() -> [TopicStatistics] {
        let topics = registry.withLock { $0.topics.mapValues(\.partitions) }
        return topics.map { name, partitions in
            partitions.reduce(into: TopicStatistics(topic: name)) { $1.addStatistics(to: &$0) }
        }.sorted { $0.topic < $1.topic }
    }
}

extension PartitionLog {
    func addStatistics(to sum: inout TopicStatistics) {
        state.withLock { state in
            sum.appendedRecords += state.appendedRecords
            sum.appendedBytes += state.appendedBytes
            sum.endOffset += state.highWatermark
            sum.sizeBytes += state.segments.reduce(0) { $0 + $1.byteCount }
        }
    }
}

extension ContinuousClock.Instant {
    /// Microseconds from here to now.
    var microsecondsSince: Int64 {
        let (seconds, attoseconds) = (ContinuousClock.now - self).components
        return seconds * 1_000_000 + attoseconds / 1_000_000_000_000
    }
}
