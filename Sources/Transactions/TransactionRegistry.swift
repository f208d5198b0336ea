// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Synchronization

/// The states that are on disk, by transactional id, and who is working on which.
final class TransactionRegistry: Sendable {
    private struct Content {
        var states: [String: TransactionState] = [:]
        /// Ids being worked on, each with those who wait for it.
        var busy: [String: [CheckedContinuation<Bool, Never>]] = [:]
        /// Transactions with offsets that do not count yet, by group.
        var pending: [String: Set<String>] = [:]
        /// About what the states take in memory.
        var byteCount = 0
    }

    private let content = Mutex(Content())
    private let waitingMax: Int

    init(waitingMax: Int) {
        self.waitingMax = waitingMax
    }

    subscript(id: String) -> TransactionState? {
        content.withLock { $0.states[id] }
    }

    var all: [String: TransactionState] { content.withLock { $0.states } }

    var count: Int { content.withLock { $0.states.count } }

    var byteCount: Int { content.withLock { $0.byteCount } }

    var pendingGroups: Set<String> { content.withLock { Set($0.pending.keys) } }

    /// Takes in a state that is on disk, or that the id was forgotten.
    func set(_ id: String, _ state: TransactionState?) {
        content.withLock { content in
            for group in content.states[id]?.offsets.keys ?? [:].keys {
                content.pending[group]?.remove(id)
                if content.pending[group]?.isEmpty == true { content.pending[group] = nil }
            }
            content.byteCount += (state?.byteCount ?? 0) - (content.states[id]?.byteCount ?? 0)
            content.states[id] = state
            for group in state?.offsets.keys ?? [:].keys { content.pending[group, default: []].insert(id) }
        }
    }

    func pendingOffsets(of group: String) -> Set<TopicPartition> {
        content.withLock { content in
            (content.pending[group] ?? []).reduce(into: []) { found, id in
                found.formUnion((content.states[id]?.offsets[group] ?? [:]).keys)
            }
        }
    }

    /// Runs `body` while nobody else works on the id.
    ///
    /// - Throws: `.concurrentTransactions` when too many wait already.
    func exclusively<Value>(_ id: String, _ body: () async throws -> Value) async throws -> Value {
        let isGranted = await withCheckedContinuation { continuation in
            let immediate = content.withLock { content -> Bool? in
                guard let waiting = content.busy[id] else {
                    content.busy[id] = []
                    return true
                }
                guard waiting.count < waitingMax else { return false }
                content.busy[id]?.append(continuation)
                return nil
            }
            if let immediate { continuation.resume(returning: immediate) }
        }
        guard isGranted else { throw TransactionState.finishing }
        defer { release(id) }
        return try await body()
    }

    private func release(_ id: String) {
        let next = content.withLock { content -> CheckedContinuation<Bool, Never>? in
            guard content.busy[id]?.isEmpty == false else {
                content.busy[id] = nil
                return nil
            }
            return content.busy[id]?.removeFirst()
        }
        next?.resume(returning: true)
    }
}
