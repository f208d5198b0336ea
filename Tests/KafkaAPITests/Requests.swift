// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

/// Requests as tests send them.
enum Requests {
    /// A batch with one record of about so many bytes.
    static func batch(
        bytes: Int = 10,
        producerID: Int64 = -1,
        epoch: Int16 = -1,
        sequence: Int32 = -1,
        isTransactional: Bool = false
    ) -> [UInt8] {
        RecordBatchEncoder.encode(
            [Record(timestamp: 1, key: nil, value: [UInt8](repeating: 7, count: bytes), headers: [])],
            producerID: producerID,
            producerEpoch: epoch,
            baseSequence: sequence,
            isTransactional: isTransactional
        )
    }

    /// A produce request of version 9 or later, written by hand: the codec leaves records to who holds them.
    static func produce(
        _ topic: String,
        bytes: Int = 10,
        batch: [UInt8]? = nil,
        transactionalID: String? = nil,
        version: Int16 = 9,
        partition: Int32 = 0
    ) -> [UInt8] {
        let batch = batch ?? Self.batch(bytes: bytes)
        var body: [UInt8] = []
        BigEndian.append(Int16(0), to: &body)
        BigEndian.append(version, to: &body)
        BigEndian.append(Int32(9), to: &body)
        BigEndian.append(Int16(-1), to: &body)
        body.append(0)
        if let transactionalID { compact(transactionalID, to: &body) } else { body.append(0) }
        BigEndian.append(Int16(-1), to: &body)
        BigEndian.append(Int32(30_000), to: &body)
        body.append(2)
        compact(topic, to: &body)
        body.append(2)
        BigEndian.append(partition, to: &body)
        varInt(batch.count + 1, to: &body)
        body += batch + [0, 0, 0]
        var frame: [UInt8] = []
        BigEndian.append(Int32(body.count), to: &frame)
        return frame + body
    }

    static func fetch(_ topic: String, wait: Int32, bytesMax: Int = 1 << 20) -> FetchRequest {
        FetchRequest(
            maxWaitMs: wait,
            minBytes: 1,
            maxBytes: Int32(bytesMax),
            sessionEpoch: -1,
            topics: [
                FetchRequest.FetchTopic(
                    topic: topic,
                    partitions: [FetchRequest.FetchPartition(partition: 0, partitionMaxBytes: Int32(bytesMax))]
                )
            ]
        )
    }

    private static func compact(_ text: String, to bytes: inout [UInt8]) {
        varInt(text.utf8.count + 1, to: &bytes)
        bytes += text.utf8
    }

    private static func varInt(_ value: Int, to bytes: inout [UInt8]) {
        var left = value
        while left >= 0x80 {
            bytes.append(UInt8(left & 0x7F) | 0x80)
            left >>= 7
        }
        bytes.append(UInt8(left))
    }
}

extension DoorStand {
    func makeTopic(_ name: String, messageBytesMax: Int32, partitions: Int32 = 1) async throws {
        var settings = TopicSettings()
        settings.messageBytesMax = messageBytesMax
        try await log.createTopic(name, partitions: partitions, settings: settings)
    }

    /// Produces one record on a connection of its own.
    func expectProduced(_ topic: String, bytes: Int) async throws {
        let wire = try await connect()
        wire.start(Requests.produce(topic, bytes: bytes))
        let answer = try await wire.answer(to: ProduceRequest.self, version: 9)
        #expect(answer.responses[0].partitionResponses[0].errorCode == .noError)
        try await wire.close()
    }
}
