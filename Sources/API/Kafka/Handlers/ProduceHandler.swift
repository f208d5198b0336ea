// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging
import MartletCore
import NIOCore
import Synchronization
import Transactions

extension KafkaDoor {
    /// The first version whose batches add their partitions to the transaction by themselves (KIP-890).
    private static let joinsTransactionsFrom: Int16 = 12

    /// Puts the batches of a produce request into the log's queues, in their order, and answers when all are done.
    ///
    /// With `mayBlock`, where nothing else of the connection waits for the calling thread, a single batch may be written on it; see
    /// ``LocalLog/submit(_:to:mayBlock:completion:)``.
    ///
    /// - Returns: nil once the batches are in line; where their transaction has to be told of them first, what is to be run for that.
    func produce(
        _ head: RequestHead,
        _ frame: ByteBuffer,
        _ session: KafkaSession,
        mayBlock: Bool = false,
        _ finish: @escaping @Sendable (ResponseQueue.Answer) -> Void
    ) -> (@Sendable () async -> Void)? {
        guard admits(head, session) else {
            finish(.close([]))
            return nil
        }
        let request: ProduceRequest
        do throws(KafkaCodecError) {
            request = try head.body(frame, as: ProduceRequest.self)
        } catch {
            logger.info(
                "a Kafka connection was closed: its request cannot be read",
                metadata: ["peer": "\(session.peer)", "api": "Produce", "error": "\(error)"]
            )
            finish(.close([]))
            return nil
        }
        let round = ProduceRound(request, head, logger: logger, finish)
        if let outcome = round.count == 0 ? .noError : refusal(of: request, session) {
            round.refuseAll(outcome)
            return nil
        }
        var batches: [ProduceRound.Batch] = []
        for (topic, data) in request.topicData.enumerated() {
            let isAllowed = may(session, .write, topic: data.name)
            for (place, partition) in data.partitionData.enumerated() {
                let id = TopicPartition(topic: data.name, partition: partition.index)
                guard isAllowed else {
                    round.refuse(topic, place, .topicAuthorizationFailed, "writing the topic is not allowed")
                    continue
                }
                guard let records = partition.records, records.byteCount > 0 else {
                    round.refuse(topic, place, .corruptMessage, "there are no records")
                    continue
                }
                guard !id.topic.hasPrefix("__") else {
                    round.refuse(topic, place, .topicAuthorizationFailed, "topics of that form are the engine's own")
                    continue
                }
                let bytes = head.records(records, in: frame)
                let batch = ProduceRound.Batch(
                    topic: topic,
                    place: place,
                    id: id,
                    bytes: bytes,
                    header: try? RecordBatchHeader(parsing: bytes)
                )
                if let refusal = refusal(of: batch, in: request) {
                    round.refuse(topic, place, refusal.code, refusal.message)
                } else {
                    batches.append(batch)
                }
            }
        }
        guard head.version >= Self.joinsTransactionsFrom, let transactionalID = request.transactionalID,
            let producer = producer(of: batches),
            !transactions.hasPartitions(
                transactionalID: transactionalID,
                producer: producer,
                partitions: batches.lazy.map(\.id)
            )
        else {
            submit(batches, round, mayBlock: mayBlock && batches.count == 1)
            return nil
        }
        return { [batches] in await self.join(transactionalID, producer, batches, round) }
    }

    private func submit(_ batches: [ProduceRound.Batch], _ round: ProduceRound, mayBlock: Bool = false) {
        for batch in batches {
            log.submit(batch.bytes, header: batch.header, to: batch.id, mayBlock: mayBlock) { result in
                round.set(batch.topic, batch.place, result)
            }
        }
    }

    /// Why nothing of a request is taken.
    private func refusal(of request: ProduceRequest, _ session: KafkaSession) -> KafkaErrorCode? {
        guard [-1, 0, 1].contains(request.acks) else { return .invalidRequiredAcks }
        guard let id = request.transactionalID, !may(session, .write, transactionalID: id) else { return nil }
        return .transactionalIdAuthorizationFailed
    }

    /// Why a batch is none for the request's transactional id: who may write the topic may not write into a transaction of somebody else.
    private func refusal(
        of batch: ProduceRound.Batch,
        in request: ProduceRequest
    ) -> (code: KafkaErrorCode, message: String)? {
        guard let header = batch.header, header.isTransactional else { return nil }
        guard let id = request.transactionalID else {
            return (.transactionalIdAuthorizationFailed, "a batch of a transaction came without a transactional id")
        }
        // The log refuses an epoch that is not the producer's.
        guard (try? transactions.describe(id))?.producer.id == header.producerID else {
            return (.invalidProducerIdMapping, "the producer is not the one of the transactional id")
        }
        return nil
    }

    /// Whose transaction the batches are part of; nil where none of them is part of one.
    private func producer(of batches: [ProduceRound.Batch]) -> ProducerIdentity? {
        for batch in batches {
            guard let header = batch.header, header.isTransactional else { continue }
            return ProducerIdentity(id: header.producerID, epoch: header.producerEpoch)
        }
        return nil
    }

    /// Adds the partitions to the transaction, then puts the batches in line.
    private func join(
        _ transactionalID: String,
        _ producer: ProducerIdentity,
        _ batches: [ProduceRound.Batch],
        _ round: ProduceRound
    ) async {
        do {
            try await transactions.addPartitions(
                transactionalID: transactionalID,
                producer: producer,
                partitions: batches.map(\.id).filter { (try? log.bounds($0)) != nil }
            )
        } catch {
            let code: KafkaErrorCode =
                switch (error as? TransactionError)?.code {
                case .producerFenced: .invalidProducerEpoch
                case .concurrentTransactions: .concurrentTransactions
                case .invalidProducerIDMapping: .invalidProducerIdMapping
                // Nothing is decided, and clients try again.
                case .coordinatorNotAvailable: .notEnoughReplicas
                default: .invalidTxnState
                }
            for batch in batches { round.refuse(batch.topic, batch.place, code, "\(error)") }
            return
        }
        submit(batches, round)
    }
}

/// A produce request whose batches are on their way to disk.
private final class ProduceRound: Sendable {
    private struct State {
        var response: ProduceResponse
        var left: Int
        var hasFailed = false
    }

    /// A batch of the request and where its answer goes.
    struct Batch: Sendable {
        let topic: Int
        let place: Int
        let id: TopicPartition
        let bytes: [UInt8]
        /// Nil for what is no batch, which the log refuses.
        let header: RecordBatchHeader?
    }

    /// How many batches there are.
    let count: Int
    private let head: RequestHead
    private let acks: Int16
    private let logger: Logger
    private let finish: @Sendable (ResponseQueue.Answer) -> Void
    private let state: Mutex<State>

    init(
        _ request: ProduceRequest,
        _ head: RequestHead,
        logger: Logger,
        _ finish: @escaping @Sendable (ResponseQueue.Answer) -> Void
    ) {
        self.head = head
        self.logger = logger
        self.finish = finish
        acks = request.acks
        count = request.topicData.reduce(0) { $0 + $1.partitionData.count }
        let response = ProduceResponse(
            responses: request.topicData.map { topic in
                ProduceResponse.TopicProduceResponse(
                    name: topic.name,
                    partitionResponses: topic.partitionData.map { partition in
                        ProduceResponse.PartitionProduceResponse(index: partition.index, baseOffset: -1)
                    }
                )
            }
        )
        state = Mutex(State(response: response, left: count))
    }

    func set(_ topic: Int, _ place: Int, _ result: Result<AppendResult, EventLogError>) {
        switch result {
        case .success(let appended):
            change(topic, place) { partition in
                partition.baseOffset = appended.baseOffset
                partition.logStartOffset = appended.logStartOffset
                if let time = appended.appendTime { partition.logAppendTimeMs = time }
            }
        case .failure(let error): refuse(topic, place, error.kafkaCode, error.message, error.records)
        }
    }

    func refuse(
        _ topic: Int,
        _ place: Int,
        _ code: KafkaErrorCode,
        _ message: String,
        _ records: [RecordRefusal] = []
    ) {
        change(topic, place, failed: true) { partition in
            partition.errorCode = code
            partition.errorMessage = message
            partition.recordErrors = records.map {
                ProduceResponse.BatchIndexAndErrorMessage(batchIndex: $0.index, batchIndexErrorMessage: $0.message)
            }
        }
    }

    /// Answers every partition alike.
    func refuseAll(_ code: KafkaErrorCode) {
        let response = state.withLock { state in
            for topic in state.response.responses.indices {
                for place in state.response.responses[topic].partitionResponses.indices {
                    state.response.responses[topic].partitionResponses[place].errorCode = code
                }
            }
            return state.response
        }
        end(response, hasFailed: code != .noError)
    }

    private func change(
        _ topic: Int,
        _ place: Int,
        failed: Bool = false,
        _ change: (inout ProduceResponse.PartitionProduceResponse) -> Void
    ) {
        let finished = state.withLock { state -> (ProduceResponse, Bool)? in
            change(&state.response.responses[topic].partitionResponses[place])
            state.hasFailed = state.hasFailed || failed
            state.left -= 1
            return state.left == 0 ? (state.response, state.hasFailed) : nil
        }
        if let (response, hasFailed) = finished { end(response, hasFailed: hasFailed) }
    }

    private func end(_ response: ProduceResponse, hasFailed: Bool) {
        guard acks != 0 else {
            // Without answers, the end of the connection is the only way to tell.
            return finish(hasFailed ? .close([]) : .none)
        }
        do throws(KafkaCodecError) {
            finish(try head.answer(response))
        } catch {
            logger.error("a produce response cannot be written", metadata: ["error": "\(error)"])
            finish(.close([]))
        }
    }
}
