// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import Synchronization

/// The memory in which reads of all subscriptions are decoded and kept: bounded, given to readers in turns.
///
/// Whoever reads claims bytes first. A claim is held by a reader at work, who waits for nobody, or rests with what was read because whoever
/// it is for has no room. What rests is taken away, the longest resting first, as soon as another reader needs the memory; it is read again
/// when there is room. So a reader waits for others at work alone, and never for somebody's client.
package final class ReadMemory<Kept: Sendable>: Sendable {
    /// Somebody who reads, for one subscription or call: each gets a claim in its turn, however many it waits for.
    package struct Reader: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    private struct Waiter: Sendable {
        let id: UInt64
        let bytes: Int
        let continuation: CheckedContinuation<UInt64?, Never>
    }

    private struct Entry: Sendable {
        var bytes: Int
        var kept: Kept?
        /// Tells this rest from those before it.
        var rest: UInt64 = 0
    }

    private struct State: Sendable {
        var entries: [UInt64: Entry] = [:]
        var bytes = 0
        var bytesPeak = 0
        var waiting: [Reader: Deque<Waiter>] = [:]
        /// The readers that wait, whose turn is first in front.
        var turns: Deque<Reader> = []
        /// What rests, the longest in front; what has been resumed since is passed over.
        var resting: Deque<(id: UInt64, rest: UInt64)> = []
        var lastNumber: UInt64 = 0

        mutating func number() -> UInt64 {
            lastNumber += 1
            return lastNumber
        }

        mutating func add(_ change: Int) {
            bytes += change
            bytesPeak = max(bytesPeak, bytes)
        }

        /// Takes away what has rested longest; nil where nothing rests.
        mutating func evict() -> Kept? {
            while let (id, rest) = resting.popFirst() {
                guard let entry = entries[id], entry.rest == rest, let kept = entry.kept else { continue }
                entries[id] = nil
                bytes -= entry.bytes
                return kept
            }
            return nil
        }
    }

    /// What is to be done once the lock is free.
    private struct Settlement: Sendable {
        var answers: [(CheckedContinuation<UInt64?, Never>, UInt64?)] = []
        /// Freed without the lock.
        var evicted: [Kept] = []

        consuming func finish() {
            for (continuation, id) in answers { continuation.resume(returning: id) }
        }
    }

    /// Most bytes claimed, but for a single claim that is larger, and for what reads turn out to be larger than they were thought.
    package let bytesMax: Int
    private let state = Mutex(State())

    /// Shares so many bytes.
    package init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    /// The bytes that are claimed now, the most there ever were, and how many claims wait.
    package var usage: (bytes: Int, peak: Int, waiting: Int) {
        state.withLock { state in (state.bytes, state.bytesPeak, state.waiting.values.reduce(0) { $0 + $1.count }) }
    }

    /// Somebody new who reads.
    package func reader() -> Reader { Reader(number: state.withLock { $0.number() }) }

    /// Waits for memory; nil where the task is cancelled.
    package func claim(_ bytes: Int, for reader: Reader) async -> Claim? {
        let waiter = state.withLock { $0.number() }
        let id = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let settlement = state.withLock { state -> Settlement in
                    guard !Task.isCancelled else { return Settlement(answers: [(continuation, nil)]) }
                    if state.waiting[reader] == nil { state.turns.append(reader) }
                    state.waiting[reader, default: []].append(
                        Waiter(id: waiter, bytes: bytes, continuation: continuation)
                    )
                    return settle(&state)
                }
                settlement.finish()
            }
        } onCancel: {
            giveUp(waiter, reader)
        }
        return id.map { Claim(memory: self, id: $0) }
    }

    private func giveUp(_ waiter: UInt64, _ reader: Reader) {
        let settlement = state.withLock { state -> Settlement in
            guard let place = state.waiting[reader]?.firstIndex(where: { $0.id == waiter }),
                let found = state.waiting[reader]?.remove(at: place)
            else { return Settlement() }
            if state.waiting[reader]?.isEmpty == true {
                state.waiting[reader] = nil
                state.turns.removeAll { $0 == reader }
            }
            // The next one may need less.
            var settlement = settle(&state)
            settlement.answers.append((found.continuation, nil))
            return settlement
        }
        settlement.finish()
    }

    /// Gives memory to those whose turn it is, taking away what rests where that is needed.
    private func settle(_ state: inout State) -> Settlement {
        var settlement = Settlement()
        while let reader = state.turns.first, let first = state.waiting[reader]?.first {
            while state.bytes + first.bytes > bytesMax, let kept = state.evict() { settlement.evicted.append(kept) }
            guard state.bytes == 0 || state.bytes + first.bytes <= bytesMax else { break }
            state.turns.removeFirst()
            state.waiting[reader]?.removeFirst()
            if state.waiting[reader]?.isEmpty == true {
                state.waiting[reader] = nil
            } else {
                state.turns.append(reader)
            }
            let id = state.number()
            state.entries[id] = Entry(bytes: first.bytes)
            state.add(first.bytes)
            settlement.answers.append((first.continuation, id))
        }
        while state.bytes > bytesMax, let kept = state.evict() { settlement.evicted.append(kept) }
        return settlement
    }

    private func change(_ body: (inout State) -> Void) {
        let settlement = state.withLock { state -> Settlement in
            body(&state)
            return settle(&state)
        }
        settlement.finish()
    }

    /// Bytes that a reader has; given back when it ends, or with the last reference.
    package final class Claim: Sendable {
        private let memory: ReadMemory
        private let id: UInt64

        fileprivate init(memory: ReadMemory, id: UInt64) {
            self.memory = memory
            self.id = id
        }

        deinit { end() }

        /// Says how many bytes there really are.
        package func resize(to bytes: Int) {
            memory.change { state in
                guard let entry = state.entries[id], entry.bytes != bytes else { return }
                state.entries[id]?.bytes = bytes
                state.add(bytes - entry.bytes)
            }
        }

        /// Keeps what was read until it can be used, or until the memory is wanted elsewhere; whoever calls keeps nothing of it.
        package func rest(with kept: Kept) {
            memory.change { state in
                guard state.entries[id] != nil else { return }
                let rest = state.number()
                state.entries[id]?.kept = kept
                state.entries[id]?.rest = rest
                state.resting.append((id, rest))
                if state.resting.count > 2 * state.entries.count + 64 {
                    let entries = state.entries
                    state.resting.removeAll { one in entries[one.id]?.rest != one.rest }
                }
            }
        }

        /// Takes what was kept; nil where it was taken away, with the claim.
        package func resume() -> Kept? {
            memory.state.withLock { state in
                guard let kept = state.entries[id]?.kept else { return nil }
                state.entries[id]?.kept = nil
                state.entries[id]?.rest = 0
                return kept
            }
        }

        /// Gives the bytes back.
        package func end() {
            memory.change { state in
                if let entry = state.entries.removeValue(forKey: id) { state.bytes -= entry.bytes }
            }
        }
    }
}
