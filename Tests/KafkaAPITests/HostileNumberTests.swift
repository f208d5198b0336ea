// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

/// Numbers and names that no honest client sends.
@Suite struct HostileNumberTests {
    @Test(.timeLimit(.minutes(5)), arguments: [Int32.max, .min, 3, 2])
    func pagesBeginAnywhere(partition: Int32) async throws {
        try await DoorStand.with { stand in
            try await stand.makeTopic("t", messageBytesMax: 1 << 20, partitions: 3)
            let wire = try await stand.connect()
            let request = DescribeTopicPartitionsRequest(
                topics: [.init(name: "t")],
                responsePartitionLimit: .max,
                cursor: .init(topicName: "t", partitionIndex: partition)
            )
            let answer = try await wire.ask(request, version: 0)
            #expect(answer.topics.map(\.name) == ["t"])
            #expect(answer.topics[0].partitions.map(\.partitionIndex) == Array(max(0, min(partition, 3))..<3))
            #expect(answer.nextCursor == nil)
        }
    }

    @Test(
        .timeLimit(.minutes(5)),
        arguments: [
            (String(repeating: "g", count: 65_536), KafkaErrorCode.invalidGroupId),
            (String(repeating: "g", count: 1025), .invalidGroupId), ("", .invalidGroupId), ("a\u{0}b", .invalidGroupId),
            ("__table.t", .groupAuthorizationFailed), (String(repeating: "g", count: 1024), .noError),
        ]
    )
    func transactionsTakeNamesThatGroupsMayHave(group: String, code: KafkaErrorCode) async throws {
        try await DoorStand.with { stand in
            let wire = try await stand.connect()
            let begin = InitProducerIdRequest(transactionalID: "t", transactionTimeoutMs: 60_000)
            let producer = try await wire.ask(begin, version: 4)
            let request = AddOffsetsToTxnRequest(
                transactionalID: "t",
                producerID: producer.producerID,
                producerEpoch: producer.producerEpoch,
                groupID: group
            )
            #expect(try await wire.ask(request, version: 3).errorCode == code)
        }
    }
}
