// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Logging
import MartletCore
import Synchronization

/// Commits a deployment's positions: one commit at a time, what comes meanwhile goes into the next.
///
/// What the log refused stays and goes into the next commit; an older state never replaces a newer one.
actor CommitQueue {
    typealias Due = (key: DispatchCore.PartitionKey, offset: Int64, state: CommitState)

    private struct Item {
        var offset: Int64
        var state: CommitState
        var sequence: Int
    }

    private let log: any EventLog
    private let plan: DeploymentPlan
    private let logger: Logger
    private var waiting: [DispatchCore.PartitionKey: Item] = [:]
    private var newest: [DispatchCore.PartitionKey: Int] = [:]
    private var isCommitting = false
    private var idleWaiters: [CheckedContinuation<Void, Never>] = []
    /// Whether something the log refused waits for the next commit.
    nonisolated let isBehind = Mutex(false)

    init(log: any EventLog, plan: DeploymentPlan, logger: Logger) {
        self.log = log
        self.plan = plan
        self.logger = logger
    }

    /// Returns when `due` is committed, or when the log has refused it and the error is logged.
    ///
    /// `sequence` grows from call to call as the states were taken, since calls may overtake each other on their way here.
    func commit(_ due: [Due], sequence: Int) async {
        for item in due where newest[item.key, default: .min] < sequence {
            newest[item.key] = sequence
            waiting[item.key] = Item(offset: item.offset, state: item.state, sequence: sequence)
        }
        if isCommitting {
            await withCheckedContinuation { idleWaiters.append($0) }
            return
        }
        isCommitting = true
        var refused: [DispatchCore.PartitionKey: Item] = [:]
        while !waiting.isEmpty {
            let taken = waiting
            waiting = [:]
            refused.merge(await commit(taken)) { $1 }
        }
        for (key, item) in refused where newest[key] == item.sequence { waiting[key] = item }
        isBehind.withLock { [isBehind = !waiting.isEmpty] in $0 = isBehind }
        isCommitting = false
        let waiters = idleWaiters
        idleWaiters = []
        for waiter in waiters { waiter.resume() }
    }

    /// - Returns: What the log refused.
    private func commit(
        _ taken: [DispatchCore.PartitionKey: Item]
    ) async -> [DispatchCore.PartitionKey: Item] {
        var groups: [String: [DispatchCore.PartitionKey: Item]] = [:]
        for (key, item) in taken { groups[plan.inputs[key.input].group, default: [:]][key] = item }
        let now = Timestamp.nowMicroseconds() / 1000
        var refused: [DispatchCore.PartitionKey: Item] = [:]
        for (group, items) in groups {
            var offsets: [TopicPartition: CommittedOffset] = [:]
            for (key, item) in items {
                offsets[TopicPartition(topic: plan.inputs[key.input].topic, partition: key.partition)] =
                    CommittedOffset(offset: item.offset, metadata: item.state.metadata, committedAt: now)
            }
            do {
                try await log.commit(group: group, offsets: offsets)
            } catch {
                logger.error("a position cannot be committed", metadata: ["group": "\(group)", "error": "\(error)"])
                refused.merge(items) { $1 }
            }
        }
        return refused
    }
}
