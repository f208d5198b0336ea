// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

/// What stays true of housekeeping where something in a partition's folder is not as it should be.
@Suite(.timeLimit(.minutes(5)))
struct HousekeepingTests {
    private static func settings(bytes: Int64?, milliseconds: Int64?) -> TopicSettings {
        TopicSettings(
            retentionMilliseconds: milliseconds,
            retentionBytes: bytes,
            segmentBytes: 1024,
            compaction: TopicSettings.Compaction(alsoDeletes: true, dirtyRatio: 0)
        )
    }

    private static func fill(_ log: LocalLog, _ id: TopicPartition, at timestamp: Int64, count: Int = 20) async throws {
        let padding = String(repeating: "x", count: 200)
        for number in 0..<count {
            let record = record("\(number)" + padding, at: timestamp, key: "key \(number)")
            _ = try await log.append(RecordBatchEncoder.encode([record]), to: id)
        }
    }

    @Test(arguments: [(Int64(2000), nil), (nil, Int64(10_000))] as [(Int64?, Int64?)])
    func retentionGoesOnWhereCompactionWasGivenUpForDamage(_ limits: (bytes: Int64?, milliseconds: Int64?)) async throws
    {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(bytes: nil, milliseconds: nil))
            try await Self.fill(log, p0, at: disk.now)
        }
        // In the middle of the second segment.
        let folder = "log/topics/t/0/"
        let name = try #require(try directory.names(in: folder).filter { $0.hasSuffix(".log") }.dropFirst().first)
        var bytes = try directory.read(folder + name)
        bytes[bytes.count / 2] ^= 0xFF
        try directory.write(bytes, to: folder + name)
        try await withLog(directory, settings: disk.settings) { log async throws in
            await log.compact()
            #expect(log.compactions.rounds == 0, "it met the damage")
            let settings = Self.settings(bytes: limits.bytes, milliseconds: limits.milliseconds)
            try await log.updateTopic("t", settings: settings)
            disk.advance(by: 100_000)
            await log.maintain()
            await log.maintain()
            let bounds = try log.bounds(p0)
            #expect(bounds.start > 8, "the damaged segment and those around it are gone")
            #expect(!(try directory.names(in: folder)).contains(name))
            #expect(bounds.end == 20)
            _ = try await log.append(RecordBatchEncoder.encode([record("new", at: disk.now, key: "new")]), to: p0)
            #expect(try await readAll(log, p0, from: bounds.start).last?.text == "new")
        }
    }

    @Test func retentionGoesOnWhereAReplacementCouldNotBePutInPlace() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let folder = "log/topics/t/0/"
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(bytes: nil, milliseconds: 10_000))
            for _ in 0..<3 { try await Self.fill(log, p0, at: disk.now) }
            // A folder that has things in it, under the name that the new file is to get.
            let index = folder + String(repeating: "0", count: 20) + ".index"
            if try directory.names(in: folder).contains(String(index.dropFirst(folder.count))) {
                try directory.remove(index)
            }
            try directory.makeFolder(index)
            try directory.write([1], to: index + "/in the way")
            await log.compact()
            let size = try #require(log.sizes()[p0])
            await log.compact()
            #expect(log.sizes()[p0] == size, "it is not tried again")
            #expect(try await readAll(log, p0).count == 60, "everything is there")
            try directory.remove(index)
            disk.advance(by: 100_000)
            await log.maintain()
            await log.maintain()
            #expect(try log.bounds(p0) == (60, 60, 60))
        }
    }

    @Test func oneFolderThatCannotBeKeptInOrderDoesNotConcernTheOthers() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: 10_000, segmentBytes: 1024)
            for number in 0..<20 {
                let id = TopicPartition(topic: "t\(number)", partition: 0)
                try await log.createTopic(id.topic, partitions: 1, settings: settings)
                // Of the far future, so that the time of the file counts.
                try await Self.fill(log, id, at: disk.now + 100_000_000_000_000)
            }
            // Somebody has taken away files, and put what cannot be deleted in the place of another.
            let first = String(repeating: "0", count: 20)
            try directory.remove("log/topics/t7/0/\(first).log")
            try directory.remove("log/topics/t8/0/\(first).log")
            try directory.makeFolder("log/topics/t8/0/\(first).log")
            try directory.write([1], to: "log/topics/t8/0/\(first).log/in the way")
            // Files have the time of the machine's clock: from here on they are old.
            // A producer's batch, and something under the name that what is known of the producer is to be kept under.
            let t9 = TopicPartition(topic: "t9", partition: 0)
            _ = try await log.append(batch(["one"], producer: 7, sequence: 0), to: t9)
            let snapshot = "log/topics/t9/0/" + String(repeating: "0", count: 18) + "21.producers"
            try directory.makeFolder(snapshot)
            try directory.write([1], to: snapshot + "/in the way")
            #expect(try await log.deleteRecords(TopicPartition(topic: "t1", partition: 0), before: 5) == 5)
            disk.advance(by: 10_000_000_000_000)
            await log.maintain()
            await log.maintain()
            for number in 0..<20 where number != 8 {
                let bounds = try log.bounds(TopicPartition(topic: "t\(number)", partition: 0))
                #expect(bounds.start > 0, "t\(number)")
            }
        }
    }

    @Test(arguments: [true, false])
    func aTransactionWhoseMarkerIsGoneDoesNotHoldReadersBack(isCompacted: Bool) async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let folder = "log/topics/t/0/"
        let compaction = TopicSettings.Compaction(dirtyRatio: 0, deleteRetentionMilliseconds: 60_000)
        let settings = TopicSettings(
            retentionMilliseconds: nil,
            retentionBytes: isCompacted ? nil : 2000,
            segmentBytes: 1024,
            compaction: isCompacted ? compaction : nil
        )
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: settings)
            let first = RecordBatchEncoder.encode(
                [record("one", key: "a")],
                producerID: 7,
                producerEpoch: 0,
                baseSequence: 0,
                isTransactional: true
            )
            _ = try await log.append(first, to: p0)
            // The older snapshot of producers: the transaction is open.
            await log.maintain()
            #expect(try log.bounds(p0).stable == 0)
            _ = try await log.writeMarker(p0, producerID: 7, epoch: 0, coordinatorEpoch: 0, commit: true)
            try await Self.fill(log, p0, at: disk.now)
            if isCompacted {
                await log.compact()
                disk.advance(by: 61_000)
                await log.compact()
            } else {
                await log.maintain()
                #expect(try log.bounds(p0).start > 2)
            }
            #expect(try log.bounds(p0).stable == 22)
        }
        let snapshots = try directory.names(in: folder).filter { $0.hasSuffix(".producers") }
        try #require(snapshots.count == 2)
        var newest = try directory.read(folder + snapshots[1])
        newest[newest.count / 2] ^= 0xFF
        try directory.write(newest, to: folder + snapshots[1])
        for _ in 0..<2 {
            try await withLog(directory, settings: disk.settings) { log async throws in
                let bounds = try log.bounds(p0)
                #expect(bounds.stable == bounds.end)
                #expect(try log.producers(p0).allSatisfy { $0.transactionStart == nil })
                #expect(try await readAll(log, p0, from: bounds.start).last?.offset == 21)
            }
        }
        // What the producer sends next is still known.
        try await withLog(directory, settings: disk.settings) { log async throws in
            let next = batch(["two"], producer: 7, sequence: 1, isTransactional: true)
            if !isCompacted { #expect(try await log.refusal(next) == nil) }
            let open = try log.bounds(p0)
            if !isCompacted { #expect(open.stable == 22 && open.end == 23) }
        }
    }

    @Test func aProgressOfCompactionBeyondTheEndCountsForNothingThatComesLater() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let settings = TopicSettings(
            retentionMilliseconds: nil,
            segmentBytes: 1024,
            compaction: TopicSettings.Compaction(dirtyRatio: 0)
        )
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: settings)
        }
        // Records were restored from an older copy, the file beside them not.
        let progress = #"{"version":1,"end":10,"horizons":[{"end":10,"at":1}],"leftovers":0}"#
        try directory.write(Array(progress.utf8), to: "log/topics/t/0/compaction")
        try await withLog(directory, settings: disk.settings) { log async throws in
            let open = RecordBatchEncoder.encode(
                [record("open", key: "open")],
                producerID: 7,
                producerEpoch: 0,
                baseSequence: 0,
                isTransactional: true
            )
            _ = try await log.append(open, to: p0)
            try await Self.fill(log, p0, at: disk.now)
        }
        for name in try directory.names(in: "log/topics/t/0").filter({ $0.hasSuffix(".producers") }) {
            try directory.remove("log/topics/t/0/" + name)
        }
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(try log.bounds(p0).stable == 0, "what nobody has ended is not shown")
        }
    }
}
