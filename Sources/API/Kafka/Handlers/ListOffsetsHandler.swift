// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore

extension KafkaDoor {
    /// What a client asks for instead of a time.
    private enum SpecialTime {
        static let latest: Int64 = -1
        static let earliest: Int64 = -2
        static let maximum: Int64 = -3
        static let earliestLocal: Int64 = -4
        static let latestTiered: Int64 = -5

        /// The first version of a request that knows it; nil for what no version knows.
        static func versionMin(_ time: Int64) -> Int16? {
            switch time {
            case latest, earliest: 1
            case maximum: 7
            case earliestLocal: 8
            case latestTiered: 9
            default: nil
            }
        }
    }

    func listOffsets(_ request: ListOffsetsRequest, _ call: Call) async throws -> ListOffsetsResponse {
        typealias Topic = ListOffsetsResponse.ListOffsetsTopicResponse
        typealias Partition = ListOffsetsResponse.ListOffsetsPartitionResponse
        var response = ListOffsetsResponse()
        var seen: Set<TopicPartition> = []
        for topic in request.topics {
            var answer = Topic(name: topic.name)
            let isAllowed = may(call.session, .describe, topic: topic.name)
            for asked in topic.partitions {
                let id = TopicPartition(topic: topic.name, partition: asked.partitionIndex)
                guard seen.insert(id).inserted else { continue }
                // Finding a time can need a whole batch: nobody waits for it once the client has gone.
                try Task.checkCancellation()
                var partition = Partition(partitionIndex: asked.partitionIndex, timestamp: -1, offset: -1)
                if !isAllowed {
                    partition.errorCode = .topicAuthorizationFailed
                } else if let code = Self.epochError(asked.currentLeaderEpoch) {
                    partition.errorCode = code
                } else if asked.timestamp < 0, call.version < SpecialTime.versionMin(asked.timestamp) ?? .max {
                    // As Kafka: what means something else in a later version is not to be taken for a time.
                    partition.errorCode = .unsupportedVersion
                } else {
                    do {
                        if let found = try await offset(id, asked.timestamp, isCommitted: request.isolationLevel == 1) {
                            partition.offset = found.offset
                            partition.timestamp = found.timestamp
                            partition.leaderEpoch = Self.leaderEpoch
                        }
                    } catch {
                        partition.errorCode = TopicRefusal(error).code
                    }
                }
                answer.partitions.append(partition)
            }
            response.topics.append(answer)
        }
        return response
    }

    private func offset(
        _ id: TopicPartition,
        _ time: Int64,
        isCommitted: Bool
    ) async throws -> (offset: Int64, timestamp: Int64)? {
        let bounds = try log.bounds(id)
        switch time {
        case SpecialTime.latest: return (isCommitted ? bounds.stable : bounds.end, -1)
        case SpecialTime.earliest, SpecialTime.earliestLocal: return (bounds.start, -1)
        case SpecialTime.maximum: return try await log.latestRecord(id)
        case SpecialTime.latestTiered: return nil
        default: return try await log.offset(id, atOrAfter: time)
        }
    }

    /// The end of each partition in the only epoch there is.
    func offsetForLeaderEpoch(_ request: OffsetForLeaderEpochRequest, _ call: Call) -> OffsetForLeaderEpochResponse {
        typealias Topic = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
        typealias Partition = OffsetForLeaderEpochResponse.EpochEndOffset
        var seen: Set<TopicPartition> = []
        return OffsetForLeaderEpochResponse(
            topics: request.topics.map { topic in
                let isAllowed = may(call.session, .describe, topic: topic.topic)
                return Topic(
                    topic: topic.topic,
                    partitions: topic.partitions.compactMap { asked in
                        let id = TopicPartition(topic: topic.topic, partition: asked.partition)
                        guard seen.insert(id).inserted else { return nil }
                        var partition = Partition(partition: asked.partition, leaderEpoch: -1, endOffset: -1)
                        if !isAllowed {
                            partition.errorCode = .topicAuthorizationFailed
                        } else if let code = Self.epochError(asked.currentLeaderEpoch) {
                            partition.errorCode = code
                        } else if let end = try? log.bounds(id).end {
                            guard asked.leaderEpoch == Self.leaderEpoch else { return partition }
                            partition.leaderEpoch = Self.leaderEpoch
                            partition.endOffset = end
                        } else {
                            partition.errorCode = .unknownTopicOrPartition
                        }
                        return partition
                    }
                )
            }
        )
    }

    /// Whether a client knows another epoch than there is; -1 is a client that knows none.
    static func epochError(_ epoch: Int32) -> KafkaErrorCode? {
        switch epoch {
        case -1, leaderEpoch: nil
        case ..<leaderEpoch: .fencedLeaderEpoch
        default: .unknownLeaderEpoch
        }
    }
}
