// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec
import Logging
import MartletCore
import Transactions

// Producer ids and transactions.
extension KafkaDoor {
    func initProducerID(_ request: InitProducerIdRequest, _ call: Call) async -> InitProducerIdResponse {
        let refusal: KafkaErrorCode? =
            if let id = request.transactionalID {
                may(call.session, .write, transactionalID: id) ? nil : .transactionalIdAuthorizationFailed
            } else {
                mayNumberRecords(call.session) ? nil : .clusterAuthorizationFailed
            }
        if let refusal { return InitProducerIdResponse(errorCode: refusal, producerID: -1, producerEpoch: -1) }
        let expected =
            request.producerID >= 0
            ? ProducerIdentity(id: request.producerID, epoch: request.producerEpoch) : nil
        do {
            let producer = try await transactions.initProducerID(
                transactionalID: request.transactionalID,
                timeoutMilliseconds: request.transactionTimeoutMs,
                expected: expected
            )
            return InitProducerIdResponse(producerID: producer.id, producerEpoch: producer.epoch)
        } catch {
            return InitProducerIdResponse(
                errorCode: code(error, knowsFenced: call.version >= 4),
                producerID: -1,
                producerEpoch: -1
            )
        }
    }

    /// One producer's transaction or, from version 4 on, several.
    func addPartitionsToTransaction(
        _ request: AddPartitionsToTxnRequest,
        _ call: Call
    ) async -> AddPartitionsToTxnResponse {
        guard call.version >= 4 else {
            return AddPartitionsToTxnResponse(
                resultsByTopicV3AndBelow: await add(
                    request.v3AndBelowTopics,
                    to: request.v3AndBelowTransactionalID,
                    ProducerIdentity(id: request.v3AndBelowProducerID, epoch: request.v3AndBelowProducerEpoch),
                    call
                )
            )
        }
        var response = AddPartitionsToTxnResponse()
        for one in request.transactions {
            response.resultsByTransaction.append(
                AddPartitionsToTxnResponse.AddPartitionsToTxnResult(
                    transactionalID: one.transactionalID,
                    topicResults: await add(
                        one.topics,
                        to: one.transactionalID,
                        ProducerIdentity(id: one.producerID, epoch: one.producerEpoch),
                        verifyOnly: one.verifyOnly,
                        call
                    )
                )
            )
        }
        return response
    }

    /// Adds partitions to a transaction, or says whether they are part of it.
    private func add(
        _ topics: [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic],
        to transactionalID: String,
        _ producer: ProducerIdentity,
        verifyOnly: Bool = false,
        _ call: Call
    ) async -> [AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult] {
        let wanted = topics.flatMap { topic in
            topic.partitions.map { TopicPartition(topic: topic.name, partition: $0) }
        }
        let denied = Set(topics.map(\.name).filter { !may(call.session, .write, topic: $0) })
        let unknown = Set(
            wanted.filter { id in
                !denied.contains(id.topic) && (EngineTopic.isOne(id.topic) || (try? log.bounds(id)) == nil)
            }
        )
        var whole = KafkaErrorCode.noError
        let mayWrite = may(call.session, .write, transactionalID: transactionalID)
        if !mayWrite {
            whole = .transactionalIdAuthorizationFailed
        } else if !unknown.isEmpty || !denied.isEmpty {
            // All or none: one partition that is not there keeps the others out.
            whole = .operationNotAttempted
        } else if verifyOnly {
            let isThere = transactions.hasPartitions(
                transactionalID: transactionalID,
                producer: producer,
                partitions: wanted
            )
            if !isThere { whole = call.version >= 5 ? .transactionAbortable : .invalidTxnState }
        } else {
            do {
                try await transactions.addPartitions(
                    transactionalID: transactionalID,
                    producer: producer,
                    partitions: wanted
                )
            } catch {
                whole = code(error, knowsFenced: call.version >= 2)
            }
        }
        return topics.map { topic in
            AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult(
                name: topic.name,
                resultsByPartition: topic.partitions.map { number in
                    let id = TopicPartition(topic: topic.name, partition: number)
                    return AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult(
                        partitionIndex: number,
                        partitionErrorCode: !mayWrite
                            ? whole
                            : denied.contains(id.topic)
                                ? .topicAuthorizationFailed
                                : unknown.contains(id) ? .unknownTopicOrPartition : whole
                    )
                }
            )
        }
    }

    func addOffsetsToTransaction(_ request: AddOffsetsToTxnRequest, _ call: Call) async -> AddOffsetsToTxnResponse {
        guard may(call.session, .write, transactionalID: request.transactionalID) else {
            return AddOffsetsToTxnResponse(errorCode: .transactionalIdAuthorizationFailed)
        }
        guard may(call.session, .read, group: request.groupID) else {
            return AddOffsetsToTxnResponse(errorCode: .groupAuthorizationFailed)
        }
        if let error = groups.refusal(of: request.groupID) { return AddOffsetsToTxnResponse(errorCode: .of(error)) }
        do {
            try await transactions.addOffsets(
                transactionalID: request.transactionalID,
                producer: ProducerIdentity(id: request.producerID, epoch: request.producerEpoch),
                group: request.groupID
            )
            return AddOffsetsToTxnResponse()
        } catch {
            return AddOffsetsToTxnResponse(errorCode: code(error, knowsFenced: call.version >= 2))
        }
    }

    /// Offsets that count when the transaction is committed; the group says first whether the member may.
    ///
    /// From version 5 on the request adds the group to the transaction by itself.
    func transactionOffsetCommit(_ request: TxnOffsetCommitRequest, _ call: Call) async -> TxnOffsetCommitResponse {
        var denial: KafkaErrorCode?
        if !may(call.session, .write, transactionalID: request.transactionalID) {
            denial = .transactionalIdAuthorizationFailed
        } else if !may(call.session, .read, group: request.groupID) {
            denial = .groupAuthorizationFailed
        }
        let denied = Set(request.topics.map(\.name).filter { !may(call.session, .read, topic: $0) })
        let identity = GroupIdentity(
            generation: request.generationID,
            memberID: request.memberID,
            instanceID: request.groupInstanceID
        )
        let (accepted, refused) = groups.check(
            request.topics.positions.filter { !denied.contains($0.key.topic) },
            of: request.groupID
        )
        var whole =
            denial ?? .of(groups.checkCommit(group: request.groupID, by: identity, isTransactional: true))
        if whole == .noError, !accepted.isEmpty {
            let producer = ProducerIdentity(id: request.producerID, epoch: request.producerEpoch)
            do {
                if call.version >= 5 {
                    try await transactions.addOffsets(
                        transactionalID: request.transactionalID,
                        producer: producer,
                        group: request.groupID
                    )
                }
                try await transactions.commitOffsets(
                    transactionalID: request.transactionalID,
                    producer: producer,
                    group: request.groupID,
                    offsets: accepted
                )
            } catch {
                whole = code(error, knowsFenced: call.version >= 3)
            }
        }
        return TxnOffsetCommitResponse(
            topics: request.topics.outcomes(
                {
                    denial == nil && denied.contains($0.topic)
                        ? .topicAuthorizationFailed : whole == .noError ? .of(refused[$0]) : whole
                },
                partition: {
                    TxnOffsetCommitResponse.TxnOffsetCommitResponsePartition(partitionIndex: $0, errorCode: $1)
                },
                topic: { TxnOffsetCommitResponse.TxnOffsetCommitResponseTopic(name: $0, partitions: $1) }
            )
        )
    }

    /// From version 5 on the producer goes on with what the answer says: the next epoch, or another id.
    func endTransaction(_ request: EndTxnRequest, _ call: Call) async -> EndTxnResponse {
        guard may(call.session, .write, transactionalID: request.transactionalID) else {
            return EndTxnResponse(errorCode: .transactionalIdAuthorizationFailed)
        }
        do {
            let next = try await transactions.end(
                transactionalID: request.transactionalID,
                producer: ProducerIdentity(id: request.producerID, epoch: request.producerEpoch),
                commit: request.committed,
                raisesEpoch: call.version >= 5
            )
            return EndTxnResponse(producerID: next.id, producerEpoch: next.epoch)
        } catch {
            return EndTxnResponse(errorCode: code(error, knowsFenced: call.version >= 2))
        }
    }

    func describeTransactions(_ request: DescribeTransactionsRequest, _ call: Call) -> DescribeTransactionsResponse {
        typealias State = DescribeTransactionsResponse.TransactionState
        return DescribeTransactionsResponse(
            transactionStates: request.transactionalIDs.withoutRepeats().map { id in
                guard may(call.session, .describe, transactionalID: id) else {
                    return State(errorCode: .transactionalIdAuthorizationFailed, transactionalID: id)
                }
                do {
                    let state = try transactions.describe(id)
                    let topics = Dictionary(grouping: state.partitions) { $0.topic }
                        .filter { sees(call.session, .topic, $0.key) }
                    return State(
                        transactionalID: id,
                        transactionState: state.phase.name,
                        transactionTimeoutMs: state.timeoutMilliseconds,
                        transactionStartTimeMs: state.startedAt ?? -1,
                        producerID: state.producer.id,
                        producerEpoch: state.producer.epoch,
                        topics: topics.sorted { $0.key < $1.key }.map { name, partitions in
                            DescribeTransactionsResponse.TopicData(
                                topic: name,
                                partitions: partitions.map(\.partition).sorted()
                            )
                        }
                    )
                } catch {
                    return State(errorCode: code(error, knowsFenced: true), transactionalID: id)
                }
            }
        )
    }

    func listTransactions(_ request: ListTransactionsRequest, _ call: Call) -> ListTransactionsResponse {
        let phases = Dictionary(TransactionState.Phase.allCases.map { ($0.name, $0) }) { first, _ in first }
        let unknown = request.stateFilters.filter { phases[$0] == nil }
        let wanted = Set(request.stateFilters.compactMap { phases[$0] })
        // Filters that name no state there is let nothing through.
        guard request.stateFilters.isEmpty || !wanted.isEmpty else {
            return ListTransactionsResponse(unknownStateFilters: unknown)
        }
        let found = transactions.list(
            phases: wanted,
            producerIDs: Set(request.producerIDFilters),
            runningMillisecondsMin: request.durationFilter >= 0 ? request.durationFilter : nil
        )
        return ListTransactionsResponse(
            unknownStateFilters: unknown,
            transactionStates: found.filter { sees(call.session, .transactionalID, $0.0) }.map { id, state in
                ListTransactionsResponse.TransactionState(
                    transactionalID: id,
                    producerID: state.producer.id,
                    transactionState: state.phase.name
                )
            }
        )
    }

    /// The protocol's code; older versions know one that was fenced by another number.
    private func code(_ error: any Error, knowsFenced: Bool) -> KafkaErrorCode {
        guard let refused = error as? TransactionError else {
            logger.error("a transaction's request failed", metadata: ["error": "\(error)"])
            return .unknownServerError
        }
        if refused.code == .producerFenced, !knowsFenced { return .invalidProducerEpoch }
        return KafkaErrorCode(rawValue: refused.code.rawValue) ?? .unknownServerError
    }
}
