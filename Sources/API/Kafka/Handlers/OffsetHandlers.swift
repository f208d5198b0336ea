// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec

// Offsets of consumer groups.
extension KafkaDoor {
    func offsetCommit(_ request: OffsetCommitRequest, _ call: Call) async -> OffsetCommitResponse {
        typealias Topic = OffsetCommitResponse.OffsetCommitResponseTopic
        typealias Partition = OffsetCommitResponse.OffsetCommitResponsePartition
        let outcome = await groups.commit(
            group: request.groupID,
            by: GroupIdentity(
                generation: request.generationIDOrMemberEpoch,
                memberID: request.memberID,
                instanceID: request.groupInstanceID
            ),
            request.topics.positions
        )
        return OffsetCommitResponse(
            topics: request.topics.outcomes(
                { .of(outcome.error(for: $0)) },
                partition: { Partition(partitionIndex: $0, errorCode: $1) },
                topic: { Topic(name: $0, partitions: $1) }
            )
        )
    }

    /// Offsets of one group or, from version 8 on, of several.
    func offsetFetch(_ request: OffsetFetchRequest, _ call: Call) async -> OffsetFetchResponse {
        guard call.version >= 8 else {
            let wanted = request.topics.map { topics in topics.map { ($0.name, $0.partitionIndexes) } }
            let found = await offsets(of: request.groupID, wanted, requiresStable: request.requireStable)
            var response = OffsetFetchResponse(errorCode: found.error)
            response.topics = found.topics.map { name, partitions in
                OffsetFetchResponse.OffsetFetchResponseTopic(
                    name: name,
                    partitions: partitions.map { one in
                        OffsetFetchResponse.OffsetFetchResponsePartition(
                            partitionIndex: one.partition,
                            committedOffset: one.offset,
                            committedLeaderEpoch: one.leaderEpoch,
                            metadata: one.metadata,
                            // Version 1 has no place for an error of the whole.
                            errorCode: call.version < 2 && found.error != .noError ? found.error : one.error
                        )
                    }
                )
            }
            return response
        }
        var response = OffsetFetchResponse()
        for group in request.groups {
            let wanted = group.topics.map { topics in topics.map { ($0.name, $0.partitionIndexes) } }
            let found = await offsets(of: group.groupID, wanted, requiresStable: request.requireStable)
            response.groups.append(
                OffsetFetchResponse.OffsetFetchResponseGroup(
                    groupID: group.groupID,
                    topics: found.topics.map { name, partitions in
                        OffsetFetchResponse.OffsetFetchResponseTopics(
                            name: name,
                            partitions: partitions.map { one in
                                OffsetFetchResponse.OffsetFetchResponsePartitions(
                                    partitionIndex: one.partition,
                                    committedOffset: one.offset,
                                    committedLeaderEpoch: one.leaderEpoch,
                                    metadata: one.metadata,
                                    errorCode: one.error
                                )
                            }
                        )
                    },
                    errorCode: found.error
                )
            )
        }
        return response
    }

    private struct Found {
        let partition: Int32
        var offset: Int64 = -1
        var leaderEpoch: Int32 = -1
        var metadata: String? = ""
        var error = KafkaErrorCode.noError
    }

    /// What was committed for the partitions named, or for all; -1 where nothing was.
    private func offsets(
        of group: String,
        _ wanted: [(String, [Int32])]?,
        requiresStable: Bool
    ) async -> (topics: [(String, [Found])], error: KafkaErrorCode) {
        let ids = wanted.map { topics in
            topics.flatMap { name, numbers in numbers.map { TopicPartition(topic: name, partition: $0) } }
        }
        let answer = await groups.committed(group: group, ids, requiresStable: requiresStable)
        let asked =
            wanted
            ?? Dictionary(grouping: answer.offsets.keys) { $0.topic }
            .map { ($0.key, $0.value.map(\.partition).sorted()) }
            .sorted { $0.0 < $1.0 }
        let topics = asked.map { name, numbers in
            let found = numbers.map { number in
                let id = TopicPartition(topic: name, partition: number)
                var found = Found(partition: number)
                if answer.unstable.contains(id) {
                    found.error = .unstableOffsetCommit
                } else if let committed = answer.offsets[id] {
                    found.offset = committed.offset
                    found.leaderEpoch = committed.leaderEpoch
                    found.metadata = committed.metadata
                }
                return found
            }
            return (name, found)
        }
        return (topics, .of(answer.error))
    }

    func offsetDelete(_ request: OffsetDeleteRequest, _ call: Call) async -> OffsetDeleteResponse {
        typealias Topic = OffsetDeleteResponse.OffsetDeleteResponseTopic
        typealias Partition = OffsetDeleteResponse.OffsetDeleteResponsePartition
        let ids = request.topics.flatMap { topic in
            topic.partitions.map { TopicPartition(topic: topic.name, partition: $0.partitionIndex) }
        }
        let outcome = await groups.deleteOffsets(group: request.groupID, of: ids)
        guard outcome.error == nil else { return OffsetDeleteResponse(errorCode: .of(outcome.error)) }
        return OffsetDeleteResponse(
            topics: request.topics.map { topic in
                Topic(
                    name: topic.name,
                    partitions: topic.partitions.map { partition in
                        let id = TopicPartition(topic: topic.name, partition: partition.partitionIndex)
                        return Partition(partitionIndex: id.partition, errorCode: .of(outcome.error(for: id)))
                    }
                )
            }
        )
    }
}
