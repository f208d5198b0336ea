// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import MartletCore
import Pipelines
import Testing
import Workers

@Suite struct DispatchWorkerTests {
    private typealias Rig = DispatchRig

    @Test func aCrashIsolatesWhatRanAndSparesTheRest() throws {
        let rig = Rig(Rig.plan(concurrency: 2))
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 10))
        rig.allOK(try #require(rig.takeSends().first), micros: 20_000)
        let ahead = try #require(rig.takeSends().first)
        #expect(ahead.offsets == [2, 3, 4, 5, 6, 7, 8])
        rig.exit(worker, .signalled(11))
        let next = try #require(rig.takeStarts().first)
        rig.ready(next)
        let alone = try #require(rig.takeSends().first)
        #expect(alone.offsets == [2])
        rig.allOK(alone)
        let second = try #require(rig.takeSends().first)
        #expect(second.offsets == [3])
        rig.allOK(second)
        #expect(rig.takeSends().flatMap(\.offsets) == [4, 5, 6, 7, 8, 9])
        #expect(rig.core.status.failed == 0)
        #expect(rig.core.status.retried == 0)
    }

    @Test func aCrashOfAnIsolatedEventIsItsFailure() throws {
        let rig = Rig(Rig.plan(retries: 1, concurrency: 2))
        var worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 1))
        _ = rig.takeSends()
        rig.exit(worker, .signalled(11))
        for attempt in 1...2 {
            rig.run(4 * Rig.second)
            worker = try #require(rig.takeStarts().last)
            rig.ready(worker)
            rig.run(3 * Rig.second)
            #expect(rig.takeSends().map(\.offsets) == [[0]])
            rig.exit(worker, .signalled(11))
            #expect(rig.core.status.failed == Int64(attempt))
        }
        let letters = rig.takeLetters()
        #expect(letters.map(\.failure.type) == ["WorkerDied"])
        #expect(letters.map(\.failure.traceback) == ["tail"])
        #expect(letters.map(\.event.failures) == [2])
    }

    @Test func anIsolatedEventDoesNotStarveBesideABusyWorker() throws {
        let rig = Rig(Rig.plan(workers: 2...2, concurrency: 1))
        let crashing = rig.startWorker()
        let busy = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 400))
        let sends = rig.takeSends()
        var open = try #require(sends.first { $0.worker == busy })
        let lost = try #require(sends.first { $0.worker == crashing })
        rig.exit(crashing, .signalled(6))
        for _ in 0..<20 {
            rig.allOK(open, micros: 1_000_000)
            let next = try #require(rig.takeSends().first)
            if next.offsets == lost.offsets { return }
            open = next
        }
        Issue.record("the isolated event was never sent")
    }

    @Test func aWorkerKeptFreeForAnIsolatedEventWorksAgainOnceThatWentElsewhere() throws {
        let rig = Rig(Rig.plan(workers: 2...2, concurrency: 1))
        let crashing = rig.startWorker()
        let busy = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 50))
        let sends = rig.takeSends()
        let open = try #require(sends.first { $0.worker == busy })
        rig.exit(crashing, .signalled(6))
        rig.tick()
        rig.ready(try #require(rig.takeStarts().first))
        #expect(rig.takeSends().count == 1)
        rig.tick(after: 100_000)
        rig.allOK(open, micros: 1_000_000)
        #expect(rig.takeSends().map(\.worker) == [busy])
    }

    @Test func aStuckWorkerThatSaysNothingIsKilledAndItsEventFails() throws {
        let rig = Rig(Rig.plan(concurrency: 2, timeout: 5))
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 2))
        let sent = try #require(rig.takeSends().first)
        rig.take(.worker(id: worker, .line(request: sent.request, .running([(index: 1, milliseconds: 10)]))))
        rig.tick(after: 6 * Rig.second)
        #expect(rig.takeKills().isEmpty)
        rig.tick(after: 2 * Rig.second)
        #expect(rig.takeKills().allSatisfy { $0 == .handlerTimeout })
        #expect(rig.core.status.failed == 1)
        rig.exit(worker, .handlerTimeout)
        rig.ready(try #require(rig.takeStarts().first))
        #expect(rig.takeSends().map(\.offsets) == [[0]])
    }

    @Test func reportsKeepASlowWorkerAlive() throws {
        let rig = Rig(Rig.plan(timeout: 5))
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 1))
        let sent = try #require(rig.takeSends().first)
        for _ in 0..<300 {
            rig.take(.worker(id: worker, .line(request: sent.request, .running([(index: 0, milliseconds: 10)]))))
            rig.tick(after: 200_000)
        }
        #expect(rig.takeKills().isEmpty)
    }

    @Test func aRequestThatEndsEarlyReplacesTheWorker() throws {
        let rig = Rig(Rig.plan())
        let worker = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 2))
        let sent = try #require(rig.takeSends().first)
        rig.take(.worker(id: worker, .requestEnded(request: sent.request, error: "the worker answered 503")))
        #expect(rig.takeKills().isEmpty, "its exit may be on the way and says more")
        rig.tick(after: 600_000)
        #expect(rig.takeKills() == [.brokenProtocol("the worker answered 503")])
        rig.take(.worker(id: worker, .requestEnded(request: 999, error: "late")))
        #expect(rig.takeKills().isEmpty)
    }

    @Test func linesOfUnknownWorkersRequestsAndRepeatedResultsAreNothing() throws {
        let rig = Rig(Rig.plan())
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 2))
        let sent = try #require(rig.takeSends().first)
        rig.ok(Rig.Sent(worker: "nobody", request: 1, offsets: []), 0)
        rig.ok(Rig.Sent(worker: sent.worker, request: 77, offsets: []), 0)
        rig.ok(sent, 0, 0)
        rig.ok(sent, 0)
        #expect(rig.core.status.succeeded == 1)
        #expect(rig.commit()?.offset == 1)
    }

    @Test func workersAreAddedWhileEventsWaitAndProcessorsIdle() {
        let rig = Rig(Rig.plan(workers: 1...3, concurrency: 1))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 100))
        rig.tick(after: Rig.second, idle: 0.05)
        #expect(rig.takeStarts().isEmpty)
        rig.tick(after: Rig.second)
        let second = rig.takeStarts()
        #expect(second.count == 1)
        rig.tick(after: Rig.second)
        #expect(rig.takeStarts().isEmpty)
        rig.ready(second[0])
        rig.tick(after: Rig.second)
        let third = rig.takeStarts()
        #expect(third.count == 1)
        rig.ready(third[0])
        rig.tick(after: Rig.second)
        #expect(rig.takeStarts().isEmpty)
    }

    @Test func batchingDeploymentsGrowToo() {
        let rig = Rig(Rig.plan(batching: .init(size: 2, timeoutMilliseconds: 100), workers: 1...2, concurrency: 1))
        _ = rig.startWorker()
        rig.feed(Rig.records(from: 0, count: 100))
        rig.tick(after: Rig.second)
        #expect(rig.takeStarts().count == 1)
    }

    @Test func idleWorkersStopDownToTheMinimumAndComeBackFromZero() throws {
        let rig = Rig(Rig.plan(workers: 0...2))
        let worker = rig.startWorker()
        rig.run(59 * Rig.second)
        #expect(rig.takeStops().isEmpty)
        rig.run(2 * Rig.second)
        #expect(rig.takeStops() == [worker])
        rig.exit(worker, .stopped)
        rig.run(5 * Rig.second)
        #expect(rig.takeStarts().isEmpty)
        rig.feed(Rig.records(from: 0, count: 1))
        let next = try #require(rig.takeStarts().first)
        rig.ready(next)
        #expect(rig.takeSends().map(\.worker) == [next])
    }

    @Test func eventsThatComeWhileTheLastWorkerStopsGetAnother() throws {
        let rig = Rig(Rig.plan(workers: 0...2))
        _ = rig.startWorker()
        rig.run(62 * Rig.second)
        #expect(rig.takeStops().count == 1)
        rig.feed(Rig.records(from: 0, count: 1))
        rig.tick(after: 100_000)
        rig.ready(try #require(rig.takeStarts().first))
        #expect(rig.takeSends().map(\.offsets) == [[0]])
    }

    @Test func failedStartsAreSpacedOutAndSayWhy() throws {
        let rig = Rig(Rig.plan())
        rig.core.startWorker()
        rig.effects += rig.core.takeEffects()
        var starts = [Int64]()
        let begin = rig.now
        for _ in 0..<200 {
            for id in rig.takeStarts() {
                starts.append((rig.now - begin) / Rig.second)
                rig.take(.workerNotStarted(id: id, reason: "the bundle is gone"))
            }
            rig.tick(after: 500_000)
        }
        #expect(starts.prefix(6) == [0, 1, 3, 7, 15, 31])
        #expect(rig.core.status.reason == "the bundle is gone")
    }

    @Test func workersThatBecomeReadyAndDieIdleAreSpacedOutToo() throws {
        let rig = Rig(Rig.plan())
        rig.core.startWorker()
        rig.effects += rig.core.takeEffects()
        var count = 0
        for _ in 0..<300 {
            for id in rig.takeStarts() {
                count += 1
                rig.ready(id)
                rig.exit(id, .exited(status: 1))
            }
            rig.tick(after: 100_000)
        }
        #expect((4...7).contains(count))
    }

    @Test func reasonsOfDifferentKindsDoNotHideEachOther() {
        let rig = Rig(Rig.plan())
        rig.take(.inputs(reason: "topic 'x' is missing"))
        _ = rig.startWorker()
        #expect(rig.core.status.reason == "topic 'x' is missing")
        rig.take(.inputs(reason: nil))
        #expect(rig.core.status.reason == nil)
    }
}
