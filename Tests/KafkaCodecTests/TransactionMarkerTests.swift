// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Testing

struct TransactionMarkerTests {
    @Test(arguments: [TransactionMarker.Outcome.abort, .commit])
    func readsWhatItWrites(outcome: TransactionMarker.Outcome) throws {
        let marker = TransactionMarker(outcome, coordinatorEpoch: 7)
        let bytes = marker.batch(producerID: 42, producerEpoch: 3, timestamp: 1000)
        let header = try RecordBatchValidator.validate(bytes)
        #expect(header.isControl && header.isTransactional)
        #expect(header.producerID == 42 && header.producerEpoch == 3 && header.baseSequence == -1)
        #expect(header.recordCount == 1 && header.maxTimestamp == 1000)
        // Length 16, attributes, deltas, key of 4, value of 6, no headers.
        let record: [UInt8] = [32, 0, 0, 0, 8, 0, 0, 0, UInt8(outcome.rawValue), 12, 0, 0, 0, 0, 0, 7, 0]
        #expect(Array(bytes[61...]) == record)
        var walk = RecordBatches(bytes)
        let batch = try #require(try walk.nextBatch())
        #expect(try TransactionMarker.read(batch, in: bytes) == marker)
        #expect(try RecordBatches.records(in: bytes).isEmpty)
    }

    @Test func isNotInBatchesOfRecords() throws {
        let bytes = RecordBatchEncoder.encode([Record(timestamp: 0, key: [0, 0, 0, 1], value: [0, 0, 0, 0, 0, 7])])
        var walk = RecordBatches(bytes)
        let batch = try #require(try walk.nextBatch())
        #expect(try TransactionMarker.read(batch, in: bytes) == nil)
    }

    @Test func otherControlRecordsAreNoMarkers() throws {
        let record = Record(timestamp: 0, key: [0, 0, 0, 2], value: [0])
        let bytes = RecordBatchEncoder.encode([record], isControl: true)
        var walk = RecordBatches(bytes)
        let batch = try #require(try walk.nextBatch())
        #expect(try TransactionMarker.read(batch, in: bytes) == nil)
    }

    @Test(arguments: [
        [Record(timestamp: 0, key: nil, value: [0, 0, 0, 0, 0, 7])],
        [Record(timestamp: 0, key: [0, 0, 1], value: [0, 0, 0, 0, 0, 7])],
        [Record(timestamp: 0, key: [0, 0, 0, 1], value: [0, 0])],
        [Record(timestamp: 0, key: [0, 0, 0, 1], value: nil)],
        [Record(timestamp: 0, key: [0, 0, 0, 1], value: [0, 0, 0, 0, 0, 7]), Record(timestamp: 0, value: nil)],
    ])
    func refusesMarkersThatAreNone(records: [Record]) throws {
        let bytes = RecordBatchEncoder.encode(records, isControl: true)
        var walk = RecordBatches(bytes)
        let batch = try #require(try walk.nextBatch())
        #expect(throws: RecordBatchError.self) { try TransactionMarker.read(batch, in: bytes) }
    }
}
