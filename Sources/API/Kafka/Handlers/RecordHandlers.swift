// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import MartletCore

// What administrators do with the records of partitions.
extension KafkaDoor {
    func deleteRecords(_ request: DeleteRecordsRequest, _ call: Call) async -> DeleteRecordsResponse {
        var offsets: [TopicPartition: Int64] = [:]
        for topic in request.topics
        where !EngineTopic.isOne(topic.name) && may(call.session, .delete, topic: topic.name) {
            for partition in topic.partitions {
                offsets[TopicPartition(topic: topic.name, partition: partition.partitionIndex)] = partition.offset
            }
        }
        var outcomes: [TopicPartition: Result<Int64, EventLogError>] = [:]
        var failure = KafkaErrorCode.topicAuthorizationFailed
        do {
            outcomes = try await log.deleteRecords(before: offsets)
        } catch {
            failure = TopicRefusal(error).code
        }
        return DeleteRecordsResponse(
            topics: request.topics.map { topic in
                DeleteRecordsResponse.DeleteRecordsTopicResult(
                    name: topic.name,
                    partitions: topic.partitions.map { partition in
                        let id = TopicPartition(topic: topic.name, partition: partition.partitionIndex)
                        var result = DeleteRecordsResponse.DeleteRecordsPartitionResult(
                            partitionIndex: id.partition,
                            lowWatermark: -1
                        )
                        switch outcomes[id] {
                        case .success(let start): result.lowWatermark = start
                        case .failure(let error): result.errorCode = error.kafkaCode
                        case nil: result.errorCode = failure
                        }
                        return result
                    }
                )
            }
        )
    }

    func describeProducers(_ request: DescribeProducersRequest, _ call: Call) -> DescribeProducersResponse {
        typealias Partition = DescribeProducersResponse.PartitionResponse
        return DescribeProducersResponse(
            topics: request.topics.withoutRepeats(\.name).map { topic in
                let isAllowed = may(call.session, .read, topic: topic.name)
                return DescribeProducersResponse.TopicResponse(
                    name: topic.name,
                    partitions: topic.partitionIndexes.withoutRepeats().map { number in
                        var answer = Partition(partitionIndex: number)
                        guard isAllowed else {
                            answer.errorCode = .topicAuthorizationFailed
                            answer.errorMessage = TopicRefusal.notAllowed.message
                            return answer
                        }
                        do {
                            let id = TopicPartition(topic: topic.name, partition: number)
                            answer.activeProducers = try log.producers(id).map(Self.describe)
                        } catch {
                            let refusal = TopicRefusal(error)
                            answer.errorCode = refusal.code
                            answer.errorMessage = refusal.message
                        }
                        return answer
                    }
                )
            }
        )
    }

    private static func describe(_ producer: ProducerDescription) -> DescribeProducersResponse.ProducerState {
        DescribeProducersResponse.ProducerState(
            producerID: producer.producerID,
            producerEpoch: Int32(producer.epoch),
            lastSequence: producer.lastSequence ?? -1,
            lastTimestamp: producer.lastTimestamp,
            coordinatorEpoch: producer.coordinatorEpoch,
            currentTxnStartOffset: producer.transactionStart ?? -1
        )
    }
}
