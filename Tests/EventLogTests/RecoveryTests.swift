// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct RecoveryTests {
    static let segment = "log/topics/t/0/00000000000000000000.log"

    /// A log with three batches, as a killed process would leave it.
    static func threeBatches() async throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        return try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let batches = [["a", "b"], ["c"], ["d", "e", "f"]].map { batch($0) }
            for batch in batches { _ = try await log.append(batch, to: p0) }
            let killed = try directory.snapshot()
            // Without what is reserved behind them, so that the tests know where the file ends.
            try killed.write(Array(killed.read(segment)[..<batches.reduce(0) { $0 + $1.count }]), to: segment)
            return killed
        }
    }

    /// A log with 60 batches of one record over several segments; killed, or closed when `closing`.
    static func manySegments(closing: Bool) async throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        let killed = try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings(segmentBytes: 1024))
            for number in 0..<60 { _ = try await log.append(batch(["value \(number)"]), to: p0) }
            return try directory.snapshot()
        }
        return closing ? directory : killed
    }

    @Test func cutsATornTailAtEveryByteOfTheLastBatch() async throws {
        let killed = try await Self.threeBatches()
        let whole = try killed.read(Self.segment)
        let tail = batch(["d", "e", "f"]).count
        for length in whole.count - tail..<whole.count {
            try killed.write(Array(whole[..<length]), to: Self.segment)
            let copy = try killed.snapshot()
            try await withLog(copy) { log async throws in
                #expect(try await readAll(log, p0).map(\.text) == ["a", "b", "c"], "cut to \(length)")
                #expect(log.damage().isEmpty, "cut to \(length)")
                #expect(try await log.append(batch(["g"]), to: p0).baseOffset == 3)
            }
        }
    }

    @Test(arguments: [1, 16, 61, 5000]) func cutsATailOfZeros(count: Int) async throws {
        let killed = try await Self.threeBatches()
        let whole = try killed.read(Self.segment)
        try killed.write(whole + [UInt8](repeating: 0, count: count), to: Self.segment)
        try await withLog(killed) { log async throws in
            #expect(try await readAll(log, p0).map(\.text) == ["a", "b", "c", "d", "e", "f"])
            #expect(log.damage().isEmpty)
        }
        #expect(try killed.read(Self.segment) == whole)
    }

    @Test func givesBackReservedRoom() async throws {
        let directory = try TemporaryDirectory()
        let batches = [["a", "b"], ["c"]].map { batch($0) }
        let size = batches.reduce(0) { $0 + $1.count }
        let killed = try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            for batch in batches { _ = try await log.append(batch, to: p0) }
            return try directory.snapshot()
        }
        #expect(try directory.read(Self.segment).count == size, "a stop gives it back")
        #expect(try killed.read(Self.segment).count > size, "a kill does not")
        try await withLog(killed) { log async throws in
            #expect(try killed.read(Self.segment).count == size)
            #expect(try await readAll(log, p0).map(\.text) == ["a", "b", "c"])
            #expect(log.damage().isEmpty)
            #expect(try await log.append(batch(["d"]), to: p0).baseOffset == 3)
        }
    }

    @Test func closedSegmentsEndWithTheirLastBatch() async throws {
        let directory = try await Self.manySegments(closing: true)
        let whole = try directory.read(Self.segment)
        // As a crash of the machine may leave it: the room was given back, but the disk does not know yet.
        try directory.write(whole + [UInt8](repeating: 0, count: 5000), to: Self.segment)
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).count == 60)
            #expect(log.damage().isEmpty)
        }
        #expect(try directory.read(Self.segment) == whole)
    }

    @Test func survivesAFlipOfAnyByteOfAMiddleBatch() async throws {
        let killed = try await Self.threeBatches()
        let whole = try killed.read(Self.segment)
        let first = batch(["a", "b"]).count
        let middle = batch(["c"]).count
        for position in first..<first + middle {
            var flipped = whole
            flipped[position] ^= 0x11
            try killed.write(flipped, to: Self.segment)
            let copy = try killed.snapshot()
            try await withLog(copy) { log async throws in
                let (records, skipped) = try await readAllSkippingDamage(log, p0)
                let texts = records.map(\.text)
                // The leader epoch is the log's own and not covered by the checksum.
                if (12..<16).contains(position - first) {
                    #expect(texts == ["a", "b", "c", "d", "e", "f"])
                } else {
                    #expect(texts == ["a", "b", "d", "e", "f"], "byte \(position - first)")
                    #expect(skipped == [2..<3], "byte \(position - first)")
                    let report = try #require(log.damage().first)
                    #expect((report.topic, report.partition, report.offsets) == ("t", 0, 2..<3))
                    #expect(report.file.hasSuffix("00000000000000000000.log"))
                    #expect(report.bytes == Int64(first)..<Int64(first + middle))
                }
                #expect(try await log.append(batch(["g"]), to: p0).baseOffset == 6)
            }
            #expect(try Array(copy.read(Self.segment)[..<flipped.count]) == flipped, "nothing may be deleted")
        }
    }

    @Test(arguments: [true, false]) func reportsAFlipInASealedSegment(closing: Bool) async throws {
        let directory = try await Self.manySegments(closing: closing)
        let logs = try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".log") }
        let name = "log/topics/t/0/\(logs[2])"
        let base = try #require(Int64(logs[2].dropLast(4)))
        var bytes = try directory.read(name)
        bytes[bytes.count / 2] ^= 0x80
        try directory.write(bytes, to: name)
        try await withLog(directory) { log async throws in
            let found = try await log.verify()
            let report = try #require(found.first)
            #expect(found.count == 1)
            #expect(report.offsets.count == 1)
            #expect(report.offsets.lowerBound > base)
            #expect(report.file.hasSuffix(logs[2]))
            let (records, skipped) = try await readAllSkippingDamage(log, p0)
            #expect(skipped == [report.offsets])
            #expect(records.map(\.offset) == (0..<60).filter { !report.offsets.contains($0) })
            let bad = report.offsets.lowerBound
            #expect(await errorCode { _ = try await log.read(p0, from: bad, bytesMax: 100) } == .damaged)
            #expect(try await log.append(batch(["x"]), to: p0).baseOffset == 60)
        }
        #expect(try directory.read(name) == bytes)
    }

    @Test func findsDamageByReadingAlone() async throws {
        let directory = try await Self.manySegments(closing: true)
        let logs = try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".log") }
        var bytes = try directory.read("log/topics/t/0/\(logs[1])")
        bytes[8] = 0x7F
        try directory.write(bytes, to: "log/topics/t/0/\(logs[1])")
        let base = try #require(Int64(logs[1].dropLast(4)))
        try await withLog(directory) { log async throws in
            #expect(log.damage().isEmpty)
            let (records, skipped) = try await readAllSkippingDamage(log, p0, bytesMax: 300)
            #expect(skipped == [base..<base + 1])
            #expect(records.count == 59)
            #expect(log.damage().map(\.offsets) == [base..<base + 1])
        }
    }

    @Test func keepsOffsetsMonotoneWhenFlushedBytesAreGone() async throws {
        let directory = try await Self.manySegments(closing: true)
        let last = try #require(try directory.names(in: "log/topics/t/0").last { $0.hasSuffix(".log") })
        let base = try #require(Int64(last.dropLast(4)))
        let bytes = try directory.read("log/topics/t/0/\(last)")
        try directory.write(Array(bytes[..<10]), to: "log/topics/t/0/\(last)")
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.offsets) == [base..<60])
            #expect(try await log.append(batch(["x"]), to: p0).baseOffset == 60)
            let (records, skipped) = try await readAllSkippingDamage(log, p0)
            #expect(skipped == [base..<60])
            #expect(records.map(\.offset) == Array(0..<base) + [60])
        }
        #expect(try directory.read("log/topics/t/0/\(last)") == Array(bytes[..<10]))
        try await withLog(directory) { log async throws in
            #expect(try await readAllSkippingDamage(log, p0).skipped == [base..<60])
            #expect(try await log.append(batch(["y"]), to: p0).baseOffset == 61)
        }
    }

    @Test func reportsAMissingSegment() async throws {
        let directory = try await Self.manySegments(closing: true)
        let logs = try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".log") }
        let from = try #require(Int64(logs[2].dropLast(4)))
        let to = try #require(Int64(logs[3].dropLast(4)))
        try directory.remove("log/topics/t/0/\(logs[2])")
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.offsets) == [from..<to])
            let (records, skipped) = try await readAllSkippingDamage(log, p0)
            #expect(skipped == [from..<to])
            #expect(records.count == 60 - Int(to - from))
        }
    }

    @Test(arguments: [".index", ".timeindex"], [true, false])
    func rebuildsIndexes(suffix: String, deleting: Bool) async throws {
        let directory = try await Self.manySegments(closing: true)
        for name in try directory.names(in: "log/topics/t/0") where name.hasSuffix(suffix) {
            let path = "log/topics/t/0/\(name)"
            if deleting {
                try directory.remove(path)
            } else {
                var bytes = try directory.read(path)
                bytes[bytes.count - 1] ^= 1
                try directory.write(bytes, to: path)
            }
        }
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).map(\.offset) == Array(0..<60))
            #expect(log.damage().isEmpty)
        }
    }

    @Test func doesWithoutACheckpoint() async throws {
        let directory = try await Self.manySegments(closing: true)
        try directory.write([1, 2, 3], to: "log/checkpoint")
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).map(\.offset) == Array(0..<60))
            #expect(log.damage().count == 1)
        }
        try directory.remove("log/checkpoint")
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).map(\.offset) == Array(0..<60))
            #expect(log.damage().isEmpty)
        }
    }

    @Test func trustsNoFlippedCheckpoint() async throws {
        let directory = try await Self.manySegments(closing: true)
        let bytes = try directory.read("log/checkpoint")
        for position in bytes.indices {
            var flipped = bytes
            flipped[position] ^= 4
            try directory.write(flipped, to: "log/checkpoint")
            try await withLog(directory) { log async throws in
                #expect(try log.bounds(p0) == (0, 60, 60), "byte \(position)")
                #expect(log.damage().map(\.file).allSatisfy { $0.hasSuffix("checkpoint") })
                #expect(log.damage().count == 1, "byte \(position)")
            }
        }
    }

    @Test func usesTheCopyOfATopicFile() async throws {
        let directory = try await Self.manySegments(closing: true)
        try directory.write([0x7B], to: "log/topics/t/topic.json")
        try await withLog(directory) { log async throws in
            #expect(log.topic("t")?.settings.segmentBytes == 1024)
            #expect(log.damage().count == 1)
        }
        try await withLog(directory) { log async throws in #expect(log.damage().isEmpty) }
    }

    @Test func opensATopicWhoseSettingsAreLostWithoutRetention() async throws {
        let directory = try await Self.manySegments(closing: true)
        try directory.remove("log/topics/t/topic.json")
        try directory.write([0], to: "log/topics/t/topic.copy.json")
        try await withLog(directory) { log async throws in
            #expect(log.topic("t")?.settings.retentionMilliseconds == nil)
            #expect(try await readAll(log, p0).count == 60)
            #expect(log.damage().count == 1)
        }
    }

    @Test func passesOverWhatIsNoTopic() async throws {
        let directory = try await Self.threeBatches()
        try directory.write([1], to: "log/topics/stray")
        try directory.write([1], to: "log/topics/t/0/notes.txt")
        try FileManager.default.createDirectory(
            atPath: directory.path + "/log/topics/~new~u/0",
            withIntermediateDirectories: true
        )
        try await withLog(directory) { log async throws in
            #expect(log.topics().map(\.name) == ["t"])
            #expect(try await readAll(log, p0).count == 6)
            #expect(log.damage().isEmpty)
        }
        #expect(try directory.names(in: "log/topics") == ["stray", "t"])
        #expect(try directory.read("log/topics/t/0/notes.txt") == [1])
    }

    @Test func refusesFilesOfANewerVersion() async throws {
        let directory = try await Self.manySegments(closing: true)
        try directory.write(Array(#"{"version":99}"#.utf8), to: "log/topics/t/topic.json")
        #expect(await errorCode { try await withLog(directory) { _ in } } == .unsupportedFormat)
    }
}
