// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// How far a sink has come, as its loop knows it.
struct SinkProgress: ~Copyable {
    /// The offset to take next, by partition.
    var taken: [Int32: Int64]
    /// The offset up to which everything is in a commit, or in one under way.
    var committed: [Int32: Int64]
    /// Partitions that are read.
    var fed: Set<Int32> = []
    /// Fetched and not taken yet.
    var backlog: [(Fetched, OneTimeGate)] = []
    /// Rows that no commit has begun to write; the last is being filled.
    var current: [FreshRows] = []
    /// Rows of the commit under way.
    var committing: [FreshRows] = []
    var isCommitting = false
    /// Whether a commit should begin as soon as one may.
    var isDue = false
    /// Whether a timer runs for the oldest row in `current`.
    var hasTimer = false
    var failures = 0
    var mayCommitAt = ContinuousClock.now
    var lastRound: ContinuousClock.Instant?
    /// How long the last round took.
    var roundCost = Duration.zero
    /// Who wants a commit, and who waits for the one under way.
    var asked: [CheckedContinuation<TableCommit?, any Error>] = []
    var answering: [CheckedContinuation<TableCommit?, any Error>] = []
    private var ranges: [TableCommit.OffsetRange] = []

    init(offsets: [Int32: Int64]) {
        taken = offsets
        committed = offsets
    }

    var currentBytes: Int { current.reduce(0) { $0 + $1.byteCount } }
    var currentMemory: Int { current.reduce(0) { $0 + $1.memoryBytes } }
    var backlogBytes: Int { backlog.reduce(0) { $0 + $1.0.bytes.count } }
    /// Whether something was taken that no commit holds; also where it gave neither rows nor rejects.
    var hasFresh: Bool { taken.contains { $0.value > committed[$0.key] ?? 0 } }

    /// Hands out what was fetched, in the order it came.
    mutating func takeBacklog() -> [(Fetched, OneTimeGate)] {
        defer { backlog = [] }
        return backlog
    }

    /// What the next commit covers; counts as committed until the commit fails.
    mutating func takeRanges() -> [TableCommit.OffsetRange] {
        ranges = taken.sorted { $0.key < $1.key }.compactMap { partition, next in
            let from = committed[partition] ?? 0
            return next > from ? TableCommit.OffsetRange(partition: partition, from: from, to: next) : nil
        }
        for range in ranges { committed[range.partition] = range.to }
        return ranges
    }

    mutating func noteCommitted() { ranges = [] }

    mutating func failedRanges() {
        for range in ranges { committed[range.partition] = range.from }
        ranges = []
    }

    /// Lets go of everybody who waits.
    mutating func refuseAll() {
        for (_, taken) in backlog { taken.open() }
        backlog = []
        for answer in asked + answering {
            answer.resume(throwing: ServiceError(.unavailable, "the table's sink is stopping"))
        }
        asked = []
        answering = []
    }
}
