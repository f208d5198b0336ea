// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore

/// Looks up what topics hold and how far behind consumer groups are.
struct LogMetricSource: MetricSource {
    let log: LocalLog
    /// Labels of whom a consumer group belongs to.
    let owners: @Sendable () -> [String: [String: String]]

    func readings() async -> [MetricReading] {
        var all = log.statistics().flatMap { topic -> [MetricReading] in
            let labels = ["topic": topic.topic]
            return [
                MetricReading(EngineMetrics.topicRecords, labels, Double(topic.appendedRecords)),
                MetricReading(EngineMetrics.topicBytes, labels, Double(topic.appendedBytes)),
                MetricReading(EngineMetrics.topicEnd, labels, Double(topic.endOffset)),
                MetricReading(EngineMetrics.topicSize, labels, Double(topic.sizeBytes)),
            ]
        }
        let owners = owners()
        for group in log.groups() {
            let committed = log.committed(group: group)
            let topics = Dictionary(grouping: committed, by: \.key.topic)
            for (topic, positions) in topics {
                guard let lag = await lag(positions.map { ($0.key, $0.value.offset) }) else { continue }
                var labels = owners[group] ?? [:]
                labels["group"] = group
                labels["topic"] = topic
                all.append(MetricReading(EngineMetrics.groupLag, labels, Double(lag.records)))
                all.append(MetricReading(EngineMetrics.groupLagSeconds, labels, lag.seconds))
            }
        }
        return all
    }

    /// Lag over partitions; nil where the topic is gone.
    private func lag(_ positions: [(TopicPartition, Int64)]) async -> (records: Int64, seconds: Double)? {
        var records: Int64 = 0
        var seconds = 0.0
        let now = Timestamp.nowMicroseconds()
        for (partition, offset) in positions {
            guard let bounds = try? log.bounds(partition) else { return nil }
            guard bounds.stable > offset else { continue }
            records += bounds.stable - max(offset, bounds.start)
            if let since = await timestamp(partition, max(offset, bounds.start)) {
                seconds = max(seconds, Timestamp.age(milliseconds: since, nowMicroseconds: now))
            }
        }
        return (records, seconds)
    }

    /// When the record at an offset was made, in milliseconds since 1970.
    private func timestamp(_ partition: TopicPartition, _ offset: Int64) async -> Int64? {
        // What cannot be read has no age; the reader of the group reports the damage.
        guard let found = try? await log.read(partition, from: offset, bytesMax: 1) else { return nil }
        var batches = RecordBatches(found.bytes, verifiesChecksums: false)
        while let record = try? batches.nextRecord() {
            if record.offset >= offset { return record.timestamp }
        }
        return nil
    }
}
