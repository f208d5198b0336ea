// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Testing

/// A batch of an idempotent producer.
func batch(
    _ values: [String],
    producer: Int64,
    epoch: Int16 = 0,
    sequence: Int32,
    isTransactional: Bool = false
) -> [UInt8] {
    RecordBatchEncoder.encode(
        values.map { record($0) },
        producerID: producer,
        producerEpoch: epoch,
        baseSequence: sequence,
        isTransactional: isTransactional
    )
}

extension LocalLog {
    /// Appends a batch and returns its first offset, or why it was refused.
    func outcome(_ bytes: [UInt8], _ id: TopicPartition = p0) async throws -> Result<Int64, EventLogError> {
        do {
            return .success(try await append(bytes, to: id).baseOffset)
        } catch let error as EventLogError {
            return .failure(error)
        }
    }

    func refusal(_ bytes: [UInt8], _ id: TopicPartition = p0) async throws -> EventLogError.Code? {
        if case .failure(let error) = try await outcome(bytes, id) { return error.code }
        return nil
    }
}

@Suite(.timeLimit(.minutes(5)))
struct ProducerTests {
    private static let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 4096)

    @Test func acceptsEachSequenceNumberOnce() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            #expect(try await log.outcome(batch(["a", "b"], producer: 7, sequence: 0)).get() == 0)
            #expect(try await log.outcome(batch(["c"], producer: 7, sequence: 2)).get() == 2)
            #expect(try await log.outcome(batch(["a", "b"], producer: 7, sequence: 0)).get() == 0)
            #expect(try await log.append(batch(["c"], producer: 7, sequence: 2), to: p0).lastOffset == 2)
            #expect(try await log.refusal(batch(["x"], producer: 7, sequence: 4)) == .outOfOrderSequence)
            #expect(try await log.refusal(batch(["x"], producer: 7, sequence: 1)) == .outOfOrderSequence)
            #expect(try await log.refusal(batch(["x"], producer: 8, sequence: 5)) == .unknownProducer)
            #expect(try await log.outcome(batch(["d"], producer: 8, sequence: 0)).get() == 3)
            #expect(try await readAll(log, p0).map(\.text) == ["a", "b", "c", "d"])
            #expect(try log.producers(p0).map(\.lastSequence) == [2, 0])
        }
    }

    @Test func beginsNewEpochsAtZeroAndRefusesOlderOnes() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            _ = try await log.append(batch(["a"], producer: 7, epoch: 1, sequence: 0), to: p0)
            #expect(try await log.refusal(batch(["x"], producer: 7, epoch: 0, sequence: 1)) == .invalidProducerEpoch)
            #expect(try await log.refusal(batch(["x"], producer: 7, epoch: 2, sequence: 1)) == .outOfOrderSequence)
            #expect(try await log.outcome(batch(["b"], producer: 7, epoch: 2, sequence: 0)).get() == 1)
            #expect(try await log.refusal(batch(["a"], producer: 7, epoch: 1, sequence: 0)) == .invalidProducerEpoch)
        }
    }

    @Test func remembersFiveBatchesAndGoesOnAtZeroAfterTheLastNumber() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            for number in 0..<7 {
                _ = try await log.append(batch(["\(number)"], producer: 1, sequence: Int32(number)), to: p0)
            }
            #expect(try await log.outcome(batch(["2"], producer: 1, sequence: 2)).get() == 2)
            #expect(try await log.refusal(batch(["1"], producer: 1, sequence: 1)) == .outOfOrderSequence)
        }
        // A snapshot gives the producer a number that would take long to reach.
        try await Self.setLastSequence(Int32.max - 1, in: directory)
        try await withLog(directory) { log async throws in
            #expect(try await log.outcome(batch(["y", "z"], producer: 1, sequence: Int32.max)).get() == 7)
            #expect(try await log.outcome(batch(["y", "z"], producer: 1, sequence: Int32.max)).get() == 7)
            #expect(try await log.outcome(batch(["0"], producer: 1, sequence: 1)).get() == 9)
        }
    }

    /// Rewrites the one producer's last batch in the snapshot.
    private static func setLastSequence(_ sequence: Int32, in directory: TemporaryDirectory) async throws {
        let folder = "log/topics/t/0"
        let name = try #require(try directory.names(in: folder).last { $0.hasSuffix(".producers") })
        var bytes = try directory.read("\(folder)/\(name)")
        let last = bytes.count - 4 - 16
        BigEndian.store(sequence, to: &bytes, at: last)
        BigEndian.store(sequence, to: &bytes, at: last + 4)
        BigEndian.store(CRC32C.checksum(bytes, in: 0..<bytes.count - 4), to: &bytes, at: bytes.count - 4)
        try directory.write(bytes, to: "\(folder)/\(name)")
    }

    @Test func answersARepetitionOnlyWhenTheOriginalIsOnDisk() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let log = try await LocalLog.open(directory: directory.path, settings: disk.settings, logger: quietLogger)
        try await log.createTopic("t", partitions: 1, settings: Self.settings)
        let answers = Answers()
        for number in 0..<40 {
            let bytes = batch(["\(number / 4)"], producer: 1, sequence: Int32(number / 4))
            log.submit(bytes, to: p0, completion: answers.completion(number))
        }
        for (number, result) in await answers.all(40) { #expect(try result.get().baseOffset == Int64(number / 4)) }
        disk.fail(with: EIO)
        let failed = Answers()
        for number in 0..<8 {
            let bytes = batch(["x"], producer: 1, sequence: 10)
            log.submit(bytes, to: p0, completion: failed.completion(number))
        }
        for (_, result) in await failed.all(8) { #expect(throws: EventLogError.self) { try result.get() } }
        disk.fail(with: 0)
        await log.close()
        try await withLog(directory) { log async throws in
            // It may have reached the disk, and is there once.
            #expect(try await log.outcome(batch(["x"], producer: 1, sequence: 10)).get() == 10)
            #expect(try await readAll(log, p0).map(\.text) == (0..<10).map { "\($0)" } + ["x"])
        }
    }

    @Test(arguments: [true, false]) func knowsProducersAfterAKill(hasCheckpoint: Bool) async throws {
        let directory = try TemporaryDirectory()
        let killed = try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            for number in 0..<40 {
                let bytes = batch(
                    ["\(number) " + String(repeating: "x", count: 300)],
                    producer: 1,
                    sequence: Int32(number)
                )
                _ = try await log.append(bytes, to: p0)
                if hasCheckpoint, number == 30 { await log.maintain() }
            }
            return try directory.snapshot()
        }
        try await withLog(killed) { log async throws in
            #expect(log.damage() == [])
            let repeated = batch(["39 " + String(repeating: "x", count: 300)], producer: 1, sequence: 39)
            #expect(try await log.outcome(repeated).get() == 39)
            #expect(try await log.refusal(batch(["x"], producer: 1, sequence: 41)) == .outOfOrderSequence)
            #expect(try await log.outcome(batch(["40"], producer: 1, sequence: 40)).get() == 40)
        }
    }

    @Test func readsNothingAgainThatTheSnapshotKnows() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            _ = try await log.append(batch(["first"], producer: 1, sequence: 0), to: p0)
            await log.maintain()
            for _ in 0..<40 { _ = try await log.append(batch([String(repeating: "x", count: 300)]), to: p0) }
        }
        // Whoever read the first segment again would find this.
        let first = "log/topics/t/0/00000000000000000000.log"
        var bytes = try directory.read(first)
        bytes[bytes.count / 2] ^= 1
        try directory.write(bytes, to: first)
        try await withLog(directory) { log async throws in
            #expect(log.damage() == [])
            #expect(try await log.outcome(batch(["first"], producer: 1, sequence: 0)).get() == 0)
            #expect(try await log.verify().count == 1)
        }
    }

    @Test(arguments: ["flipped", "removed"]) func readsTheRecordsWhereASnapshotIsUnusable(how: String) async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            for number in 0..<5 {
                _ = try await log.append(batch(["\(number)"], producer: 1, sequence: Int32(number)), to: p0)
            }
        }
        let folder = "log/topics/t/0"
        for name in try directory.names(in: folder) where name.hasSuffix(".producers") {
            var bytes = try directory.read("\(folder)/\(name)")
            bytes[30] ^= 1
            try directory.write(bytes, to: "\(folder)/\(name)")
            if how == "removed" { try directory.remove("\(folder)/\(name)") }
        }
        try await withLog(directory) { log async throws in
            #expect(log.damage().count == 1)
            #expect(try await log.outcome(batch(["4"], producer: 1, sequence: 4)).get() == 4)
            #expect(try await log.outcome(batch(["5"], producer: 1, sequence: 5)).get() == 5)
        }
        try await withLog(directory) { log async throws in
            #expect(log.damage() == [])
            #expect(try await log.outcome(batch(["5"], producer: 1, sequence: 5)).get() == 5)
        }
    }

    @Test func forgetsIdleProducers() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        var settings = disk.settings
        settings.producersPerPartitionMax = 3
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            _ = try await log.append(batch(["a"], producer: 1, sequence: 0), to: p0)
            let open = batch(["b"], producer: 2, sequence: 0, isTransactional: true)
            _ = try await log.append(open, to: p0)
            disk.advance(by: 23 * 3_600_000)
            await log.maintain()
            #expect(try log.producers(p0).map(\.producerID) == [1, 2])
            disk.advance(by: 2 * 3_600_000)
            await log.maintain()
            #expect(try log.producers(p0).map(\.producerID) == [2], "an open transaction keeps its producer")
            for id: Int64 in 10..<14 {
                disk.advance(by: 1)
                _ = try await log.append(batch(["c"], producer: id, sequence: 0), to: p0)
            }
            await log.maintain()
            #expect(try log.producers(p0).map(\.producerID) == [2, 12, 13])
            #expect(try await log.refusal(batch(["d"], producer: 1, sequence: 1)) == .unknownProducer)
        }
    }

    @Test func refusesWhatProducersMustNotSend() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            let marker = TransactionMarker(isCommit: true, coordinatorEpoch: 0)
            #expect(
                try await log.refusal(marker.batch(producerID: 1, producerEpoch: 0, timestamp: 0)) == .invalidRecord
            )
            #expect(try await log.refusal(batch(["a"], producer: 1, sequence: -1)) == .invalidRecord)
            #expect(try await log.refusal(batch(["a"], producer: 1, epoch: -1, sequence: 0)) == .invalidRecord)
            let anonymous = batch(["a"], producer: -1, epoch: -1, sequence: -1, isTransactional: true)
            #expect(try await log.refusal(anonymous) == .invalidRecord)
        }
    }

    @Test func forgetsABatchThatFoundNoRoom() async throws {
        let directory = try TemporaryDirectory()
        let mountPoint = directory.path + "/small"
        mkdir(mountPoint, 0o755)
        guard mount("tmpfs", mountPoint, "tmpfs", 0, "size=600k") == 0 else {
            #expect(getenv("MARTLET_TEST_ALL") == nil, "a small file system cannot be mounted here (\(errno))")
            print("forgetsABatchThatFoundNoRoom: skipped, cannot mount a small file system (\(errno))")
            return
        }
        defer { umount2(mountPoint, 2) }
        let log = try await LocalLog.open(directory: mountPoint, logger: quietLogger)
        try await log.createTopic("t", partitions: 1, settings: TopicSettings(retentionMilliseconds: nil))
        let filler = open(mountPoint + "/filler", O_RDWR | O_CREAT, 0o600)
        try #require(posix_fallocate(filler, 0, 300_000) == 0)
        let large = String(repeating: "x", count: 5000)
        var sequence: Int32 = 0
        while try await log.refusal(batch([large], producer: 1, sequence: sequence)) == nil { sequence += 1 }
        #expect(try await log.refusal(batch([large], producer: 1, sequence: sequence)) == .diskFull)
        #expect(try await log.refusal(batch([large], producer: 1, sequence: sequence + 1)) == .outOfOrderSequence)
        try #require(ftruncate(filler, 0) == 0)
        close(filler)
        #expect(try await log.outcome(batch([large], producer: 1, sequence: sequence)).get() == Int64(sequence))
        #expect(try await log.outcome(batch([large], producer: 1, sequence: sequence)).get() == Int64(sequence))
        await log.close()
    }
}
