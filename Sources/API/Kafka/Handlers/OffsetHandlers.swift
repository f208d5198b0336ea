// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec
import MartletCore

// Offsets of consumer groups.
extension KafkaDoor {
    func offsetCommit(_ request: OffsetCommitRequest, _ call: Call) async -> OffsetCommitResponse {
        typealias Topic = OffsetCommitResponse.OffsetCommitResponseTopic
        typealias Partition = OffsetCommitResponse.OffsetCommitResponsePartition
        let isMember = may(call.session, .read, group: request.groupID)
        let denied = Set(request.topics.map(\.name).filter { !may(call.session, .read, topic: $0) })
        guard isMember, denied.count < Set(request.topics.map(\.name)).count || request.topics.isEmpty else {
            let code: KafkaErrorCode = isMember ? .topicAuthorizationFailed : .groupAuthorizationFailed
            return OffsetCommitResponse(
                topics: request.topics.outcomes(
                    { _ in code },
                    partition: { Partition(partitionIndex: $0, errorCode: $1) },
                    topic: { Topic(name: $0, partitions: $1) }
                )
            )
        }
        let outcome = await groups.commit(
            group: request.groupID,
            by: GroupIdentity(
                generation: request.generationIDOrMemberEpoch,
                memberID: request.memberID,
                instanceID: request.groupInstanceID
            ),
            request.topics.positions.filter { !denied.contains($0.key.topic) }
        )
        return OffsetCommitResponse(
            topics: request.topics.outcomes(
                { denied.contains($0.topic) ? .topicAuthorizationFailed : .of(outcome.error(for: $0)) },
                partition: { Partition(partitionIndex: $0, errorCode: $1) },
                topic: { Topic(name: $0, partitions: $1) }
            )
        )
    }

    /// Offsets of one group or, from version 8 on, of several.
    func offsetFetch(_ request: OffsetFetchRequest, _ call: Call) async -> OffsetFetchResponse {
        guard call.version >= 8 else {
            let wanted = request.topics.map { topics in
                topics.withoutRepeats(\.name).map { ($0.name, $0.partitionIndexes.withoutRepeats()) }
            }
            let found = await offsets(of: request.groupID, wanted, requiresStable: request.requireStable, call)
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
        for group in request.groups.withoutRepeats(\.groupID) {
            let wanted = group.topics.map { topics in
                topics.withoutRepeats(\.name).map { ($0.name, $0.partitionIndexes.withoutRepeats()) }
            }
            let found = await offsets(of: group.groupID, wanted, requiresStable: request.requireStable, call)
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
        requiresStable: Bool,
        _ call: Call
    ) async -> (topics: [(String, [Found])], error: KafkaErrorCode) {
        guard may(call.session, .describe, group: group) else {
            let refused = (wanted ?? []).map { name, numbers in
                (name, numbers.map { Found(partition: $0, error: .groupAuthorizationFailed) })
            }
            return (refused, .groupAuthorizationFailed)
        }
        let denied = Set((wanted ?? []).map(\.0).filter { !may(call.session, .describe, topic: $0) })
        let ids = wanted.map { topics in
            topics.filter { !denied.contains($0.0) }.flatMap { name, numbers in
                numbers.map { TopicPartition(topic: name, partition: $0) }
            }
        }
        let answer = await groups.committed(group: group, ids, requiresStable: requiresStable)
        let asked =
            wanted
            ?? Dictionary(grouping: answer.offsets.keys) { $0.topic }
            .filter { sees(call.session, .topic, $0.key) }
            .map { ($0.key, $0.value.map(\.partition).sorted()) }
            .sorted { $0.0 < $1.0 }
        let topics = asked.map { name, numbers in
            let found = numbers.map { number in
                let id = TopicPartition(topic: name, partition: number)
                var found = Found(partition: number)
                if denied.contains(name) {
                    found.error = .topicAuthorizationFailed
                } else if answer.unstable.contains(id) {
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
        guard may(call.session, .delete, group: request.groupID) else {
            return OffsetDeleteResponse(errorCode: .groupAuthorizationFailed)
        }
        let denied = Set(request.topics.map(\.name).filter { !may(call.session, .read, topic: $0) })
        let ids = request.topics.filter { !denied.contains($0.name) }.flatMap { topic in
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
                        return Partition(
                            partitionIndex: id.partition,
                            errorCode: denied.contains(topic.name)
                                ? .topicAuthorizationFailed : .of(outcome.error(for: id))
                        )
                    }
                )
            }
        )
    }
}
