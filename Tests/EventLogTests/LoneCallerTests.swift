// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Synchronization
import Testing

struct LoneCallerTests {
    /// A caller that has been alone for as long as is asked for, the last time at 0.
    private static func alone(cycle: Int64 = 100_000) -> LoneCaller {
        var caller = LoneCaller()
        for number in 1...LoneCaller.runMin {
            caller.ended(appends: 1, nanoseconds: cycle, at: Int64(number - LoneCaller.runMin) * 1_000_000)
        }
        return caller
    }

    private func expect(
        _ wanted: Bool,
        _ caller: inout LoneCaller,
        bytes: Int,
        at now: Int64,
        _ when: Comment? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let mayWrite = caller.mayWrite(bytes: bytes, at: now)
        #expect(mayWrite == wanted, when, sourceLocation: sourceLocation)
    }

    @Test func writesAfterARunOfAppendsThatWereAlone() {
        var caller = LoneCaller()
        for number in 0..<LoneCaller.runMin {
            let now = Int64(number) * 1_000_000
            expect(false, &caller, bytes: 100, at: now, "\(number)")
            caller.ended(appends: 1, nanoseconds: 100_000, at: now + 100_000)
        }
        expect(true, &caller, bytes: 100, at: 1_000_000_000)
        expect(true, &caller, bytes: LoneCaller.batchBytesMax, at: 1_000_000_000)
        expect(false, &caller, bytes: LoneCaller.batchBytesMax + 1, at: 1_000_000_000)
    }

    @Test func companyBeginsANewRun() {
        let signs: [(String, (inout LoneCaller) -> Void)] = [
            ("a group", { $0.ended(appends: 2, nanoseconds: 100_000, at: 0) }),
            ("an append while another was written", { $0.met() }),
            ("one that waited", { _ = $0.mayWrite(bytes: 100, at: LoneCaller.pauseMin - 1) }),
        ]
        for (what, happens) in signs {
            var caller = Self.alone()
            happens(&caller)
            expect(false, &caller, bytes: 100, at: 1_000_000, "\(what)")
            for _ in 1..<LoneCaller.runMin { caller.ended(appends: 1, nanoseconds: 100_000, at: 0) }
            expect(false, &caller, bytes: 100, at: 1_000_000, "\(what), a run less one")
            caller.ended(appends: 1, nanoseconds: 100_000, at: 0)
            expect(true, &caller, bytes: 100, at: 1_000_000, "\(what), a run")
        }
        var caller = Self.alone()
        expect(true, &caller, bytes: 100, at: LoneCaller.pauseMin)
    }

    @Test func aSlowFlushKeepsCallersAwayForAWhile() {
        var caller = Self.alone()
        caller.ended(appends: 1, nanoseconds: 15_000_000, at: 0)
        var cycles = 0
        while !caller.mayWrite(bytes: 100, at: Int64(cycles + 1) * 1_000_000), cycles < 1000 {
            cycles += 1
            caller.ended(appends: 1, nanoseconds: 100_000, at: Int64(cycles) * 1_000_000)
        }
        #expect((20..<60).contains(cycles))
        caller = Self.alone()
        caller.ended(appends: 1, nanoseconds: LoneCaller.stallMin, at: 0)
        for number in 1...100 { caller.ended(appends: 1, nanoseconds: 100_000, at: Int64(number)) }
        expect(false, &caller, bytes: 100, at: LoneCaller.stallPause - 1)
        expect(true, &caller, bytes: 100, at: LoneCaller.stallPause)
        caller = Self.alone(cycle: LoneCaller.cycleMax + 1)
        expect(false, &caller, bytes: 100, at: 1_000_000)
    }
}

/// Appends that are flushed by their callers, told by the thread that flushes.
@Suite(.timeLimit(.minutes(3)))
struct InPlaceTests {
    /// Flushes, noting which thread did, and fails on demand.
    private final class Flushes: Sendable {
        private let caller = Mutex<pthread_t?>(nil)
        private let own = Atomic<Int>(0)
        let failsOwn = Atomic<Bool>(false)

        func flush(_ descriptor: Int32) -> Int32 {
            let isOwn = caller.withLock { $0.map { pthread_equal($0, pthread_self()) != 0 } ?? false }
            if isOwn {
                own.add(1, ordering: .relaxed)
                if failsOwn.load(ordering: .relaxed) { return EIO }
            }
            return fdatasync(descriptor) == 0 ? 0 : errno
        }

        /// Whether `submit` flushed on this thread.
        func byCaller(_ submit: () -> Void) -> Bool {
            caller.withLock { $0 = pthread_self() }
            let before = own.load(ordering: .relaxed)
            submit()
            caller.withLock { $0 = nil }
            return own.load(ordering: .relaxed) > before
        }
    }

    /// Appends one after the other, numbered from `first` on; returns how many the caller flushed.
    private func append(_ count: Int, from first: Int, to log: LocalLog, _ flushes: Flushes) async -> Int {
        var own = 0
        for number in first..<first + count {
            let answers = Answers()
            let isOwn = flushes.byCaller {
                log.submit(batch(["\(number)"]), to: p0, mayBlock: true, completion: answers.completion(0))
            }
            let result = await answers.all(1).first.flatMap { try? $0.result.get() }
            #expect(result?.baseOffset == Int64(number))
            if isOwn { own += 1 }
        }
        return own
    }

    private func withFlushes(_ body: (LocalLog, Flushes, TemporaryDirectory) async throws -> Void) async throws {
        let flushes = Flushes()
        let directory = try TemporaryDirectory()
        let settings = LocalLogSettings(loneCaller: LoneCaller(always: true), synchronize: { flushes.flush($0) })
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: TopicSettings())
            try await body(log, flushes, directory)
        }
    }

    @Test func whatACallerWroteIsThereAfterAKillAndInOrder() async throws {
        try await withFlushes { log, flushes, directory async throws in
            let own = await append(100, from: 0, to: log, flushes)
            #expect(own > 50)
            let killed = try directory.snapshot()
            try await withLog(killed) { log async throws in
                #expect(try await readAll(log, p0).map(\.text) == (0..<100).map(String.init))
                #expect(log.damage().isEmpty)
            }
        }
    }

    @Test func callersAndTheWriterThreadTakeTurns() async throws {
        try await withFlushes { log, flushes, _ async throws in
            var count = 0
            for round in 0..<20 {
                _ = await append(5, from: count, to: log, flushes)
                // Many at once, half of them from callers that may block, while one of them may be at work.
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<16 {
                        group.addTask {
                            let answers = Answers()
                            log.submit(
                                batch(["\(round)-\(number)"]),
                                to: p0,
                                mayBlock: number.isMultiple(of: 2),
                                completion: answers.completion(0)
                            )
                            let result = await answers.all(1).first.flatMap { try? $0.result.get() }
                            #expect(result != nil)
                        }
                    }
                }
                count += 21
            }
            #expect(try await readAll(log, p0).count == count)
        }
    }

    @Test func aFlushThatFailsAtTheCallersStopsThePartition() async throws {
        try await withFlushes { log, flushes, _ async throws in
            _ = await append(3, from: 0, to: log, flushes)
            flushes.failsOwn.store(true, ordering: .relaxed)
            var isStopped = false
            for number in 0..<1000 where !isStopped {
                let answers = Answers()
                _ = flushes.byCaller {
                    log.submit(batch(["x"]), to: p0, mayBlock: true, completion: answers.completion(number))
                }
                if case .failure(let error) = await answers.all(1).first?.result {
                    #expect(error.code == .partitionStopped)
                    isStopped = true
                }
            }
            #expect(isStopped)
            #expect(try await readAll(log, p0).count >= 3)
        }
    }
}
