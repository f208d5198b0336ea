// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)))
struct ReadMemoryTests {
    private typealias Memory = ReadMemory<String>

    private final class Order: Sendable {
        private let state = Mutex<[String]>([])
        var names: [String] { state.withLock { $0 } }
        func add(_ name: String) { state.withLock { $0.append(name) } }
    }

    /// Waits until so many claims wait.
    private func waiting(_ count: Int, in memory: Memory) async {
        while memory.usage.waiting != count { await Task.yield() }
    }

    @Test func memoryIsGivenToReadersInTurns() async throws {
        let memory = Memory(bytesMax: 10)
        let greedy = memory.reader()
        let modest = memory.reader()
        let first = try #require(await memory.claim(10, for: greedy))
        let order = Order()
        await withTaskGroup(of: Void.self) { group in
            for (number, (name, reader)) in [("g", greedy), ("g", greedy), ("g", greedy), ("m", modest)].enumerated() {
                group.addTask {
                    guard let claim = await memory.claim(10, for: reader) else { return }
                    order.add(name)
                    claim.end()
                }
                await waiting(number + 1, in: memory)
            }
            first.end()
        }
        // One of the greedy reader's, then the other's, whatever waits longer.
        #expect(order.names == ["g", "m", "g", "g"])
        #expect(memory.usage.bytes == 0)
        #expect(memory.usage.peak == 10)
    }

    @Test func whatRestsIsTakenAwayWhenAnotherNeedsTheMemoryTheLongestFirst() async throws {
        let memory = Memory(bytesMax: 30)
        let reader = memory.reader()
        let claims = [
            try #require(await memory.claim(10, for: reader)), try #require(await memory.claim(10, for: reader)),
            try #require(await memory.claim(10, for: reader)),
        ]
        for (number, claim) in claims.enumerated() { claim.rest(with: "\(number)") }
        #expect(claims[0].resume() == "0")
        claims[0].rest(with: "0")
        let other = try #require(await memory.claim(15, for: memory.reader()))
        #expect(claims.map { $0.resume() } == ["0", nil, nil])
        #expect(memory.usage.bytes == 25)
        #expect(memory.usage.peak == 30)
        other.end()
        claims[1].rest(with: "what was taken away does not come back")
        #expect(claims[1].resume() == nil)
    }

    @Test func whoeverIsAtWorkIsWaitedFor() async throws {
        let memory = Memory(bytesMax: 10)
        let claim = try #require(await memory.claim(10, for: memory.reader()))
        async let other = memory.claim(10, for: memory.reader())
        await waiting(1, in: memory)
        claim.rest(with: "now it can be taken away")
        #expect(await other != nil)
        #expect(claim.resume() == nil)
    }

    @Test func whatTurnsOutLargerIsTakenFromWhatRests() async throws {
        let memory = Memory(bytesMax: 30)
        let reader = memory.reader()
        let resting = try #require(await memory.claim(10, for: reader))
        resting.rest(with: "a")
        let working = try #require(await memory.claim(10, for: reader))
        working.resize(to: 20)
        #expect(memory.usage.bytes == 30)
        working.resize(to: 21)
        #expect(resting.resume() == nil)
        #expect(memory.usage.bytes == 21)
        // One read larger than all there is, alone.
        working.resize(to: 1)
        working.end()
        let large = try #require(await memory.claim(100, for: reader))
        #expect(memory.usage.bytes == 100)
        large.end()
    }

    @Test func cancelledClaimsLetOthersPass() async throws {
        let memory = Memory(bytesMax: 10)
        let small = try #require(await memory.claim(5, for: memory.reader()))
        let reader = memory.reader()
        await withTaskGroup(of: Bool.self) { large in
            large.addTask { await memory.claim(10, for: reader) == nil }
            await waiting(1, in: memory)
            await withTaskGroup(of: Bool.self) { behind in
                behind.addTask { await memory.claim(5, for: memory.reader()) != nil }
                await waiting(2, in: memory)
                large.cancelAll()
                for await isGranted in behind { #expect(isGranted) }
            }
            for await wasCancelled in large { #expect(wasCancelled) }
        }
        #expect(memory.usage.waiting == 0)
        small.end()
        #expect(memory.usage.bytes == 0)
    }

    @Test func aForgottenClaimIsGivenBack() async throws {
        let memory = Memory(bytesMax: 10)
        _ = await memory.claim(10, for: memory.reader())
        #expect(memory.usage.bytes == 0)
    }
}

@Suite struct MessagePackerTests {
    @Test func messagesStayBelowTheirSizeButForASinglePart() {
        var packer = MessagePacker(bytesMax: 100)
        var messages: [[UInt8]] = []
        for (number, size) in [60, 40, 1, 99, 500, 10, 10].enumerated() {
            if let full = packer.add({ $0 += Array(repeating: UInt8(number), count: size) }) { messages.append(full) }
        }
        if let rest = packer.take() { messages.append(rest) }
        #expect(messages.map(\.count) == [100, 100, 500, 20])
        #expect(
            messages.flatMap { $0 }.map { Int($0) }
                == [60, 40, 1, 99, 500, 10, 10].enumerated().flatMap { Array(repeating: $0, count: $1) }
        )
        let rest = packer.take()
        #expect(rest == nil)
    }

    @Test func aPartOfNothingIsNoMessage() {
        var packer = MessagePacker(bytesMax: 10)
        let full = packer.add { _ in }
        let rest = packer.take()
        #expect(full == nil && rest == nil)
    }
}
