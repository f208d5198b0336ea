// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Logging
import MartletCore

/// Commits a deployment's positions: one commit at a time, what comes meanwhile goes into the next.
actor CommitQueue {
    private let log: any EventLog
    private let plan: DeploymentPlan
    private let logger: Logger
    private var waiting: [DispatchCore.PartitionKey: (offset: Int64, state: CommitState)] = [:]
    private var isCommitting = false
    private var idleWaiters: [CheckedContinuation<Void, Never>] = []

    init(log: any EventLog, plan: DeploymentPlan, logger: Logger) {
        self.log = log
        self.plan = plan
        self.logger = logger
    }

    /// Returns when `due` is committed, or when the log has refused it and the error is logged.
    func commit(_ due: [(key: DispatchCore.PartitionKey, offset: Int64, state: CommitState)]) async {
        for item in due { waiting[item.key] = (item.offset, item.state) }
        if isCommitting {
            await withCheckedContinuation { idleWaiters.append($0) }
            return
        }
        isCommitting = true
        while !waiting.isEmpty {
            let taken = waiting
            waiting = [:]
            await commit(taken)
        }
        isCommitting = false
        let waiters = idleWaiters
        idleWaiters = []
        for waiter in waiters { waiter.resume() }
    }

    private func commit(_ taken: [DispatchCore.PartitionKey: (offset: Int64, state: CommitState)]) async {
        var groups: [String: [TopicPartition: CommittedOffset]] = [:]
        let now = Timestamp.nowMicroseconds() / 1000
        for (key, item) in taken {
            let input = plan.inputs[key.input]
            groups[input.group, default: [:]][TopicPartition(topic: input.topic, partition: key.partition)] =
                CommittedOffset(offset: item.offset, metadata: item.state.metadata, committedAt: now)
        }
        for (group, offsets) in groups {
            do {
                try await log.commit(group: group, offsets: offsets)
            } catch {
                logger.error("a position cannot be committed", metadata: ["group": "\(group)", "error": "\(error)"])
            }
        }
    }
}
