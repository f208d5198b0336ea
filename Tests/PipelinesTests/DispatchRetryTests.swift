// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import MartletCore
import Pipelines
import Testing
import Workers

@Suite struct DispatchRetryTests {
    private typealias Rig = DispatchRig

    @Test func failuresAreTriedAgainAfter2And4And8SecondsThenDeadLettered() throws {
        let rig = Rig(Rig.plan(retries: 3))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 1))
        for delay: Int64 in [2, 4, 8] {
            let sent = try #require(rig.takeSends().first)
            rig.fail(sent, 0)
            #expect(rig.core.nextDueMicros == rig.now + delay * Rig.second)
            rig.tick(after: delay * Rig.second - 1)
            #expect(rig.takeSends().isEmpty)
            rig.tick(after: 1)
        }
        let last = try #require(rig.takeSends().first)
        rig.fail(last, 0)
        let letters = rig.takeLetters()
        #expect(letters.map(\.event.failures) == [4])
        #expect(letters.map(\.failure.type) == ["ValueError"])
        #expect(rig.commit()?.offset == 0)
        rig.take(.deadLettered(letters.map(\.id), error: nil))
        #expect(rig.commit() == Rig.Position(offset: 1, state: CommitState()))
        #expect(rig.core.status.deadLettered == 1)
        #expect(rig.core.status.retried == 3)
    }

    @Test(arguments: [false, true]) func whatCannotBeReadIsADeadLetterAndHoldsNothingUp(isOrdered: Bool) throws {
        let rig = Rig(Rig.plan(isOrdered: isOrdered))
        _ = rig.startWorker()
        // Offsets 2 to 9 are a batch that cannot be read; the record at 2 stands for it.
        let records = Rig.records(from: 0, count: 3) + Rig.records(from: 10, count: 2)
        rig.take(.fetched(input: 0, partition: 0, records: records, next: 12, unreadable: [2: "why"]))
        let letters = rig.takeLetters()
        #expect(letters.map(\.event.record.offset) == [2])
        #expect(letters.map(\.failure.message) == ["why"])
        var offsets: [Int64] = []
        var sends = rig.takeSends()
        while !sends.isEmpty {
            for sent in sends {
                offsets += sent.offsets
                rig.allOK(sent)
            }
            sends = rig.takeSends()
        }
        #expect(offsets == [0, 1, 10, 11])
        #expect(rig.commit()?.offset == 2)
        rig.take(.deadLettered(letters.map(\.id), error: "diskFull"))
        #expect(rig.commit() == nil)
        rig.tick(after: 60 * Rig.second)
        rig.take(.deadLettered(rig.takeLetters().map(\.id), error: nil))
        #expect(rig.commit() == Rig.Position(offset: 12, state: CommitState()))
    }

    @Test func anOrderedKeyWaitsForItsRetryAndNoOther() throws {
        let rig = Rig(Rig.plan(isOrdered: true))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, keys: ["a", "a", "b", "b", "a"]))
        let first = rig.takeSends()
        #expect(first.flatMap(\.offsets) == [0, 2])
        let a = try #require(first.first { $0.offsets.contains(0) })
        rig.fail(a, try #require(a.offsets.firstIndex(of: 0)))
        let b = try #require(first.first { $0.offsets.contains(2) })
        rig.ok(b, try #require(b.offsets.firstIndex(of: 2)))
        #expect(rig.takeSends().map(\.offsets) == [[3]])
        rig.tick(after: 2 * Rig.second)
        let again = try #require(rig.takeSends().first)
        #expect(again.offsets == [0])
        rig.allOK(again)
        let next = try #require(rig.takeSends().first)
        #expect(next.offsets == [1])
        rig.allOK(next)
        #expect(rig.takeSends().map(\.offsets) == [[4]])
    }

    @Test func anOrderedKeyGoesOnAfterItsDeadLetterIsWritten() throws {
        let rig = Rig(Rig.plan(retries: 0, isOrdered: true))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, keys: ["a", "a"]))
        rig.fail(try #require(rig.takeSends().first), 0)
        #expect(rig.takeSends().isEmpty)
        rig.take(.deadLettered(rig.takeLetters().map(\.id), error: nil))
        #expect(rig.takeSends().map(\.offsets) == [[1]])
    }

    @Test func batchesGoWhenFullAndWhenTheirTimeIsUp() {
        let rig = Rig(Rig.plan(batching: .init(size: 3, timeoutMilliseconds: 500)))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 5))
        #expect(rig.takeSends().map(\.offsets) == [[0, 1, 2]])
        #expect(rig.core.nextDueMicros == rig.now + 500_000)
        rig.tick(after: 499_999)
        #expect(rig.takeSends().isEmpty)
        rig.tick(after: 1)
        #expect(rig.takeSends().map(\.offsets) == [[3, 4]])
    }

    @Test func batchesCarryOneNumberEach() throws {
        let rig = Rig(Rig.plan(batching: .init(size: 2, timeoutMilliseconds: 500)))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 4))
        var numbers = [[Int]]()
        for effect in rig.effects {
            if case .send(_, _, let events) = effect { numbers.append(events.map(\.batch)) }
        }
        #expect(numbers.count == 2)
        #expect(numbers.allSatisfy { Set($0).count == 1 && $0.first != 0 })
        #expect(Set(numbers.flatMap(\.self)).count == 2)
    }

    @Test func aBatchLargerThanWhatMayBeHeldStillGoes() {
        let rig = Rig(Rig.plan(batching: .init(size: 10_000, timeoutMilliseconds: 3_600_000)))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: DispatchCore.bufferedMax))
        rig.tick(after: 1)
        #expect(rig.takeSends().map(\.offsets.count) == [DispatchCore.bufferedMax])
    }

    @Test func orderedBatchesOfAFetchGoTogetherAndOneAfterTheOther() throws {
        let rig = Rig(Rig.plan(isOrdered: true, batching: .init(size: 3, timeoutMilliseconds: 500), workers: 2...2))
        _ = rig.startWorker()
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, keys: ["a", "b", "a", "b", "c"]))
        let first = try #require(rig.takeSends().first)
        #expect(first.offsets == [0, 1, 2])
        rig.tick(after: 600_000)
        #expect(rig.takeSends().isEmpty)
        rig.allOK(first)
        rig.tick(after: 600_000)
        #expect(rig.takeSends().map(\.offsets) == [[3, 4]])
    }

    @Test func aTimeoutCountsAsAFailureKillsTheWorkerAndSparesItsOthers() throws {
        let rig = Rig(Rig.plan())
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 3))
        let sent = try #require(rig.takeSends().first)
        rig.results(sent, [Rig.result(1, .timeout)])
        #expect(rig.takeKills() == [.handlerTimeout])
        rig.exit(worker, .handlerTimeout)
        rig.tick()
        let next = try #require(rig.takeStarts().first)
        rig.ready(next)
        guard case .send(_, _, let events)? = rig.effects.last(where: { if case .send = $0 { true } else { false } })
        else {
            Issue.record("nothing was sent again")
            return
        }
        #expect(events.map(\.record.offset) == [0, 2])
        #expect(events.map(\.failures) == [0, 0])
        #expect(events.allSatisfy { !$0.isIsolated })
        _ = rig.takeSends()
        rig.tick(after: 2 * Rig.second)
        #expect(rig.takeSends().map(\.offsets) == [[1]])
    }

    @Test func anOrderedBatchThatATimeoutSendsBackKeepsItsOrder() throws {
        let rig = Rig(Rig.plan(isOrdered: true, batching: .init(size: 4, timeoutMilliseconds: 100), timeout: 1))
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 4))
        #expect(rig.takeSends().map(\.offsets) == [[0, 1, 2, 3]])
        rig.exit(worker, .handlerTimeout)
        rig.tick(after: 200_000)
        rig.ready(try #require(rig.takeStarts().first))
        #expect(rig.takeSends().map(\.offsets) == [[0, 1, 2, 3]])
    }

    @Test func resultsTheLogRefusesAreSentToItAgainAndNotRunAgain() throws {
        let rig = Rig(Rig.plan(output: "out"))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 1))
        let sent = try #require(rig.takeSends().first)
        rig.results(sent, [Rig.result(0, .ok, outputs: [.init(data: [0x31])])])
        let ids = rig.takePublished()
        #expect(ids.count == 1)
        rig.take(.published(ids[0], error: "diskFull"))
        #expect(rig.core.status.reason?.contains("diskFull") == true)
        #expect(rig.commit()?.offset == 0)
        rig.tick(after: 100_000)
        #expect(rig.takePublished().isEmpty)
        rig.tick(after: Rig.second)
        #expect(rig.takePublished() == ids)
        rig.take(.published(ids[0], error: nil))
        #expect(rig.core.status.reason == nil)
        #expect(rig.commit()?.offset == 1)
        #expect(rig.takeSends().isEmpty)
    }

    @Test func aResultThatCanNeverBeWrittenEndsAsADeadLetter() throws {
        let rig = Rig(Rig.plan(output: "out"))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 1))
        let sent = try #require(rig.takeSends().first)
        rig.results(sent, [Rig.result(0, .ok, outputs: [.init(data: [0x31])])])
        let id = try #require(rig.takePublished().first?.first)
        rig.take(.unpublishable(id, reason: "messageTooLarge: 200 MiB"))
        let letters = rig.takeLetters()
        #expect(letters.map(\.failure.type) == ["ResultTooLarge"])
        rig.take(.deadLettered(letters.map(\.id), error: nil))
        #expect(rig.commit()?.offset == 1)
        rig.take(.drain)
        #expect(rig.core.isDrained)
    }

    @Test func aDrainDoesNotWaitForEverForALogThatRefuses() throws {
        let rig = Rig(Rig.plan(retries: 0))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 1))
        rig.fail(try #require(rig.takeSends().first), 0)
        rig.take(.drain)
        for _ in 0..<80 {
            let letters = rig.takeLetters()
            if !letters.isEmpty { rig.take(.deadLettered(letters.map(\.id), error: "diskFull")) }
            rig.tick(after: 100_000)
            if rig.core.isDrained { break }
        }
        #expect(rig.core.isDrained)
        #expect(rig.commit()?.offset == 0)
    }
}
