// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct TransactionTests {
    /// Appends one record in a transaction of `producer` and returns its offset.
    private static func put(
        _ log: LocalLog,
        _ value: String,
        producer: Int64,
        epoch: Int16 = 0,
        sequence: Int32
    ) async throws -> Int64 {
        let bytes = batch([value], producer: producer, epoch: epoch, sequence: sequence, isTransactional: true)
        return try await log.append(bytes, to: p0).baseOffset
    }

    @discardableResult
    private static func end(
        _ log: LocalLog,
        producer: Int64,
        epoch: Int16 = 0,
        commit: Bool
    ) async throws -> Int64? {
        try await log.writeMarker(p0, producerID: producer, epoch: epoch, coordinatorEpoch: 0, commit: commit)?
            .baseOffset
    }

    /// 0 plain, 1 open by 1, 2 open by 2, 3 commit 2, 4 open by 3, 5 abort 3, 6 plain; 1 stays open.
    private static func mixed(_ log: LocalLog) async throws {
        _ = try await log.append(batch(["plain"]), to: p0)
        #expect(try await put(log, "one", producer: 1, sequence: 0) == 1)
        #expect(try await put(log, "two", producer: 2, sequence: 0) == 2)
        #expect(try await end(log, producer: 2, commit: true) == 3)
        #expect(try await put(log, "three", producer: 3, sequence: 0) == 4)
        #expect(try await end(log, producer: 3, commit: false) == 5)
        _ = try await log.append(batch(["last"]), to: p0)
    }

    @Test(arguments: [0, 32 << 20]) func hidesWhatIsOpenOrAborted(recentBytesMax: Int) async throws {
        let directory = try TemporaryDirectory()
        let settings = LocalLogSettings(recentBytesMax: recentBytesMax)
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await Self.mixed(log)
            #expect(try log.bounds(p0) == (0, 7, 1))
            #expect(try await readAll(log, p0).map(\.text) == ["plain"])
            let all = try await log.read(p0, from: 0, bytesMax: 1 << 20, wait: .zero, isolation: .uncommitted)
            #expect(try RecordBatches.records(in: all.bytes).map(\.text) == ["plain", "one", "two", "three", "last"])
            #expect(all.abortedTransactions == [])
            #expect(all.lastStableOffset == 1)
            try await Self.end(log, producer: 1, commit: true)
            #expect(try log.bounds(p0) == (0, 8, 8))
            #expect(try await readAll(log, p0).map(\.text) == ["plain", "one", "two", "last"])
            let raw = try await log.read(p0, from: 0, bytesMax: 1 << 20, wait: .zero, isolation: .committed)
            #expect(raw.abortedTransactions == [AbortedTransaction(producerID: 3, firstOffset: 4)])
            #expect(raw.nextOffset == 8)
            let part = try await log.read(p0, from: 6, bytesMax: 1 << 20, wait: .zero, isolation: .committed)
            #expect(part.abortedTransactions == [])
            let alone = try await log.read(p0, from: 4, bytesMax: 1)
            #expect(alone.bytes.isEmpty && alone.nextOffset == 5, "an aborted batch is passed over")
        }
    }

    @Test(arguments: [true, false]) func knowsTransactionsAfterAKill(hasCheckpoint: Bool) async throws {
        let directory = try TemporaryDirectory()
        let killed = try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 1024)
            try await log.createTopic("t", partitions: 1, settings: settings)
            try await Self.mixed(log)
            for _ in 0..<20 { _ = try await log.append(batch([String(repeating: "x", count: 200)]), to: p0) }
            if hasCheckpoint { await log.maintain() }
            return try directory.snapshot()
        }
        try await withLog(killed) { log async throws in
            #expect(log.damage() == [])
            #expect(try log.bounds(p0) == (0, 27, 1))
            #expect(try log.producers(p0).map(\.transactionStart) == [1, nil, nil])
            try await Self.end(log, producer: 1, commit: false)
            #expect(try await readAll(log, p0).prefix(3).map(\.text) == ["plain", "two", "last"])
        }
        try await withLog(killed) { log async throws in
            let raw = try await log.read(p0, from: 0, bytesMax: 1 << 20, wait: .zero, isolation: .committed)
            #expect(raw.abortedTransactions.map(\.firstOffset) == [1, 4])
        }
    }

    @Test func wakesReadersOfCommittedRecordsWhenTheTransactionEnds() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            _ = try await Self.put(log, "a", producer: 1, sequence: 0)
            async let committed = log.read(p0, from: 0, bytesMax: 1 << 20, wait: .seconds(30))
            async let uncommitted = log.read(
                p0,
                from: 1,
                bytesMax: 1 << 20,
                wait: .seconds(30),
                isolation: .uncommitted
            )
            _ = try await Self.put(log, "b", producer: 1, sequence: 1)
            #expect(try await uncommitted.nextOffset == 2)
            try await Self.end(log, producer: 1, commit: true)
            let found = try await committed
            #expect(try RecordBatches.records(in: found.bytes).map(\.text) == ["a", "b"])
            #expect(found.nextOffset == 3)
        }
    }

    @Test func endsATransactionOnce() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            _ = try await Self.put(log, "a", producer: 1, epoch: 3, sequence: 0)
            #expect(
                await errorCode { try await Self.end(log, producer: 1, epoch: 2, commit: true) }
                    == .invalidProducerEpoch
            )
            #expect(try await Self.end(log, producer: 1, epoch: 3, commit: true) == 1)
            #expect(try await Self.end(log, producer: 1, epoch: 3, commit: true) == nil)
            #expect(try await Self.put(log, "b", producer: 1, epoch: 3, sequence: 1) == 2)
            // A marker of a later epoch fences what the producer has under way.
            #expect(try await Self.end(log, producer: 1, epoch: 4, commit: false) == 3)
            let late = batch(["c"], producer: 1, epoch: 3, sequence: 2, isTransactional: true)
            #expect(try await log.refusal(late) == .invalidProducerEpoch)
            #expect(try await Self.put(log, "d", producer: 1, epoch: 4, sequence: 0) == 4)
            #expect(
                await errorCode {
                    _ = try await log.writeMarker(p0, producerID: 1, epoch: 4, coordinatorEpoch: -1, commit: true)
                } == .coordinatorFenced
            )
            let outside = batch(["e"], producer: 1, epoch: 4, sequence: 1)
            #expect(try await log.refusal(outside) == .invalidTransactionState)
            let next = batch(["e"], producer: 1, epoch: 5, sequence: 0, isTransactional: true)
            #expect(try await log.refusal(next) == .invalidTransactionState)
        }
    }

    @Test func writesMarkersAsKafkaDoes() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            _ = try await log.writeMarker(p0, producerID: 9, epoch: 2, coordinatorEpoch: 5, commit: true)
            _ = try await log.writeMarker(p0, producerID: 10, epoch: 2, coordinatorEpoch: 5, commit: false)
            let later = batch(["x"], producer: 9, epoch: 2, sequence: 3, isTransactional: true)
            #expect(try await log.refusal(later) == .unknownProducer)
            let found = try await log.read(p0, from: 0, bytesMax: 1 << 20)
            var walk = RecordBatches(found.bytes)
            let first = try #require(try walk.nextBatch())
            #expect(first.header.isControl && first.header.isTransactional)
            #expect(first.header.producerID == 9 && first.header.producerEpoch == 2 && first.header.baseSequence == -1)
            // Length, attributes, two deltas, key of four bytes, value of six, no headers.
            let content = Array(found.bytes[first.range].dropFirst(RecordBatchHeader.byteCount))
            #expect(content == [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 5, 0])
            let second = try #require(try walk.nextBatch())
            let marker = TransactionMarker(reading: found.bytes, at: second.range.lowerBound, header: second.header)
            #expect(marker == TransactionMarker(isCommit: false, coordinatorEpoch: 5))
        }
    }

    @Test func asksWhetherATransactionMayBegin() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let first = batch(["a"], producer: 1, sequence: 0, isTransactional: true)
            log.transactionGate.enforce()
            #expect(try await log.refusal(first) == .invalidTransactionState)
            log.transactionGate.admit(producerID: 1, epoch: 1, to: [p0])
            #expect(try await log.refusal(first) == .invalidTransactionState)
            log.transactionGate.admit(producerID: 1, epoch: 0, to: [p0])
            #expect(try await log.outcome(first).get() == 0)
            log.transactionGate.dismiss(producerID: 1)
            let second = batch(["b"], producer: 1, sequence: 1, isTransactional: true)
            #expect(try await log.outcome(second).get() == 1, "what is open goes on until its marker")
            try await Self.end(log, producer: 1, commit: true)
            let late = batch(["c"], producer: 1, sequence: 2, isTransactional: true)
            #expect(try await log.refusal(late) == .invalidTransactionState)
        }
    }

    @Test func forgetsAbortedTransactionsWithTheirRecords() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, retentionBytes: 1, segmentBytes: 1024)
            try await log.createTopic("t", partitions: 1, settings: settings)
            for number: Int32 in 0..<30 {
                _ = try await Self.put(log, String(repeating: "x", count: 200), producer: 1, sequence: number)
                try await Self.end(log, producer: 1, commit: false)
            }
            await log.maintain()
            let start = try log.bounds(p0).start
            #expect(start > 40)
            let raw = try await log.read(p0, from: start, bytesMax: 1 << 20, wait: .zero, isolation: .committed)
            #expect(raw.abortedTransactions.count == Int(61 - start) / 2)
        }
        let name = try #require(try directory.names(in: "log/topics/t/0").last { $0.hasSuffix(".producers") })
        #expect(try directory.read("log/topics/t/0/\(name)").count < 500)
    }
}
