// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)))
struct DurabilityTests {
    @Test func flushesBeforeItAcknowledges() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            for number in 1...5 {
                _ = try await log.append(batch(["a"]), to: p0)
                #expect(disk.flushes == number)
            }
        }
    }

    @Test func flushesConcurrentAppendsTogether() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<500 { group.addTask { _ = try await log.append(batch(["\(number)"]), to: p0) } }
                try await group.waitForAll()
            }
            #expect(disk.flushes < 250)
            #expect(Set(try await readAll(log, p0).map(\.text)) == Set((0..<500).map { "\($0)" }))
            for offset: Int64 in [1, 17, 250, 499] {
                #expect(try await readAll(log, p0, from: offset).map(\.offset) == Array(offset..<500))
            }
        }
    }

    @Test func stopsAPartitionWhoseFlushFails() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let told = Mutex<[TopicPartition]>([])
        var settings = disk.settings
        settings.onPartitionStopped = { partition, reason in
            if reason.contains("flushing failed") { told.withLock { $0.append(partition) } }
        }
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 2, settings: TopicSettings())
            let other = TopicPartition(topic: "t", partition: 1)
            _ = try await log.append(batch(["kept"]), to: p0)
            disk.fail(with: EIO)
            #expect(await errorCode { _ = try await log.append(batch(["lost"]), to: p0) } == .partitionStopped)
            disk.fail(with: 0)
            let before = disk.flushes
            #expect(await errorCode { _ = try await log.append(batch(["later"]), to: p0) } == .partitionStopped)
            #expect(disk.flushes == before, "a failed flush is not tried again")
            #expect(try await readAll(log, p0).map(\.text) == ["kept"])
            #expect(try await log.append(batch(["fine"]), to: other).baseOffset == 0)
        }
        #expect(told.withLock { $0 } == [p0], "it is told once")
        try await withLog(directory) { log async throws in
            // What was not acknowledged may have reached the disk nevertheless.
            #expect(try await readAll(log, p0).first?.text == "kept")
            _ = try await log.append(batch(["again"]), to: p0)
            #expect(try await readAll(log, p0).last?.text == "again")
        }
    }

    @Test func flushesWhatAKilledProcessLeft() async throws {
        let directory = try await RecoveryTests.threeBatches()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(try log.bounds(p0).end == 6)
            #expect(disk.flushes == 1)
        }
        try await withLog(directory, settings: disk.settings) { log async throws in
            #expect(try log.bounds(p0).end == 6)
            #expect(disk.flushes == 1, "nothing is left to flush after closing")
        }
    }

    @Test func relaxedTopicsFlushLater() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            let settings = TopicSettings(durability: .powerFailureLosesLastSecond)
            try await log.createTopic("t", partitions: 1, settings: settings)
            for _ in 0..<5 { _ = try await log.append(batch(["a"]), to: p0) }
            #expect(disk.flushes == 0)
            #expect(try await readAll(log, p0).count == 5)
            await log.maintain()
            #expect(disk.flushes == 1)
            await log.maintain()
            #expect(disk.flushes == 1)
        }
    }

    @Test func refusesMoreThanItCanHold() async throws {
        let directory = try TemporaryDirectory()
        var settings = LocalLogSettings(writerThreads: 1, pendingBytesMax: 2000)
        settings.synchronize = { descriptor in
            usleep(2000)
            return fdatasync(descriptor) == 0 ? 0 : errno
        }
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let codes = await withTaskGroup(of: EventLogError.Code?.self) { group in
                for _ in 0..<200 {
                    group.addTask { await errorCode { _ = try await log.append(batch(["a"]), to: p0) } }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(codes.contains(.overloaded))
            #expect(codes.allSatisfy { $0 == nil || $0 == .overloaded })
            #expect(try log.bounds(p0).end == Int64(codes.count { $0 == nil }))
        }
    }

    @Test func failsOnlyTheAppendWhenTheDiskIsFull() async throws {
        let directory = try TemporaryDirectory()
        let mountPoint = directory.path + "/small"
        mkdir(mountPoint, 0o755)
        guard mount("tmpfs", mountPoint, "tmpfs", 0, "size=600k") == 0 else {
            #expect(getenv("MARTLET_TEST_ALL") == nil, "a small file system cannot be mounted here (\(errno))")
            print("failsOnlyTheAppendWhenTheDiskIsFull: skipped, cannot mount a small file system (\(errno))")
            return
        }
        // MNT_DETACH: the log's files may still be open when the test ends.
        defer { umount2(mountPoint, 2) }
        let log = try await LocalLog.open(directory: mountPoint, logger: quietLogger)
        try await log.createTopic("t", partitions: 2, settings: TopicSettings(retentionMilliseconds: nil))
        let filler = open(mountPoint + "/filler", O_RDWR | O_CREAT, 0o600)
        try #require(posix_fallocate(filler, 0, 200_000) == 0)
        var count: Int64 = 0
        var failure: EventLogError.Code?
        while failure == nil {
            failure = await errorCode { _ = try await log.append(batch([String(repeating: "x", count: 5000)]), to: p0) }
            if failure == nil { count += 1 }
        }
        #expect(failure == .diskFull)
        #expect(count > 10)
        let one = batch([String(repeating: "x", count: 5000)]).count
        let stored = try directory.read("small/log/topics/t/0/00000000000000000000.log").count
        #expect(stored == Int(count) * one, "the log is cut back to its last whole batch")
        #expect(try await readAll(log, p0).map(\.offset) == Array(0..<count))
        let small = await errorCode { _ = try await log.append(batch([String(repeating: "x", count: 5000)]), to: p0) }
        #expect(small == .diskFull)
        try #require(ftruncate(filler, 0) == 0)
        close(filler)
        #expect(try await log.append(batch(["room"]), to: p0).baseOffset == count)
        #expect(try await log.append(batch(["other"]), to: TopicPartition(topic: "t", partition: 1)).baseOffset == 0)
        await log.close()
        let again = try await LocalLog.open(directory: mountPoint, logger: quietLogger)
        #expect(try await readAll(again, p0).count == Int(count) + 1)
        #expect(again.damage().isEmpty)
        await again.close()
    }
}
