// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Tables
import Testing

/// What sinks share: nothing is forgotten that waits, and nothing is taken that is not there.
@Suite(.timeLimit(.minutes(5))) struct SinkMemoryTests {
    /// A sink as the memory knows it: it is told things, and asked to commit what it holds.
    private final class Holder: Sendable {
        let account: SinkMemory.Account
        private let notices: AsyncStream<SinkMemory.Account.Notice>
        private let held = Mutex<[SinkMemory.Charge]>([])

        init(_ memory: SinkMemory) {
            let (notices, tell) = AsyncStream<SinkMemory.Account.Notice>.makeStream()
            self.notices = notices
            account = SinkMemory.Account(memory) { if $0 != .letGo { tell.yield($0) } }
            memory.open(account)
        }

        /// Takes memory `rounds` times and keeps all of it until it is asked to commit or has done its rounds.
        func run(rounds: Int, bytes: Int) async -> Int {
            var done = 0
            var told = notices.makeAsyncIterator()
            while done < rounds {
                if let charge = account.memory.reserve(bytes, least: bytes, for: account) {
                    held.withLock { $0.append(charge) }
                    done += 1
                    continue
                }
                waiting: while let notice = await told.next() {
                    switch notice {
                    case .room: break waiting
                    case .due: commit()
                    case .letGo: break
                    }
                }
            }
            commit()
            account.noteWoken()
            account.memory.close(account)
            return done
        }

        private func commit() {
            let charges = held.withLock { held in
                defer { held = [] }
                return held
            }
            guard !charges.isEmpty else { return account.noteNothingToCommit() }
            account.note(.committing)
            for charge in charges { charge.set(0) }
            account.note(.idle)
        }
    }

    /// The most there was of something.
    private final class Most: Sendable {
        private let most = Mutex(0)
        var bytes: Int { most.withLock { $0 } }
        func note(_ bytes: Int) { most.withLock { $0 = max($0, bytes) } }
    }

    @Test(arguments: [1, 4, 64]) func whoWaitsIsAlwaysWokenHoweverManyThereAre(limitMiB: Int) async {
        let memory = SinkMemory(limit: limitMiB << 20)
        let holders = (0..<300).map { _ in Holder(memory) }
        let most = Most()
        let done = await withTaskGroup(of: Int.self) { group in
            for holder in holders {
                group.addTask {
                    let done = await holder.run(rounds: 20, bytes: 100 << 10)
                    most.note(memory.bytes)
                    return done
                }
            }
            return await group.reduce(0, +)
        }
        #expect(done == 300 * 20)
        #expect(memory.bytes == 0)
        // Half is for rows, and a little more for sinks that have nothing.
        #expect(most.bytes <= max(limitMiB << 19, 2 << 20) + 2 << 20 + limitMiB << 16)
    }

    @Test func manySinksThatHoldALittleStayWithinTheSetting() {
        let memory = SinkMemory(limit: 64 << 20)
        let holders = (0..<1000).map { _ in SinkMemory.Account(memory) { _ in } }
        for holder in holders { memory.open(holder) }
        let charges = holders.map { memory.reserve(400 << 10, least: 400 << 10, for: $0) }
        #expect(charges.contains { $0 == nil } && charges[0] != nil)
        #expect(memory.bytes <= 32 << 20)
        #expect(memory.bytes == charges.reduce(0) { $0 + ($1?.bytes ?? 0) })
    }

    @Test func aSinkGoesOnWhileOthersHoldWhatTheyCannotCommit() throws {
        let memory = SinkMemory(limit: 64 << 20)
        let stuck = SinkMemory.Account(memory) { _ in }
        memory.open(stuck)
        let charge = memory.charge(stuck)
        charge.set(60 << 20)
        let other = SinkMemory.Account(memory) { _ in }
        memory.open(other)
        #expect(memory.reserve(1 << 20, least: 1 << 20, for: other) == nil)
        stuck.note(.failing)
        let first = try #require(memory.reserve(1 << 20, least: 1 << 20, for: other))
        #expect(first.bytes == 1 << 20)
        // It has something now, which it can commit.
        #expect(memory.reserve(1 << 20, least: 1 << 20, for: other) == nil)
        withExtendedLifetime((charge, first)) {}
    }

    @Test func whatIsFreedBetweenAskingAndWaitingIsNotMissed() throws {
        let memory = SinkMemory(limit: 64 << 20)
        let rooms = Mutex(0)
        let holder = SinkMemory.Account(memory) { _ in }
        let waiter = SinkMemory.Account(memory) { if $0 == .room { rooms.withLock { $0 += 1 } } }
        for account in [holder, waiter] { memory.open(account) }
        let all = memory.charge(holder)
        all.set(40 << 20)
        #expect(memory.reserve(1 << 20, least: 1 << 20, for: waiter) == nil)
        #expect(rooms.withLock { $0 } == 0)
        all.set(0)
        #expect(rooms.withLock { $0 } == 1)
        // What was freed is kept for who was woken.
        #expect(memory.charge(holder).grow(to: 23 << 20) == true)
        #expect(memory.reserve(1 << 20, least: 1 << 20, for: waiter)?.bytes == 1 << 20)
    }

    @Test func aCommitThatFailsHasAnotherSinkAsked() {
        let memory = SinkMemory(limit: 64 << 20)
        let asked = Mutex<[Int]>([])
        let holders = (0..<3).map { index in
            SinkMemory.Account(memory) { notice in if notice == .due { asked.withLock { $0.append(index) } } }
        }
        for holder in holders { memory.open(holder) }
        let charges = holders.map { memory.charge($0) }
        charges[0].set(30 << 20)
        charges[1].set(20 << 20)
        #expect(memory.reserve(1 << 20, least: 1 << 20, for: holders[2]) == nil)
        #expect(asked.withLock { $0 } == [0])
        holders[0].note(.committing)
        holders[0].note(.failing)
        #expect(asked.withLock { $0 } == [0, 1])
        // One that has nothing to commit is not asked again and again.
        holders[1].noteNothingToCommit()
        #expect(asked.withLock { $0 } == [0, 1])
        withExtendedLifetime(charges) {}
    }

    @Test func workOfEachKindGoesOnAndCountsAgainstRows() async {
        let memory = SinkMemory(limit: 64 << 20)
        let account = SinkMemory.Account(memory) { _ in }
        memory.open(account)
        // More than there is: one piece always goes on.
        memory.begin(.decompression, 100 << 20)
        memory.begin(.merge, 10 << 20)
        #expect(memory.bytes == 110 << 20)
        #expect(memory.charge(account).grow(to: 1 << 20) == false)
        let began = Most()
        let thread = Thread {
            memory.begin(.decompression, 100 << 20)
            began.note(1)
            memory.end(.decompression, 100 << 20)
        }
        thread.start()
        #expect(began.bytes == 0)
        memory.end(.decompression, 100 << 20)
        while !thread.isFinished { await Task.yield() }
        #expect(began.bytes == 1)
        memory.end(.merge, 10 << 20)
        #expect(memory.bytes == 0)
        #expect(memory.charge(account).grow(to: 1 << 20) == true)
    }
}
