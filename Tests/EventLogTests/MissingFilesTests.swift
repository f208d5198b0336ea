// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(5)))
struct MissingFilesTests {
    private static let folder = "log/topics/t/0"

    private static func logs(_ directory: TemporaryDirectory) throws -> [String] {
        try directory.names(in: folder).filter { $0.hasSuffix(".log") }
    }

    private static func base(_ name: String) throws -> Int64 { try #require(Int64(name.dropLast(4))) }

    @Test func reportsThatTheFirstSegmentIsMissing() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let logs = try Self.logs(directory)
        try directory.remove("\(Self.folder)/\(logs[0])")
        let next = try Self.base(logs[1])
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.offsets) == [0..<next])
            #expect(try log.bounds(p0).start == next)
            #expect(try await readAll(log, p0, from: next).count == Int(60 - next))
        }
        // Told once: the records are gone, and the log begins behind them.
        try await withLog(directory) { log in #expect(log.damage() == []) }
    }

    @Test func reportsThatTheLastSegmentAndTheCheckpointAreMissing() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let last = try #require(try Self.logs(directory).last)
        let base = try Self.base(last)
        try directory.remove("\(Self.folder)/\(last)")
        try directory.remove("log/checkpoint")
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.offsets) == [base..<60])
            #expect(try await log.append(batch(["new"]), to: p0).baseOffset == 60, "no offset is given twice")
        }
    }

    @Test(arguments: [false, true])
    func reportsThatAllSegmentsAreMissing(andTheCheckpoint: Bool) async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        try directory.remove(Self.folder)
        if andTheCheckpoint { try directory.remove("log/checkpoint") }
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.offsets) == [andTheCheckpoint ? 0..<0 : 0..<60])
            #expect(log.damage()[0].reason.contains("missing"))
        }
    }

    @Test func retentionIsNoDamageWhereverACrashComes() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic(
                "t",
                partitions: 1,
                settings: TopicSettings(retentionBytes: 4096, segmentBytes: 1024)
            )
            for number in 0..<60 { _ = try await log.append(batch(["value \(number)"]), to: p0) }
            let before = try directory.snapshot()
            await log.maintain()
            let killed = try directory.snapshot()
            let start = try Self.base(Self.logs(killed)[0])
            #expect(start > 0)
            try await withLog(killed) { again in #expect(again.damage() == []) }
            // The checkpoint was written, the files were not removed yet.
            try before.write(killed.read("log/checkpoint"), to: "log/checkpoint")
            try await withLog(before) { again async throws in
                #expect(again.damage() == [])
                #expect(try again.bounds(p0).start == start)
                await again.maintain()
            }
            #expect(try Self.base(Self.logs(before)[0]) == start)
        }
    }

    @Test func reportsThatTheOffsetsOfGroupsAreMissing() async throws {
        let directory = try TemporaryDirectory()
        let killed = try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 0, committedAt: 0)])
            return try directory.snapshot()
        }
        try killed.remove("log/groups/offsets.log")
        try await withLog(killed) { log async throws in
            #expect(log.damage().map { $0.file.hasSuffix("offsets.log") } == [true])
            #expect(log.damage()[0].reason.contains("missing"))
        }
        try directory.remove("log/groups")
        try await withLog(directory) { log in #expect(log.damage().count == 1) }
        // Told until something is written: a start that fails later on must not be the only one to know.
        try await withLog(directory) { log async throws in
            #expect(log.damage().count == 1)
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 0, committedAt: 0)])
        }
        try await withLog(directory) { log in #expect(log.damage() == []) }
    }

    /// What may happen to a closed segment that leaves no bytes to be found.
    enum Loss: String, CaseIterable, CustomTestStringConvertible {
        case gone, cut

        var testDescription: String { rawValue }

        /// Does it to the third segment; returns the offsets lost.
        func happen(in directory: TemporaryDirectory) throws -> Range<Int64> {
            let logs = try MissingFilesTests.logs(directory)
            let name = "\(MissingFilesTests.folder)/\(logs[2])"
            let (base, next) = (try MissingFilesTests.base(logs[2]), try MissingFilesTests.base(logs[3]))
            let bytes = try directory.read(name)
            let first = try RecordBatchHeader(parsing: bytes)
            switch self {
            case .gone: try directory.remove(name)
            case .cut: try directory.write(Array(bytes[..<first.batchByteCount]), to: name)
            }
            return self == .gone ? base..<next : first.nextOffset..<next
        }
    }

    @Test(arguments: Loss.allCases) func everyStartTellsOfAGapBetweenSegments(loss: Loss) async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let lost = try loss.happen(in: directory)
        for _ in 0..<3 {
            try await withLog(directory) { log async throws in
                #expect(log.damage().map(\.offsets) == [lost])
                // Which opens, and keeps, the indexes of what is read.
                #expect(try await readAllSkippingDamage(log, p0).skipped == [lost])
            }
        }
    }

    @Test func everyStartTellsWhatIsMissingInFrontOfANewSegment() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let last = try #require(try Self.logs(directory).last)
        let base = try Self.base(last)
        let bytes = try directory.read("\(Self.folder)/\(last)")
        try directory.write(Array(bytes[..<10]), to: "\(Self.folder)/\(last)")
        for _ in 0..<3 {
            try await withLog(directory) { log in #expect(log.damage().map(\.offsets) == [base..<60]) }
        }
    }

    @Test(arguments: Loss.allCases, [false, true])
    func compactionCoversNoGap(loss: Loss, indexKnows: Bool) async throws {
        let directory = try TemporaryDirectory()
        let compaction = TopicSettings.Compaction(dirtyRatio: 0)
        try await withLog(directory) { log async throws in
            let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 1024, compaction: compaction)
            try await log.createTopic("t", partitions: 1, settings: settings)
            for number in 0..<60 {
                _ = try await log.append(
                    RecordBatchEncoder.encode([record("value \(number)", key: "key \(number % 20)")]),
                    to: p0
                )
            }
        }
        let lost = try loss.happen(in: directory)
        try await withLog(directory) { log in #expect(log.damage().map(\.offsets) == [lost]) }
        if !indexKnows {
            // As engines stored it that did not note the gap.
            for name in try directory.names(in: Self.folder) where name.hasSuffix("index") {
                var bytes = try directory.read("\(Self.folder)/\(name)")
                bytes.replaceSubrange(6..<8, with: [0, 0])
                BigEndian.store(CRC32C.checksum(bytes, in: 0..<60), to: &bytes, at: 60)
                try directory.write(bytes, to: "\(Self.folder)/\(name)")
            }
        }
        for _ in 0..<2 {
            try await withLog(directory) { log async throws in
                await log.compact()
                #expect(log.damage().map(\.offsets) == [lost])
                let skipped = try await readAllSkippingDamage(log, p0).skipped
                #expect(skipped == [lost])
            }
        }
    }

    @Test func cutsNothingOfASegmentInFrontOfAMissingOne() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let logs = try Self.logs(directory)
        let (last, before) = (logs[logs.count - 1], logs[logs.count - 2])
        try directory.remove("\(Self.folder)/\(last)")
        var bytes = try directory.read("\(Self.folder)/\(before)")
        // The last batch of it is no whole one any more.
        bytes[bytes.count - 3] ^= 0x20
        try directory.write(bytes, to: "\(Self.folder)/\(before)")
        for suffix in [".index", ".timeindex"] {
            try directory.remove("\(Self.folder)/\(before.dropLast(4))\(suffix)")
        }
        try await withLog(directory) { log async throws in
            #expect(try log.bounds(p0).end == 60)
            #expect(log.damage().last?.offsets.upperBound == 60)
        }
        #expect(try directory.read("\(Self.folder)/\(before)") == bytes)
    }

    @Test func aReplacementOfWhatHasExpiredIsNotBroughtBack() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let logs = try Self.logs(directory)
        let joined = try directory.read("\(Self.folder)/\(logs[0])") + directory.read("\(Self.folder)/\(logs[1])")
        let (start, end) = (try Self.base(logs[3]), try Self.base(logs[2]))
        try await withLog(directory) { log async throws in
            #expect(try await log.deleteRecords(p0, before: start) == start)
        }
        let name = "\(Self.folder)/\(logs[0].dropLast(4))-\(logs[2].dropLast(4)).replacement"
        try directory.write(joined, to: name)
        try await withLog(directory) { log async throws in
            #expect(log.damage() == [])
            #expect(try log.bounds(p0).start == start && start > end)
        }
        #expect(try !directory.names(in: Self.folder).contains { $0.hasSuffix(".replacement") })
        #expect(try Self.logs(directory).first == logs[3])
    }

    // MARK: Topics

    @Test func everyStartTellsOfAMissingTopicUntilTheLogIsAtWork() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        try await withLog(directory) { log in try await log.createTopic("u", partitions: 2, settings: TopicSettings()) }
        try directory.remove("log/topics/u")
        for _ in 0..<2 {
            try await withLog(directory) { log async throws in
                #expect(log.damage().map(\.topic) == ["u"])
                #expect(log.damage()[0].reason.contains("missing") && log.damage()[0].file.hasSuffix("/topics/u"))
                #expect(log.topic("u") == nil)
            }
        }
        try await withLog(directory) { log async throws in
            // As an engine does that needs it; it is another one, and the one before is still missing.
            try await log.createTopic("u", partitions: 1, settings: TopicSettings())
        }
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.topic) == ["u"])
            await log.maintain()
        }
        try await withLog(directory) { log in #expect(log.damage() == []) }
    }

    @Test func nobodyMissesATopicThatWasDeleted() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        try await withLog(directory) { log async throws in
            try await log.createTopic("u", partitions: 2, settings: TopicSettings())
            await log.maintain()
            try await log.deleteTopic("u")
            let killed = try directory.snapshot()
            try await withLog(killed) { again in #expect(again.damage() == []) }
        }
        // Killed between the two steps of a deletion.
        let killed = try directory.snapshot()
        let id = try await withLog(killed) { log async throws in try #require(log.topic("t")?.id) }
        try FileManager.default.moveItem(
            atPath: killed.path + "/log/topics/t",
            toPath: killed.path + "/log/topics/~old~\(id.uuidString)"
        )
        for _ in 0..<2 {
            try await withLog(killed) { log in #expect(log.damage() == [] && log.topics() == []) }
        }
    }

    @Test func aFolderThatIsLeftOfATopicIsNotInTheWay() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        try directory.remove("log/topics/t")
        try directory.makeFolder("log/topics/t")
        try directory.write([1], to: "log/topics/t/notes.txt")
        try await withLog(directory) { log async throws in
            #expect(log.damage().map(\.topic) == ["t"])
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            #expect(try await log.append(batch(["a"]), to: p0).baseOffset == 0)
        }
        let aside = try #require(try directory.names(in: "log/topics").first { $0.hasPrefix("t.damaged-") })
        #expect(try directory.read("log/topics/\(aside)/notes.txt") == [1])
        try await withLog(directory) { log async throws in #expect(try await readAll(log, p0).map(\.text) == ["a"]) }
    }

    @Test func whatAFailedRaiseLeavesIsNoPartition() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        try await withLog(directory) { log async throws in
            try directory.makeFolder("log/topics/t/1")
            try await log.updateTopic("t", settings: TopicSettings(), partitions: 2)
            #expect(log.damage() == [])
            #expect(try await log.append(batch(["a"]), to: TopicPartition(topic: "t", partition: 1)).baseOffset == 0)
        }
    }

    @Test func aDamagedCheckpointIsSaidToBeOne() async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        try directory.write([1, 2, 3], to: "log/checkpoint")
        try await withLog(directory) { log async throws in
            let report = try #require(log.damage().first)
            #expect(report.place == "the log's checkpoint" && !report.description.contains("0..<0"))
        }
    }

    // MARK: Compaction's files

    /// What damage may do to a file that takes the place of others.
    enum Harm: String, CaseIterable, CustomTestStringConvertible {
        case empty, head, half, lastBatch, flipped, wrongOffsets

        var testDescription: String { rawValue }
    }

    @Test(arguments: Harm.allCases)
    func aDamagedReplacementLeavesTheSegments(harm: Harm) async throws {
        let directory = try await RecoveryTests.manySegments(closing: true)
        let logs = try Self.logs(directory)
        let bases = logs.map { String($0.dropLast(4)) }
        let second = try directory.read("\(Self.folder)/\(logs[1])")
        var joined = try directory.read("\(Self.folder)/\(logs[0])") + second
        switch harm {
        case .empty: joined = []
        case .head: joined = Array(joined[..<30])
        case .half: joined = Array(joined[..<(joined.count / 2)])
        // Ends where a batch ends.
        case .lastBatch: joined = Array(joined[..<(joined.count - second.count)])
        case .flipped: joined[joined.count / 2] ^= 0x40
        case .wrongOffsets: joined = second
        }
        let name = "\(bases[0])-\(bases[2]).replacement"
        try directory.write(joined, to: "\(Self.folder)/\(name)")
        try await withLog(directory) { log async throws in
            #expect(try await readAll(log, p0).map(\.text) == (0..<60).map { "value \($0)" })
            let report = try #require(log.damage().first)
            #expect(log.damage().count == 1 && report.offsets.isEmpty && report.file.contains(name))
        }
        let names = try directory.names(in: Self.folder)
        #expect(names.contains { $0.hasPrefix(name + ".damaged-") } && !names.contains(name))
        try await withLog(directory) { log in #expect(log.damage() == []) }
    }
}
