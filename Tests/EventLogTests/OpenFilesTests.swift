// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import Glibc
import KafkaCodec
import Testing

/// How many files partitions keep open.
@Suite(.timeLimit(.minutes(5)))
struct OpenFilesTests {
    /// How many files below a directory this process has open.
    private static func open(below directory: TemporaryDirectory) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { number in
            var target = [CChar](repeating: 0, count: 4096)
            let count = readlink("/proc/self/fd/\(number)", &target, target.count - 1)
            guard count > 0 else { return false }
            return String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
                .hasPrefix(directory.path + "/log/topics/")
        }
    }

    private static func id(_ number: Int) -> TopicPartition { TopicPartition(topic: "t", partition: Int32(number)) }

    private static func settings(_ openFilesMax: Int, recentBytesMax: Int = 0) -> LocalLogSettings {
        LocalLogSettings(writerThreads: 2, recentBytesMax: recentBytesMax, openFilesMax: openFilesMax)
    }

    @Test func nothingIsOpenThatNobodyUses() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 50, settings: TopicSettings())
            #expect(try Self.open(below: directory) == 0)
            for number in 0..<50 { _ = try await log.append(batch(["a \(number)"]), to: Self.id(number)) }
            #expect(try Self.open(below: directory) == 50)
            // Used since it was last looked at, then not used.
            await log.maintain()
            #expect(try Self.open(below: directory) == 50)
            for number in 0..<10 { _ = try await log.append(batch(["b \(number)"]), to: Self.id(number)) }
            await log.maintain()
            #expect(try Self.open(below: directory) == 10)
            await log.maintain()
            #expect(try Self.open(below: directory) == 0)
            for number in 0..<50 {
                _ = try await log.append(batch(["c"]), to: Self.id(number))
                let expected = number < 10 ? ["a \(number)", "b \(number)", "c"] : ["a \(number)", "c"]
                #expect(try await readAll(log, Self.id(number)).map(\.text) == expected)
            }
        }
        try await withLog(directory) { log async throws in
            #expect(try Self.open(below: directory) == 0)
            #expect(try await readAll(log, Self.id(0)).map(\.text) == ["a 0", "b 0", "c"])
            #expect(try Self.open(below: directory) == 1)
            let found = try await log.offset(Self.id(1), atOrAfter: 0)
            #expect(found?.offset == 0)
            #expect(try Self.open(below: directory) == 2)
            #expect(try await log.verify() == [])
        }
    }

    @Test(arguments: [TopicSettings.Durability.onDisk, .powerFailureLosesLastSecond])
    func fewFilesServeManyPartitions(_ durability: TopicSettings.Durability) async throws {
        let directory = try TemporaryDirectory()
        let count = 60
        try await withLog(directory, settings: Self.settings(8)) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 1024, durability: durability)
            try await log.createTopic("t", partitions: Int32(count), settings: settings)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for part in 0..<6 {
                    group.addTask {
                        for round in 0..<20 {
                            for number in stride(from: part, to: count, by: 6) {
                                _ = try await log.append(
                                    batch(["\(round) " + String(repeating: "x", count: 100)]),
                                    to: Self.id(number)
                                )
                            }
                        }
                    }
                }
                for part in 0..<3 {
                    group.addTask {
                        for number in stride(from: part, to: count, by: 3) {
                            var next: Int64 = 0
                            while next < 20 {
                                let found = try await log.read(
                                    Self.id(number),
                                    from: next,
                                    bytesMax: 300,
                                    wait: .seconds(60)
                                )
                                for record in try RecordBatches.records(in: found.bytes, from: next) {
                                    #expect(record.text.hasPrefix("\(record.offset) "))
                                }
                                next = found.nextOffset
                            }
                        }
                    }
                }
                group.addTask { for _ in 0..<20 { await log.maintain() } }
                try await group.waitForAll()
            }
            await log.maintain()
            await log.maintain()
            await log.maintain()
            #expect(try Self.open(below: directory) <= 8)
            for number in 0..<count {
                #expect(try await readAll(log, Self.id(number)).map(\.offset) == Array(0..<20))
            }
            #expect(try Self.open(below: directory) <= 8)
            #expect(try await log.verify() == [])
            #expect(log.damage() == [])
        }
        try await withLog(directory) { log async throws in
            for number in 0..<count {
                #expect(try await readAll(log, Self.id(number)).map(\.offset) == Array(0..<20))
            }
            #expect(log.damage() == [])
        }
    }

    @Test func whatHasToBeFlushedStaysOpen() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        var settings = disk.settings
        settings.openFilesMax = 2
        settings.writerThreads = 1
        try await withLog(directory, settings: settings) { log async throws in
            let relaxed = TopicSettings(durability: .powerFailureLosesLastSecond)
            try await log.createTopic("t", partitions: 10, settings: relaxed)
            let before = disk.flushes
            for number in 0..<10 { _ = try await log.append(batch(["a"]), to: Self.id(number)) }
            #expect(disk.flushes == before)
            #expect(try Self.open(below: directory) == 10, "none is closed before it is flushed")
            await log.maintain()
            #expect(disk.flushes == before + 10)
            await log.maintain()
            await log.maintain()
            #expect(try Self.open(below: directory) == 0)
            #expect(disk.flushes == before + 10, "nothing is flushed twice")
        }
    }

    @Test func filesThatAreBeingSentAreCounted() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory, settings: Self.settings(8)) { log async throws in
            try await log.createTopic("t", partitions: 10, settings: TopicSettings())
            for number in 0..<10 { _ = try await log.append(batch(["a \(number)"]), to: Self.id(number)) }
            var ranges: [RecordRange] = []
            for number in 0..<4 {
                #expect(log.lendsFiles)
                ranges.append(
                    try await log.readRange(Self.id(number), from: 0, bytesMax: 1000, isolation: .committed)
                )
            }
            #expect(!log.lendsFiles)
            await log.maintain()
            await log.maintain()
            await log.maintain()
            #expect(try Self.open(below: directory) == 4, "who sends them holds them")
            for (number, range) in ranges.enumerated() {
                guard case .file(let file) = range.content else { throw EventLogError(.inputOutput, "no file") }
                #expect(try RecordBatches.records(in: file.read()).map(\.text) == ["a \(number)"])
            }
            ranges.removeAll()
            #expect(log.lendsFiles)
            #expect(try Self.open(below: directory) == 0)
        }
    }

    @Test func aChangeOfNamesIsDoneOrNotWhateverFilesAreLeft() throws {
        let directory = try TemporaryDirectory()
        let writer = try CrashWriter.run([directory.path, "0", "descriptors"], killingAfterMilliseconds: nil)
        let lines = writer.lines
        let deletions = lines.filter { $0.first == "deleted" }
        #expect(deletions.count == 5)
        for line in deletions { #expect(line[2] == line[3], "known and there: \(line)") }
        #expect(deletions.last?[2] == "false")
        // The file is written anew where there are enough, and goes on being written where not.
        #expect(lines.filter { $0.first == "stored" }.map { $0[2] } == Array(repeating: "true", count: 5))
    }

    @Test func aFileThatWasTakenAwayIsNotWrittenTo() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 2, settings: TopicSettings())
            let first = "log/topics/t/0/" + String(repeating: "0", count: 20) + ".log"
            try directory.remove(first)
            #expect(try await log.refusal(batch(["a"])) == .inputOutput)
            #expect(try await log.outcome(batch(["a"]), Self.id(1)).get() == 0)
            try directory.write([], to: first)
            #expect(try await log.outcome(batch(["a"])).get() == 0, "and is taken up again when it is back")
        }
    }
}
