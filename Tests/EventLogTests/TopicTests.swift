// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct TopicTests {
    @Test func keepsSettingsAndPartitions() async throws {
        let directory = try TemporaryDirectory()
        let settings = TopicSettings(retentionMilliseconds: 5, retentionBytes: 6, segmentBytes: 2048)
        try await withLog(directory) { log async throws in
            try await log.createTopic("a.b_c-1", partitions: 3, settings: settings)
            try await log.createTopic("__internal", partitions: 1, settings: TopicSettings())
            #expect(
                await errorCode { try await log.createTopic("a.b_c-1", partitions: 1, settings: settings) }
                    == .topicExists
            )
        }
        try await withLog(directory) { log async throws in
            #expect(log.topics().map(\.name) == ["__internal", "a.b_c-1"])
            #expect(log.topics().map(\.isInternal) == [true, false])
            #expect(log.topic("a.b_c-1")?.settings == settings)
            #expect(log.topic("a.b_c-1")?.partitions == 3)
            try await log.updateTopic("a.b_c-1", settings: TopicSettings(), partitions: 5)
            let last = TopicPartition(topic: "a.b_c-1", partition: 4)
            #expect(try await log.append(batch(["x"]), to: last).baseOffset == 0)
            #expect(
                await errorCode { try await log.updateTopic("a.b_c-1", settings: settings, partitions: 2) }
                    == .invalidSettings
            )
        }
        try await withLog(directory) { log async throws in
            #expect(log.topic("a.b_c-1")?.partitions == 5)
            #expect(try await readAll(log, TopicPartition(topic: "a.b_c-1", partition: 4)).count == 1)
        }
    }

    @Test(arguments: ["", ".", "..", "a/b", "ä", "a b", "~x", String(repeating: "x", count: 250)])
    func refusesBadNames(name: String) async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let code = await errorCode { try await log.createTopic(name, partitions: 1, settings: TopicSettings()) }
            #expect(code == .invalidTopicName)
        }
    }

    @Test(arguments: [
        TopicSettings(retentionMilliseconds: -1), TopicSettings(retentionBytes: -1), TopicSettings(segmentBytes: 1),
        TopicSettings(segmentBytes: .max), TopicSettings(segmentMilliseconds: 0), TopicSettings(messageBytesMax: 1),
    ])
    func refusesBadSettings(settings: TopicSettings) async throws {
        let directory = try TemporaryDirectory()
        let log = try await LocalLog.open(directory: directory.path, logger: quietLogger)
        let code = await errorCode { try await log.createTopic("t", partitions: 1, settings: settings) }
        #expect(code == .invalidSettings)
        let none = await errorCode { try await log.createTopic("t", partitions: 0, settings: TopicSettings()) }
        #expect(none == .invalidSettings)
        await log.close()
    }

    @Test func deletesATopicWithItsOffsets() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            _ = try await log.append(batch(["a"]), to: p0)
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 1, committedAt: 0)])
            async let waiting = errorCode { _ = try await log.read(p0, from: 1, bytesMax: 10, wait: .seconds(30)) }
            try await log.deleteTopic("t")
            #expect(await waiting == .unknownTopic)
            #expect(await errorCode { _ = try await log.read(p0, from: 0, bytesMax: 10) } == .unknownTopic)
            #expect(await errorCode { _ = try await log.append(batch(["a"]), to: p0) } == .unknownTopic)
            #expect(await errorCode { try await log.deleteTopic("t") } == .unknownTopic)
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            #expect(log.committed(group: "g").isEmpty)
            #expect(try log.bounds(p0) == (0, 0, 0))
        }
        #expect(try directory.names(in: "log/topics") == ["t"])
    }

    @Test func refusesWhatDoesNotExist() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 2, settings: TopicSettings())
            for number: Int32 in [-1, 2, .max] {
                let id = TopicPartition(topic: "t", partition: number)
                #expect(await errorCode { _ = try await log.append(batch(["a"]), to: id) } == .unknownPartition)
            }
            #expect(await errorCode { _ = try await log.read(p0, from: 1, bytesMax: 1) } == .offsetOutOfRange)
            #expect(await errorCode { _ = try await log.read(p0, from: -1, bytesMax: 1) } == .offsetOutOfRange)
        }
        let log = try await LocalLog.open(directory: directory.path, logger: quietLogger)
        await log.close()
        await log.close()
        #expect(await errorCode { _ = try await log.append(batch(["a"]), to: p0) } == .closed)
        #expect(await errorCode { try await log.createTopic("u", partitions: 1, settings: TopicSettings()) } == .closed)
        #expect(await errorCode { try await log.deleteGroup("g") } == .closed)
    }

    @Test func refusesMalformedBatches() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(messageBytesMax: 500))
            let good = batch(["abc", "def"])
            for position in 0..<good.count where !(0..<8).contains(position) && !(12..<16).contains(position) {
                var flipped = good
                flipped[position] ^= 0x40
                let bad = flipped
                let code = await errorCode { _ = try await log.append(bad, to: p0) }
                // Length and magic say what the bytes are; the checksum covers everything behind itself.
                let isDescribing = (8..<12).contains(position) || position == 16
                #expect(code == (isDescribing ? .invalidRecord : .corruptBatch), "byte \(position)")
            }
            #expect(await errorCode { _ = try await log.append([], to: p0) } == .invalidRecord)
            #expect(await errorCode { _ = try await log.append(good + [0], to: p0) } == .invalidRecord)
            #expect(await errorCode { _ = try await log.append(good + good, to: p0) } == .invalidRecord)
            let large = batch([String(repeating: "x", count: 500)])
            #expect(await errorCode { _ = try await log.append(large, to: p0) } == .messageTooLarge)
            #expect(try log.bounds(p0) == (0, 0, 0))
        }
    }

    @Test func letsOneProcessOwnADirectory() throws {
        let directory = try TemporaryDirectory()
        let lock = try DataDirectoryLock(directory: directory.path)
        do throws(EventLogError) {
            _ = try DataDirectoryLock(directory: directory.path)
            Issue.record("two owners")
        } catch {
            #expect(error.code == .dataDirectoryInUse)
            #expect(error.message.contains(directory.path))
            let owner = String(decoding: try directory.read("martlet.lock"), as: UTF8.self)
            #expect(error.message.contains("process \(owner.prefix { $0.isNumber })"))
        }
        lock.release()
        _ = try DataDirectoryLock(directory: directory.path)
    }

    @Test func waitsWhileAChildOfADeadOwnerHoldsTheDirectory() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/martlet.lock"
        let child = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        try #require(child >= 0)
        defer { close(child) }
        // A process id above the kernel's limit belongs to nobody.
        let owner = Array("2147483647\n".utf8)
        try #require(write(child, owner, owner.count) == owner.count)
        try #require(flock(child, LOCK_EX | LOCK_NB) == 0)
        do throws(EventLogError) {
            _ = try DataDirectoryLock(directory: directory.path)
            Issue.record("two owners")
        } catch {
            #expect(error.message.contains("process 2147483647"))
        }
        let thread = Thread {
            usleep(100_000)
            flock(child, LOCK_UN)
        }
        thread.start()
        let lock = try DataDirectoryLock(directory: directory.path)
        #expect(try directory.read("martlet.lock") == Array("\(getpid())\n".utf8))
        lock.release()
    }
}
