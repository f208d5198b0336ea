// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import MartletCore
import Pipelines
import Testing
import Workers

@Suite struct DispatchDeliveryTests {
    private typealias Rig = DispatchRig

    @Test func commitsTheLowestUnfinishedOffsetWhateverOrderEventsFinishIn() throws {
        let rig = Rig(Rig.plan())
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 4))
        let sent = try #require(rig.takeSends().first)
        #expect(sent.offsets == [0, 1, 2, 3])
        rig.ok(sent, 1)
        rig.ok(sent, 3)
        #expect(rig.commit() == Rig.Position(offset: 0, state: CommitState(finished: [1..<2, 3..<4])))
        rig.ok(sent, 0)
        #expect(rig.commit() == Rig.Position(offset: 2, state: CommitState(finished: [3..<4])))
        rig.ok(sent, 2)
        #expect(rig.commit() == Rig.Position(offset: 4, state: CommitState()))
        #expect(rig.commit() == nil)
    }

    @Test(arguments: [Int64.max, .min, 1_700_000_000_000_000_000, 253_402_300_800_000, -1])
    func eventsOfAnyTimeAreSent(milliseconds: Int64) throws {
        let rig = Rig(Rig.plan())
        _ = rig.startWorker()
        let headers = [
            [:], ["ce_time": "soon"], ["ce_time": "0000-01-01T00:00:00Z"], ["ce_time": "9999-12-31T23:59:59Z"],
        ]
        rig.feed(Rig.records(from: 0, keys: [nil, nil, nil, nil], headers: headers, timestamp: milliseconds))
        #expect(try #require(rig.takeSends().first).offsets == [0, 1, 2, 3])
    }

    @Test func aRestartFromTheCommittedStateRepeatsOnlyWhatWasNotDone() throws {
        let state = CommitState(finished: [6..<8], retries: [.init(offset: 8, attempts: 2, dueMicros: 0)])
        let rig = Rig(Rig.plan(), committed: 5, state: CommitState(metadata: state.metadata))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 5, count: 5))
        let sent = try #require(rig.takeSends().first)
        #expect(sent.offsets == [5, 9])
        rig.tick()
        guard case .send(_, _, let events)? = rig.effects.first(where: { if case .send = $0 { true } else { false } })
        else {
            Issue.record("the carried retry was not sent")
            return
        }
        #expect(events.map(\.record.offset) == [8])
        #expect(events.map(\.failures) == [2])
    }

    @Test func commitStatesSurviveTheirTextForm() {
        let state = CommitState(finished: [3..<5, 9..<90], retries: [.init(offset: 7, attempts: 2, dueMicros: 123)])
        #expect(CommitState(metadata: state.metadata) == state)
        #expect(CommitState().metadata.isEmpty)
        for text in ["", "x", "[]", #"{"done":[[5,3],[1],"a"],"retries":[[1,2]]}"#, #"{"done":7}"#] {
            #expect(CommitState(metadata: text) == CommitState())
        }
    }

    @Test func aStateThatClaimsMoreThanThereIsIsClipped() {
        let state = CommitState(
            finished: [0..<3, 5..<Int64.max],
            retries: [.init(offset: 2, attempts: 1, dueMicros: 0), .init(offset: 6, attempts: -4, dueMicros: 0)]
        )
        #expect(state.clipped(to: 4..<10) == CommitState(finished: [5..<10]))
    }

    /// Retention may remove what lay between the committed offset and what was done beyond it.
    @Test func offsetsThatHoldNothingAnyMoreDoNotHoldThePositionBack() throws {
        let rig = Rig(Rig.plan(), committed: 0, state: CommitState(finished: [4..<6]))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 3, count: 4))
        let sent = try #require(rig.takeSends().first)
        #expect(sent.offsets == [3, 6])
        rig.allOK(sent)
        #expect(rig.commit()?.offset == 7)
        rig.feed([], next: 20)
        #expect(rig.commit()?.offset == 20)
    }

    @Test func onlyEventsOfTheSourceWithAllLabelsAreDelivered() throws {
        let rig = Rig(Rig.plan(filter: .source("v:trigger", labels: ["tier": "hot", "site": "a"])))
        _ = rig.startWorker()
        let labels = ["martlet-label-tier": "hot", "ce_site": "a"]
        let headers = [
            ["ce_source": "v:trigger"].merging(labels) { $1 }, ["ce_source": "v:other"].merging(labels) { $1 },
            ["ce_source": "v:trigger", "martlet-label-tier": "hot"],
            ["ce_source": "v:trigger", "martlet-label-tier": "cold", "ce_site": "a"], [:],
        ]
        rig.feed(Rig.records(from: 0, keys: [nil, nil, nil, nil, nil], headers: headers))
        let sent = try #require(rig.takeSends().first)
        #expect(sent.offsets == [0])
        #expect(rig.commit() == Rig.Position(offset: 0, state: CommitState(finished: [1..<5])))
        rig.allOK(sent)
        #expect(rig.commit()?.offset == 5)
    }

    @Test func redrivenEventsReachTheirDeploymentOnly() {
        let rig = Rig(Rig.plan(filter: .redrive(deployment: "inspect")))
        _ = rig.startWorker()
        let headers = [["martlet-redrive-to": "inspect"], ["martlet-redrive-to": "other"], [:]]
        rig.feed(Rig.records(from: 0, keys: [nil, nil, nil], headers: headers))
        #expect(rig.takeSends().map(\.offsets) == [[0]])
    }

    @Test func fastHandlersGetMoreEventsAheadThanSlowOnes() throws {
        func window(micros: Int64) throws -> Int {
            let rig = Rig(Rig.plan(concurrency: 4))
            _ = rig.startWorker()
            rig.feed(Rig.records(from: 0, count: 3000))
            let first = try #require(rig.takeSends().first)
            #expect(first.offsets.count == 4)
            rig.allOK(first, micros: micros)
            return rig.takeSends().reduce(0) { $0 + $1.offsets.count }
        }
        #expect(try window(micros: 10) == 1024)
        #expect(try window(micros: 10_000) == 4 + 20)
        #expect(try window(micros: 10_000_000) == 4)
    }

    @Test func readingStopsWhileEnoughIsHeldAndGoesOnAtHalf() throws {
        let rig = Rig(Rig.plan(concurrency: 1))
        rig.feed(Rig.records(from: 0, count: DispatchCore.bufferedMax))
        #expect(rig.takeGates() == [false])
        _ = rig.startWorker()
        var done = 0
        while let sent = rig.takeSends().first {
            rig.allOK(sent, micros: 100)
            done += sent.offsets.count
            let isHalf = done > DispatchCore.bufferedMax / 2
            #expect(rig.takeGates() == (isHalf ? [true] : []))
            if isHalf { break }
        }
        #expect(done > DispatchCore.bufferedMax / 2)
    }

    @Test func largeEventsCloseTheGateBySize() {
        let rig = Rig(Rig.plan())
        rig.feed(Rig.records(from: 0, count: 9, bytes: 8 << 20))
        #expect(rig.takeGates() == [false])
    }

    @Test func aDrainSendsNothingMoreAndEndsWhenWorkersAreDone() throws {
        let rig = Rig(Rig.plan(concurrency: 2))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 4))
        let sent = try #require(rig.takeSends().first)
        rig.take(.drain)
        #expect(rig.takeGates() == [false])
        #expect(!rig.core.isDrained)
        rig.ok(sent, 0)
        #expect(!rig.core.isDrained)
        rig.fail(sent, 1)
        #expect(rig.core.isDrained)
        #expect(rig.takeSends().isEmpty)
        let position = try #require(rig.commit())
        #expect(position.offset == 1)
        #expect(position.state.retries.map(\.offset) == [1])
        #expect(position.state.retries.map(\.attempts) == [1])
    }

    @Test func aWorkerThatDiesWhileDrainingDoesNotHoldTheDrainUp() throws {
        let rig = Rig(Rig.plan())
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 3))
        rig.take(.drain)
        #expect(!rig.core.isDrained)
        rig.exit(worker, .signalled(11))
        #expect(rig.core.isDrained)
        #expect(rig.commit()?.offset == 0)
        rig.run(5 * Rig.second)
        #expect(rig.takeStarts().isEmpty)
    }
}
