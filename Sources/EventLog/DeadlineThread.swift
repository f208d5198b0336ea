// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import HeapModule
import MartletCore

/// Calls back when deadlines pass: one thread for all waiting readers.
// SAFETY: the mutable fields are only touched with `condition` locked, in this file.
final class DeadlineThread: @unchecked Sendable {
    /// Names one deadline.
    struct ID: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    private struct Entry: Comparable {
        let nanoseconds: UInt64
        let number: UInt64

        static func < (left: Entry, right: Entry) -> Bool {
            (left.nanoseconds, left.number) < (right.nanoseconds, right.number)
        }
    }

    private let condition = ThreadCondition()
    private var heap = Heap<Entry>()
    private var actions: [UInt64: @Sendable () -> Void] = [:]
    private var lastNumber: UInt64 = 0
    private var isStopped = false
    private var thread: pthread_t?

    func start() {
        let started = startThread(name: "log-deadlines") { [self] in loop() }
        condition.lock()
        thread = started
        condition.unlock()
    }

    /// Ends the thread; deadlines not yet passed are forgotten.
    ///
    /// Blocks.
    func stop() {
        condition.lock()
        isStopped = true
        actions.removeAll()
        let running = thread
        thread = nil
        condition.signal()
        condition.unlock()
        if let running { pthread_join(running, nil) }
    }

    /// Calls `action` on the thread after `duration`, unless cancelled before.
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> ID {
        let (seconds, attoseconds) = duration.components
        let capped = UInt64(clamping: min(max(0, seconds), 1 << 32))
        let delay = capped * 1_000_000_000 + UInt64(clamping: attoseconds / 1_000_000_000)
        let nanoseconds = ThreadCondition.now() + delay
        condition.lock()
        defer { condition.unlock() }
        lastNumber += 1
        let isEarliest = heap.min.map { nanoseconds < $0.nanoseconds } ?? true
        heap.insert(Entry(nanoseconds: nanoseconds, number: lastNumber))
        actions[lastNumber] = action
        if isEarliest { condition.signal() }
        return ID(number: lastNumber)
    }

    func cancel(_ id: ID) {
        condition.lock()
        defer { condition.unlock() }
        actions[id.number] = nil
        // Cancelled entries stay in the heap until they would be the larger part of it.
        if heap.count > 64, heap.count > 2 * actions.count {
            heap = Heap(heap.unordered.filter { actions[$0.number] != nil })
        }
    }

    private func loop() {
        condition.lock()
        while !isStopped {
            guard let first = heap.min else {
                condition.wait()
                continue
            }
            if first.nanoseconds > ThreadCondition.now() {
                condition.wait(until: first.nanoseconds)
                continue
            }
            heap.removeMin()
            guard let action = actions.removeValue(forKey: first.number) else { continue }
            condition.unlock()
            action()
            condition.lock()
        }
        condition.unlock()
    }
}
