// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Testing

@Suite(.timeLimit(.minutes(3)))
struct CoordinatorStoreTests {
    static let file = "log/groups/offsets.log"

    /// The entry that every file begins with.
    static let headBytes = 30

    static func log(committing numbers: Range<Int64>) async throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        return try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            for number in numbers {
                let committed = CommittedOffset(offset: number, metadata: "m\(number)", committedAt: number)
                try await log.commit(group: "g", offsets: [p0: committed])
            }
            return try directory.snapshot()
        }
    }

    @Test func keepsTheLeaderEpochOfACommit() async throws {
        let directory = try await Self.log(committing: 0..<1)
        let committed = CommittedOffset(offset: 4, committedAt: 1, leaderEpoch: 9)
        try await withLog(directory) { log async throws in
            #expect(log.committed(group: "g")[p0]?.leaderEpoch == -1)
            try await log.commit(group: "g", offsets: [p0: committed])
        }
        try await withLog(directory) { log async throws in #expect(log.committed(group: "g")[p0] == committed) }
    }

    @Test func tellsWhatOffsetsTake() async throws {
        let directory = try TemporaryDirectory()
        let other = TopicPartition(topic: "other", partition: 0)
        let large = CommittedOffset(offset: 1, metadata: String(repeating: "x", count: 1000), committedAt: 0)
        let small = CommittedOffset(offset: 2, committedAt: 0)
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.createTopic("other", partitions: 1, settings: TopicSettings())
            #expect(log.offsetUsage == (0, 0))
            try await log.commit(group: "a", offsets: [p0: large, other: small])
            try await log.commit(group: "b", offsets: [p0: large])
            let one = large.byteCount(of: p0)
            #expect(one > 1000)
            #expect(log.offsetUsage == (2, 2 * one + small.byteCount(of: other)))
            try await log.commit(group: "a", offsets: [p0: small])
            try await log.commit(group: "c", offsets: [other: large])
            try await log.deleteOffsets(group: "c", of: [p0])
            #expect(
                log.offsetUsage.bytes == one + small.byteCount(of: p0) + small.byteCount(of: other)
                    + large.byteCount(of: other)
            )
            try await log.deleteOffsets(group: "c", of: [other])
            try await log.deleteTopic("other")
            #expect(log.offsetUsage == (2, one + small.byteCount(of: p0)))
        }
        try await withLog(directory) { log async throws in
            #expect(log.offsetUsage == (2, large.byteCount(of: p0) + small.byteCount(of: p0)))
            try await log.deleteGroup("b")
            try await log.deleteGroup("a")
            #expect(log.offsetUsage == (0, 0))
        }
    }

    @Test func cutsATornCommitAtEveryByte() async throws {
        let directory = try await Self.log(committing: 0..<3)
        let whole = try directory.read(Self.file)
        let entry = (whole.count - Self.headBytes) / 3
        for length in whole.count - entry..<whole.count {
            try directory.write(Array(whole[..<length]), to: Self.file)
            try await withLog(directory) { log async throws in
                #expect(log.committed(group: "g")[p0]?.offset == 1)
                #expect(log.damage().isEmpty)
            }
        }
    }

    /// The same bytes may be torn after a crash; of a file that was closed they cannot be.
    @Test(arguments: [1, 10, 100]) func reportsWhatIsMissingOfAClosedFile(missing: Int) async throws {
        let directory = try await Self.log(committing: 0..<3)
        try await withLog(directory) { log in #expect(log.damage().isEmpty) }
        let whole = try directory.read(Self.file)
        try directory.write(Array(whole.dropLast(missing)), to: Self.file)
        try await withLog(directory) { log async throws in
            #expect(log.damage().count == 1)
            #expect((log.committed(group: "g")[p0]?.offset ?? 0) < 2)
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 7, committedAt: 0)])
        }
        try await withLog(directory) { log in #expect(log.committed(group: "g")[p0]?.offset == 7) }
    }

    /// What a disk may do to the file while no engine runs.
    enum Harm: String, CaseIterable, CustomTestStringConvertible {
        case emptied, zeroed, cutInside, cutBetween, headOnly, older

        var testDescription: String { rawValue }
    }

    /// Of a file that nobody closed, what the checkpoint tells counts.
    @Test(arguments: Harm.allCases) func reportsWhatIsMissingAfterAKill(harm: Harm) async throws {
        let directory = try TemporaryDirectory()
        let large = [UInt8](repeating: 5, count: 1 << 20)
        let (killed, before) = try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.storeGroupState("g", [1])
            let before = try directory.read(Self.file)
            // Which writes it anew.
            for number in 0..<(harm == .older ? 10 : 3) { try await log.storeGroupState("g", large + [UInt8(number)]) }
            await log.maintain()
            return (try directory.snapshot(), before)
        }
        let whole = try killed.read(Self.file)
        try await withLog(killed.snapshot()) { log in #expect(log.damage() == []) }
        let harmed: [UInt8] =
            switch harm {
            case .emptied: []
            case .zeroed: [UInt8](repeating: 0, count: whole.count)
            case .cutInside: Array(whole.dropLast(100))
            case .cutBetween: before
            case .headOnly: Array(before[..<Self.headBytes])
            case .older: before
            }
        try killed.write(harmed, to: Self.file)
        // A start that fails later on closes the log as well.
        for _ in 0..<2 {
            try await withLog(killed) { log in
                #expect(log.damage().count == 1)
                #expect(log.damage().first?.file.hasSuffix("offsets.log") == true)
            }
        }
        #expect(Array(try killed.read(Self.file).prefix(harmed.count)) == harmed, "nothing is cut")
        try await withLog(killed) { log async throws in
            try await log.storeGroupState("g", [2])
            await log.maintain()
        }
        try await withLog(killed) { log async throws in
            #expect(log.groupStates()["g"] == [2])
            #expect(log.damage().count == ([.zeroed, .cutInside].contains(harm) ? 1 : 0))
        }
    }

    @Test func takesTheFilesOfOlderEngines() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log in try await log.createTopic("t", partitions: 1, settings: TopicSettings()) }
        // They made the file empty, and a checkpoint that did not tell of it.
        let old = try Self.secondVersion(of: directory.read("log/checkpoint"))
        try directory.write(old, to: "log/checkpoint")
        try directory.write([], to: Self.file)
        try directory.remove("log/groups/offsets.closed")
        try await withLog(directory) { log async throws in
            #expect(log.damage() == [])
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 0, committedAt: 0)])
        }
        // And their entries had none in front of them.
        let entries = Array(try directory.read(Self.file)[Self.headBytes...])
        try directory.write(old, to: "log/checkpoint")
        try directory.write(entries, to: Self.file)
        try directory.remove("log/groups/offsets.closed")
        for _ in 0..<2 {
            try await withLog(directory) { log async throws in
                #expect(log.damage() == [])
                #expect(log.committed(group: "g")[p0]?.offset == 0)
            }
        }
        // Of which the checkpoint tells now.
        try directory.remove("log/groups/offsets.closed")
        try directory.write([], to: Self.file)
        try await withLog(directory) { log in #expect(log.damage().count == 1) }
    }

    /// A checkpoint as version 2 had it.
    private static func secondVersion(of bytes: [UInt8]) throws -> [UInt8] {
        let count = Int(BigEndian.load(UInt32.self, from: bytes, at: 8))
        var old = Array(bytes[..<(16 + 68 * count)])
        old[5] = 2
        old.replaceSubrange(12..<16, with: [0, 0, 0, 0])
        BigEndian.append(CRC32C.checksum(old), to: &old)
        return old
    }

    @Test func reportsADamagedCommitAndKeepsTheOthers() async throws {
        let directory = try await Self.log(committing: 0..<3)
        var bytes = try directory.read(Self.file)
        bytes[bytes.count / 2] ^= 1
        try directory.write(bytes, to: Self.file)
        try await withLog(directory) { log async throws in
            #expect(log.committed(group: "g")[p0]?.offset == 2)
            #expect(log.damage().count == 1)
            #expect(log.damage().first?.file.hasSuffix("offsets.log") == true)
        }
        #expect(try directory.read(Self.file) == bytes)
    }

    @Test func rewritesTheFileWhenMostOfItIsOutdated() async throws {
        let directory = try TemporaryDirectory()
        let metadata = String(repeating: "x", count: CommittedOffset.metadataBytesMax)
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 2, settings: TopicSettings())
            let other = TopicPartition(topic: "t", partition: 1)
            try await log.commit(group: "other", offsets: [other: CommittedOffset(offset: 5, committedAt: 6)])
            for number in 0..<40 {
                let committed = CommittedOffset(offset: Int64(number), metadata: metadata, committedAt: 0)
                try await log.commit(group: "g", offsets: [p0: committed])
            }
            let tooLong = CommittedOffset(offset: 0, metadata: metadata + "x", committedAt: 0)
            #expect(await errorCode { try await log.commit(group: "g", offsets: [p0: tooLong]) } == .messageTooLarge)
        }
        #expect(try directory.read(Self.file).count < 4 << 20)
        try await withLog(directory) { log async throws in
            #expect(log.committed(group: "g")[p0] == CommittedOffset(offset: 39, metadata: metadata, committedAt: 0))
            #expect(log.committed(group: "other").values.map(\.offset) == [5])
            #expect(log.groups() == ["g", "other"])
        }
    }

    @Test func flushesConcurrentCommitsTogether() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            let before = disk.flushes
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<500 {
                    group.addTask {
                        let committed = CommittedOffset(offset: Int64(number), committedAt: 0)
                        try await log.commit(group: "g\(number)", offsets: [p0: committed])
                    }
                }
                try await group.waitForAll()
            }
            #expect(disk.flushes - before < 250)
            #expect(log.groups().count == 500)
        }
    }

    @Test func keepsTheStatesOfGroupsAndTransactions() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.storeGroupState("g", [1, 2, 3])
            try await log.storeGroupState("empty", [])
            try await log.storeGroupState("gone", [4])
            try await log.storeGroupState("gone", nil)
            try await log.storeTransaction("x", [9])
            let tooLarge = [UInt8](repeating: 0, count: LocalLog.coordinatorStateBytesMax + 1)
            #expect(await errorCode { try await log.storeGroupState("g", tooLarge) } == .messageTooLarge)
            #expect(await errorCode { try await log.storeGroupState("", [1]) } == .invalidSettings)
        }
        try await withLog(directory) { log async throws in
            #expect(log.groupStates() == ["g": [1, 2, 3], "empty": []])
            #expect(log.transactions() == ["x": [9]])
            #expect(log.groups() == [], "a state alone does not make offsets")
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 1, committedAt: 0)])
            try await log.deleteOffsets(group: "g", of: [p0, TopicPartition(topic: "none", partition: 7)])
            #expect(log.groups() == [])
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 2, committedAt: 0)])
            try await log.deleteGroup("g")
        }
        try await withLog(directory) { log async throws in
            #expect(log.groupStates() == ["empty": []])
            #expect(log.groups() == [])
        }
    }

    @Test func endsATransactionAndCommitsItsOffsetsInOneStep() async throws {
        let directory = try TemporaryDirectory()
        let before = try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.storeTransaction("x", [1])
            let bytes = try directory.read(Self.file)
            let gone = TopicPartition(topic: "t", partition: 5)
            let offsets = [
                p0: CommittedOffset(offset: 7, committedAt: 0), gone: CommittedOffset(offset: 1, committedAt: 0),
            ]
            try await log.storeTransaction("x", [2], committing: ["g": offsets, "h": offsets])
            return bytes
        }
        let whole = try directory.read(Self.file)
        for length in stride(from: whole.count, to: before.count, by: -1) {
            try directory.write(Array(whole[..<length]), to: Self.file)
            try await withLog(directory) { log async throws in
                let isWhole = length == whole.count
                #expect(log.transactions() == ["x": [isWhole ? 2 : 1]])
                #expect(log.committed(group: "g")[p0]?.offset == (isWhole ? 7 : nil))
                #expect(log.committed(group: "h").count == (isWhole ? 1 : 0))
            }
        }
    }

    @Test func keepsEverythingWhenTheFileIsRewritten() async throws {
        let directory = try TemporaryDirectory()
        let large = [UInt8](repeating: 5, count: 1 << 20)
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await log.commit(group: "g", offsets: [p0: CommittedOffset(offset: 3, committedAt: 0)])
            try await log.storeTransaction("x", [1])
            for number in 0..<20 { try await log.storeGroupState("g", large + [UInt8(number)]) }
        }
        #expect(try directory.read(Self.file).count < 16 << 20)
        try await withLog(directory) { log async throws in
            #expect(log.groupStates() == ["g": large + [19]])
            #expect(log.transactions() == ["x": [1]])
            #expect(log.committed(group: "g")[p0]?.offset == 3)
        }
    }

    @Test func givesOutNoProducerIDTwice() async throws {
        let directory = try TemporaryDirectory()
        var seen: Set<Int64> = []
        var killed = directory
        for round in 0..<4 {
            killed = try await withLog(killed) { log async throws in
                let ids = try await withThrowingTaskGroup(of: Int64.self) { group in
                    for _ in 0..<(round == 2 ? 3 : 1200) { group.addTask { try await log.newProducerID() } }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                for id in ids { #expect(seen.insert(id).inserted, "producer id \(id) is given out twice") }
                #expect(ids.allSatisfy { $0 > 0 })
                return try killed.snapshot()
            }
        }
    }

    @Test func givesOutNoProducerIDThatIsInUseWhenTheFileIsLost() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            _ = try await log.append(batch(["a"], producer: 40_000, sequence: 0), to: p0)
        }
        try directory.remove(Self.file)
        try await withLog(directory) { log async throws in #expect(try await log.newProducerID() == 40_001) }
    }

    @Test func givesOutNoProducerIDThatIsNotOnDisk() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            disk.fail(with: EIO)
            #expect(await errorCode { _ = try await log.newProducerID() } == .partitionStopped)
            disk.fail(with: 0)
            #expect(await errorCode { _ = try await log.newProducerID() } == .partitionStopped)
        }
    }

    @Test func refusesCommitsForWhatDoesNotExist() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            let committed = CommittedOffset(offset: 0, committedAt: 0)
            #expect(await errorCode { try await log.commit(group: "g", offsets: [p0: committed]) } == .unknownTopic)
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            #expect(await errorCode { try await log.commit(group: "", offsets: [p0: committed]) } == .invalidSettings)
            let negative = CommittedOffset(offset: -1, committedAt: 0)
            #expect(await errorCode { try await log.commit(group: "g", offsets: [p0: negative]) } == .invalidSettings)
            #expect(log.committed(group: "nobody").isEmpty)
        }
    }
}
