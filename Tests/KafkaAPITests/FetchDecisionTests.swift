// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaAPI
import Testing

struct FetchDecisionTests {
    private typealias Share = FetchDecision.Share

    private static func decision(
        _ bytesMax: Int = 1000,
        min bytesMin: Int32 = 1,
        wait: Int32 = 500,
        memory: Int = .max
    ) -> FetchDecision {
        var decision = FetchDecision(bytesMax: bytesMax, bytesMin: bytesMin, waitMilliseconds: wait)
        decision.addPartition()
        decision.begin(memoryBytesMax: memory)
        return decision
    }

    private static func take(
        _ byteCount: Int,
        isFile: Bool,
        next: Int64,
        of readable: Int64,
        into decision: inout FetchDecision,
        isTaken expected: Bool = true,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let isTaken = decision.take(byteCount: byteCount, isFile: isFile, next: next, readable: readable)
        #expect(isTaken == expected, sourceLocation: sourceLocation)
    }

    @Test func whereNothingIsThereItWaitsAsLongAsItMay() {
        var decision = Self.decision(wait: 500)
        Self.take(0, isFile: false, next: 7, of: 7, into: &decision, isTaken: false)
        #expect(decision.next(after: .zero) == .wait(.milliseconds(500)))
        #expect(decision.next(after: .milliseconds(499)) == .wait(.milliseconds(1)))
        #expect(decision.next(after: .milliseconds(500)) == .answer)
        #expect(decision.next(after: .seconds(9)) == .answer)
    }

    @Test(arguments: [
        (Int32.max, FetchDecision.Step.wait(.seconds(300))), (0, .answer), (-1, .answer), (.min, .answer),
    ])
    func timesToWaitAreBounded(_ wait: Int32, _ step: FetchDecision.Step) {
        #expect(Self.decision(wait: wait).next(after: .zero) == step)
    }

    @Test func itWaitsUntilThereAreAsManyBytesAsAreWanted() {
        var decision = Self.decision(min: 300)
        Self.take(299, isFile: true, next: 3, of: 3, into: &decision)
        #expect(decision.next(after: .milliseconds(100)) == .wait(.milliseconds(400)))
        // Woken by an append: everything is read anew, and the time goes on.
        decision.begin(memoryBytesMax: .max)
        #expect(decision.byteCount == 0)
        Self.take(300, isFile: true, next: 4, of: 4, into: &decision)
        #expect(decision.next(after: .milliseconds(101)) == .answer)
    }

    @Test func whatThereIsIsAnsweredWhenTheTimeIsUp() {
        var decision = Self.decision(min: 300)
        Self.take(10, isFile: false, next: 1, of: 1, into: &decision)
        #expect(decision.next(after: .milliseconds(500)) == .answer)
        #expect(decision.byteCount == 10)
    }

    @Test(arguments: [0, -1, Int32.min])
    func whoWantsNoBytesIsAnsweredAtOnce(_ bytesMin: Int32) {
        #expect(Self.decision(min: bytesMin).next(after: .zero) == .answer)
    }

    @Test func whoNamesNoPartitionIsAnsweredAtOnce() {
        #expect(FetchDecision(bytesMax: 1000, bytesMin: 1, waitMilliseconds: 500).next(after: .zero) == .answer)
    }

    @Test func anErrorOfOnePartitionIsAnsweredAtOnceAndStays() {
        var decision = Self.decision(min: 300)
        decision.fail()
        #expect(decision.next(after: .zero) == .answer)
        decision.begin(memoryBytesMax: .max)
        #expect(decision.next(after: .zero) == .answer)
    }

    // MARK: Room (KIP-74)

    @Test(arguments: [0, 1, 999])
    func theFirstBatchIsGivenWhateverItsSize(_ limit: Int) {
        var decision = Self.decision(limit, min: 1_000_000)
        #expect(decision.share(of: 1, lendsFiles: false) == Share(bytes: min(1, limit), memoryBytes: .max))
        Self.take(5000, isFile: true, next: 5, of: 9, into: &decision)
        #expect(
            decision.share(of: 1 << 20, lendsFiles: true) == nil,
            "nothing is left behind a batch that is too large"
        )
        #expect(decision.next(after: .zero) == .answer)
    }

    @Test func aPartitionWithoutRecordsLeavesTheFirstBatchToTheNext() {
        var decision = Self.decision(10)
        Self.take(0, isFile: false, next: 7, of: 7, into: &decision, isTaken: false)
        #expect(decision.share(of: 1, lendsFiles: true) == Share(bytes: 1, memoryBytes: .max))
        Self.take(500, isFile: false, next: 8, of: 8, into: &decision)
        #expect(decision.share(of: 1, lendsFiles: true) == nil)
    }

    @Test func eachPartitionGetsItsOwnBoundOfWhatIsLeft() {
        var decision = Self.decision(1000)
        #expect(decision.share(of: 400, lendsFiles: true)?.bytes == 400)
        Self.take(350, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.share(of: 400, lendsFiles: true)?.bytes == 400)
        Self.take(400, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.share(of: 400, lendsFiles: true)?.bytes == 250)
        Self.take(250, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.share(of: 400, lendsFiles: true) == nil)
        #expect(decision.byteCount == 1000)
    }

    @Test func aPartitionThatWantsNothingGetsNothingBehindTheFirstBatch() {
        var decision = Self.decision(1000)
        Self.take(10, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.share(of: 0, lendsFiles: true) == nil)
    }

    @Test func aBatchThatIsLargerThanWhatIsLeftComesNextAndNobodyWaitsForIt() {
        var decision = Self.decision(1000, min: 2000)
        Self.take(900, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.next(after: .zero) == .wait(.milliseconds(500)))
        Self.take(101, isFile: true, next: 5, of: 5, into: &decision, isTaken: false)
        #expect(decision.byteCount == 900)
        #expect(decision.next(after: .zero) == .answer, "waiting cannot make room")
    }

    @Test func recordsThatFoundNoRoomAreNotWaitedFor() {
        var decision = Self.decision(1000, min: 2000)
        decision.pass(offset: 5, readable: 5)
        #expect(decision.next(after: .zero) == .wait(.milliseconds(500)))
        decision.pass(offset: 4, readable: 5)
        #expect(decision.next(after: .zero) == .answer)
    }

    @Test func recordsBehindWhatWasReadAreNotWaitedFor() {
        var decision = Self.decision(1000, min: 2000)
        Self.take(10, isFile: true, next: 4, of: 5, into: &decision)
        #expect(decision.next(after: .zero) == .answer)
    }

    // MARK: Memory and files

    @Test func memoryIsWhatWasLentLessWhatIsUsed() {
        var decision = Self.decision(1000, memory: 300)
        #expect(decision.memoryWanted(upTo: 8000) == 1000)
        #expect(decision.memoryWanted(upTo: 80) == 80)
        Self.take(200, isFile: false, next: 1, of: 1, into: &decision)
        Self.take(300, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.share(of: 1000, lendsFiles: true) == Share(bytes: 500, memoryBytes: 100))
        #expect(decision.memoryBytes == 200)
        decision.begin(memoryBytesMax: 50)
        #expect(decision.memoryBytes == 0)
        #expect(decision.share(of: 1000, lendsFiles: true) == Share(bytes: 1000, memoryBytes: 50))
    }

    @Test func anAnswerKeepsSoManyFilesOpenAndNoMore() {
        var decision = Self.decision(1 << 20)
        for _ in 0..<FetchDecision.fileCountMax {
            #expect(decision.share(of: 10, lendsFiles: true) != nil)
            Self.take(1, isFile: true, next: 1, of: 1, into: &decision)
        }
        #expect(decision.share(of: 10, lendsFiles: true) == nil)
        decision.begin(memoryBytesMax: .max)
        #expect(decision.share(of: 10, lendsFiles: true) != nil)
    }

    @Test func whereNoFileIsLentOnlyTheFirstBatchIsGiven() {
        var decision = Self.decision()
        #expect(decision.share(of: 10, lendsFiles: false) != nil)
        Self.take(1, isFile: true, next: 1, of: 1, into: &decision)
        #expect(decision.share(of: 10, lendsFiles: false) == nil)
    }

    // MARK: All of it

    /// Clients with limits of every size read partitions to their ends: each answer keeps its bounds and has something, as long as there is anything.
    @Test(.timeLimit(.minutes(5))) func everyClientGetsToTheEndWithinItsBounds() {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("everyClientGetsToTheEndWithinItsBounds: MARTLET_TEST_SEED=\(seed)")
        var model = FetchModel(seed: seed)
        for round in 0..<3000 {
            guard let fault = model.round() else { continue }
            Issue.record("round \(round): \(fault)")
            return
        }
        #expect(model.oversized > 100 && model.left > 100 && model.waits > 100, "\(model) is not what is meant")
    }
}

/// Partitions with batches of any size, and a client that reads them; the answers are made as the door makes them.
private struct FetchModel {
    /// Answers with a first batch that is larger than the answer may be.
    private(set) var oversized = 0
    /// Batches that were read and left for the next answer.
    private(set) var left = 0
    /// Readings that ended in waiting.
    private(set) var waits = 0
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    private mutating func number(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(bound))
    }

    private mutating func size() -> Int { [1, 10, 100, 1000][number(4)] * (1 + number(9)) }

    /// Reads everything once; returns what was wrong.
    mutating func round() -> String? {
        let partitions = (0..<1 + number(5)).map { _ in (0..<number(6)).map { _ in size() } }
        let bytesMax = number(10) == 0 ? 0 : size()
        let bytesMin = number(3) == 0 ? number(2) : size()
        let share = number(10) == 0 ? 0 : size()
        var offsets = partitions.map { _ in 0 }
        var first = 0
        while zip(offsets, partitions).contains(where: { $0 < $1.count }) {
            var decision = FetchDecision(bytesMax: bytesMax, bytesMin: Int32(bytesMin), waitMilliseconds: 500)
            for _ in partitions { decision.addPartition() }
            decision.begin(memoryBytesMax: .max)
            var batches = 0
            let before = offsets
            for place in partitions.indices.map({ ($0 + first) % partitions.count }) {
                batches += read(place, partitions[place], &offsets[place], share, &decision)
            }
            if decision.byteCount > bytesMax {
                guard batches == 1 else { return "\(decision.byteCount) of \(bytesMax) bytes in \(batches) batches" }
                oversized += 1
            }
            let isAtEnd = zip(offsets, partitions).allSatisfy { $0 == $1.count }
            switch decision.next(after: .zero) {
            case .answer:
                guard batches > 0 else { return "an empty answer, though there are records" }
                guard !isAtEnd || decision.byteCount >= bytesMin else { return "too few bytes, and no reason" }
            case .wait:
                waits += 1
                guard isAtEnd else { return "it waits, though there are records at \(offsets) of \(partitions)" }
                guard decision.byteCount < bytesMin else { return "it waits, though there are enough bytes" }
            }
            guard offsets != before else { return "no progress" }
            first += 1
        }
        return nil
    }

    /// Reads as the log does, whole batches that fit and the first one whatever its size; returns how many were given.
    private mutating func read(
        _ place: Int,
        _ batches: [Int],
        _ offset: inout Int,
        _ bytesMax: Int,
        _ decision: inout FetchDecision
    ) -> Int {
        guard let share = decision.share(of: bytesMax, lendsFiles: true) else {
            decision.pass(offset: Int64(offset), readable: Int64(batches.count))
            return 0
        }
        var end = offset
        var bytes = 0
        while end < batches.count, end == offset || bytes + batches[end] <= share.bytes {
            bytes += batches[end]
            end += 1
        }
        guard decision.take(byteCount: bytes, isFile: true, next: Int64(end), readable: Int64(batches.count)) else {
            left += bytes > 0 ? 1 : 0
            return 0
        }
        defer { offset = end }
        return end - offset
    }
}
