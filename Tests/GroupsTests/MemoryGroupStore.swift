// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import Logging
import Synchronization

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A store in memory that can refuse and hold writes back.
final class MemoryGroupStore: GroupStore {
    struct Refusal: Error {}

    private struct State {
        var offsets: [String: [TopicPartition: CommittedOffset]] = [:]
        var states: [String: [UInt8]] = [:]
        var refuses = false
        var holdsCommits = false
        var held: [CheckedContinuation<Void, Never>] = []
        var unstable: Set<TopicPartition> = []
        var unfinished: Set<String> = []
    }

    private let state = Mutex(State())
    private let partitions: Set<TopicPartition>

    init(topics: [String: Int32] = ["t": 4, "u": 1]) {
        partitions = Set(
            topics.flatMap { topic, count in (0..<count).map { TopicPartition(topic: topic, partition: $0) } }
        )
    }

    var refuses: Bool {
        get { state.withLock { $0.refuses } }
        set { state.withLock { $0.refuses = newValue } }
    }

    var unstable: Set<TopicPartition> {
        get { state.withLock { $0.unstable } }
        set { state.withLock { $0.unstable = newValue } }
    }

    /// Whether commits wait for ``releaseCommits()``.
    func holdCommits() { state.withLock { $0.holdsCommits = true } }

    func releaseCommits() {
        let held = state.withLock { state in
            state.holdsCommits = false
            defer { state.held = [] }
            return state.held
        }
        for continuation in held { continuation.resume() }
    }

    var heldCount: Int { state.withLock { $0.held.count } }

    func setState(_ group: String, _ bytes: [UInt8]) { state.withLock { $0.states[group] = bytes } }

    func commit(group: String, offsets: [TopicPartition: CommittedOffset]) async throws {
        await withCheckedContinuation { continuation in
            let waits = state.withLock { state in
                if state.holdsCommits { state.held.append(continuation) }
                return state.holdsCommits
            }
            if !waits { continuation.resume() }
        }
        try state.withLock { state in
            if state.refuses { throw Refusal() }
            state.offsets[group, default: [:]].merge(offsets) { _, new in new }
        }
    }

    func committed(group: String) -> [TopicPartition: CommittedOffset] {
        state.withLock { $0.offsets[group] ?? [:] }
    }

    func deleteOffsets(group: String, of partitions: [TopicPartition]) async throws {
        state.withLock { state in for partition in partitions { state.offsets[group]?[partition] = nil } }
    }

    func storeState(_ group: String, _ bytes: [UInt8]?) async throws {
        try state.withLock { state in
            if state.refuses { throw Refusal() }
            state.states[group] = bytes
        }
    }

    func states() -> [String: [UInt8]] { state.withLock { $0.states } }

    func deleteGroup(_ group: String) async throws {
        try state.withLock { state in
            if state.refuses { throw Refusal() }
            state.offsets[group] = nil
            state.states[group] = nil
        }
    }

    func groups() -> [String] { state.withLock { $0.offsets.filter { !$0.value.isEmpty }.keys.sorted() } }

    func unfinishedGroups() -> Set<String> { state.withLock { $0.unfinished } }

    /// Groups for which a transaction has offsets.
    func setUnfinished(_ groups: Set<String>) { state.withLock { $0.unfinished = groups } }

    var offsetUsage: (groups: Int, bytes: Int) {
        state.withLock { state in
            let all = state.offsets.values.joined()
            return (state.offsets.count, all.reduce(0) { $0 + $1.value.byteCount(of: $1.key) })
        }
    }

    func exists(_ partition: TopicPartition) -> Bool { partitions.contains(partition) }

    func unstableOffsets(group: String) -> Set<TopicPartition> { unstable }
}

/// A clock that tests move.
final class ManualClock: Sendable {
    private let time = Mutex(GroupTime(instant: .now, wallMilliseconds: 1_700_000_000_000))

    var clock: GroupClock { GroupClock { self.time.withLock { $0 } } }

    func pass(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        time.withLock { time in
            time.instant += duration
            time.wallMilliseconds += seconds * 1000 + attoseconds / 1_000_000_000_000_000
        }
    }
}
