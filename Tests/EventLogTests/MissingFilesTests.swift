// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import Testing

@Suite(.timeLimit(.minutes(2)))
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
        try await withLog(directory) { log in #expect(log.damage() == []) }
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
