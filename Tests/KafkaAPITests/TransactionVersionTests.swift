// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

/// The second version of transactions (KIP-890): each one ends with a raised epoch, and what it has adds itself.
@Suite struct TransactionVersionTests {
    private struct Producer {
        let wire: Wire
        let id: Int64
        var epoch: Int16

        static func begin(_ stand: DoorStand) async throws -> Producer {
            let wire = try await stand.connect()
            let begun = try await wire.ask(
                InitProducerIdRequest(
                    transactionalID: "x",
                    transactionTimeoutMs: 60_000,
                    producerID: -1,
                    producerEpoch: -1
                ),
                version: 5
            )
            #expect(begun.errorCode == .noError)
            return Producer(wire: wire, id: begun.producerID, epoch: begun.producerEpoch)
        }

        func put(sequence: Int32, partition: Int32 = 0) async throws -> KafkaErrorCode {
            let batch = Requests.batch(producerID: id, epoch: epoch, sequence: sequence, isTransactional: true)
            try await wire.send(
                Requests.produce("t", batch: batch, transactionalID: "x", version: 12, partition: partition)
            )
            let answer = try await wire.answer(to: ProduceRequest.self, version: 12)
            return answer.responses[0].partitionResponses[0].errorCode
        }

        func end(commit: Bool) async throws -> EndTxnResponse {
            try await wire.ask(
                EndTxnRequest(transactionalID: "x", producerID: id, producerEpoch: epoch, committed: commit),
                version: 5
            )
        }

        func commitOffset(_ offset: Int64) async throws -> KafkaErrorCode {
            let request = TxnOffsetCommitRequest(
                transactionalID: "x",
                groupID: "g",
                producerID: id,
                producerEpoch: epoch,
                topics: [
                    .init(
                        name: "t",
                        partitions: [.init(partitionIndex: 0, committedOffset: offset, committedLeaderEpoch: 3)]
                    )
                ]
            )
            return try await wire.ask(request, version: 5).topics[0].partitions[0].errorCode
        }
    }

    @Test func clientsAreToldOfIt() async throws {
        try await DoorStand.with { stand in
            let answer = try await stand.connect().ask(ApiVersionsRequest(), version: 4)
            #expect(answer.finalizedFeatures.map(\.name) == ["transaction.version"])
            #expect(answer.finalizedFeatures[0].maxVersionLevel == 2)
            #expect(answer.supportedFeatures.map(\.maxVersion) == [2])
            #expect(answer.finalizedFeaturesEpoch >= 0)
            let served = Dictionary(uniqueKeysWithValues: answer.apiKeys.map { ($0.apiKey, $0.maxVersion) })
            #expect(served[KafkaAPIKey.produce.rawValue] == 12)
            #expect(served[KafkaAPIKey.endTxn.rawValue] == 5)
            #expect(served[KafkaAPIKey.txnOffsetCommit.rawValue] == 5)
        }
    }

    @Test(.timeLimit(.minutes(5))) func eachTransactionRaisesTheEpochAndAddsWhatItHas() async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20, partitions: 2)
            let p0 = TopicPartition(topic: "t", partition: 0)
            var producer = try await Producer.begin(stand)
            #expect(try await producer.put(sequence: 0) == .noError)
            #expect(try await producer.put(sequence: 0, partition: 1) == .noError)
            #expect(try await producer.commitOffset(1) == .noError)
            #expect(stand.log.committed(group: "g").isEmpty)
            let ended = try await producer.end(commit: true)
            #expect(
                (ended.errorCode, ended.producerID, ended.producerEpoch) == (.noError, producer.id, producer.epoch + 1)
            )
            #expect(stand.log.committed(group: "g")[p0]?.offset == 1)
            #expect(stand.log.committed(group: "g")[p0]?.leaderEpoch == 3)
            // The same request again, as after a lost answer.
            let again = try await producer.end(commit: true)
            #expect((again.errorCode, again.producerEpoch) == (.noError, ended.producerEpoch))
            // What was on its way when the transaction ended belongs to none.
            #expect(try await producer.put(sequence: 1) == .invalidProducerEpoch)

            producer.epoch = ended.producerEpoch
            #expect(try await producer.put(sequence: 0) == .noError)
            #expect(try await producer.commitOffset(2) == .noError)
            let aborted = try await producer.end(commit: false)
            #expect((aborted.errorCode, aborted.producerEpoch) == (.noError, producer.epoch + 1))
            #expect(stand.log.committed(group: "g")[p0]?.offset == 1)
            let bounds = try stand.log.bounds(p0)
            #expect(bounds.stable == bounds.end)
            let found = try await stand.log.read(p0, from: 0, bytesMax: 1 << 20)
            #expect(try RecordBatches.records(in: found.bytes).count == 1)
        }
    }

    /// Batches sent ahead keep their order though the first of them waits for its transaction.
    @Test(.timeLimit(.minutes(5))) func batchesSentAheadKeepTheirOrder() async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            let producer = try await Producer.begin(stand)
            var bytes: [UInt8] = []
            for sequence in 0..<5 {
                let batch = Requests.batch(
                    producerID: producer.id,
                    epoch: producer.epoch,
                    sequence: Int32(sequence),
                    isTransactional: true
                )
                bytes += Requests.produce("t", batch: batch, transactionalID: "x", version: 12)
            }
            try await producer.wire.send(bytes)
            for place in 0..<5 {
                let answer = try await producer.wire.answer(to: ProduceRequest.self, version: 12)
                let partition = answer.responses[0].partitionResponses[0]
                #expect((partition.errorCode, partition.baseOffset) == (.noError, Int64(place)))
            }
        }
    }

    @Test(.timeLimit(.minutes(5))) func aProducerThatWasShutOutIsTold() async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            let first = try await Producer.begin(stand)
            let second = try await Producer.begin(stand)
            #expect(try await first.put(sequence: 0) == .invalidProducerEpoch)
            #expect(try await first.end(commit: true).errorCode == .producerFenced)
            #expect(try await second.put(sequence: 0) == .noError)
        }
    }

    @Test(.timeLimit(.minutes(5))) func brokersMayAskWhetherAPartitionIsPartOfATransaction() async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20)
            let producer = try await Producer.begin(stand)
            func isPart() async throws -> KafkaErrorCode {
                let request = AddPartitionsToTxnRequest(
                    transactions: [
                        .init(
                            transactionalID: "x",
                            producerID: producer.id,
                            producerEpoch: producer.epoch,
                            verifyOnly: true,
                            topics: [.init(name: "t", partitions: [0])]
                        )
                    ]
                )
                return try await producer.wire.ask(request, version: 5).resultsByTransaction[0].topicResults[0]
                    .resultsByPartition[0].partitionErrorCode
            }
            #expect(try await isPart() == .transactionAbortable)
            #expect(try await producer.put(sequence: 0) == .noError)
            #expect(try await isPart() == .noError)
        }
    }
}
