// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
import Logging
import Synchronization

extension GroupCoordinator {
    /// Whether a member may commit now; nil for yes.
    ///
    /// For transactions, whose offsets are stored when they end.
    package func checkCommit(group: String, by identity: GroupIdentity, isTransactional: Bool) -> GroupError? {
        if let error = refusal(of: group) { return error }
        return check(group, identity, isTransactional: isTransactional, begins: false).error
    }

    /// The offsets that can be committed, and why the others cannot.
    package func check(
        _ offsets: [TopicPartition: GroupOffsets.Position],
        of group: String
    ) -> (accepted: [TopicPartition: CommittedOffset], refused: [TopicPartition: GroupError]) {
        var accepted: [TopicPartition: CommittedOffset] = [:]
        var refused: [TopicPartition: GroupError] = [:]
        let committedAt = clock.now().wallMilliseconds
        for (partition, position) in offsets {
            if position.metadata.utf8.count > settings.offsetMetadataBytesMax {
                refused[partition] = .offsetMetadataTooLarge
            } else if !store.exists(partition) {
                refused[partition] = .unknownTopicOrPartition
            } else if position.offset < 0 {
                refused[partition] = .invalidRequest
            } else {
                accepted[partition] = CommittedOffset(
                    offset: position.offset,
                    metadata: position.metadata,
                    committedAt: committedAt,
                    leaderEpoch: position.leaderEpoch
                )
            }
        }
        for partition in tooMuch(accepted, of: group) {
            accepted[partition] = nil
            refused[partition] = .invalidCommitOffsetSize
        }
        return (accepted, refused)
    }

    /// Offsets for which there is no memory; those that take no more than what they replace are never among them.
    private func tooMuch(_ offsets: [TopicPartition: CommittedOffset], of group: String) -> [TopicPartition] {
        var left = settings.offsetsBytesMax - store.offsetUsage.bytes
        let wanted = offsets.reduce(0) { $0 + $1.value.byteCount(of: $1.key) }
        guard wanted > left else { return [] }
        let known = store.committed(group: group)
        return offsets.compactMap { partition, offset in
            let growth = offset.byteCount(of: partition) - (known[partition]?.byteCount(of: partition) ?? 0)
            guard growth <= max(0, left) else { return partition }
            left -= growth
            return nil
        }
    }

    /// OffsetCommit; what is not refused is on disk on return, all or nothing.
    package func commit(
        group: String,
        by identity: GroupIdentity,
        _ offsets: [TopicPartition: GroupOffsets.Position]
    ) async -> GroupOffsets.Outcome {
        if let error = refusal(of: group) { return GroupOffsets.Outcome(error: error) }
        let (error, flight) = check(group, identity, isTransactional: false, begins: true)
        guard error == nil, let (cell, ticket) = flight else { return GroupOffsets.Outcome(error: error) }
        var isStored = false
        defer {
            for promise in cell.contents.withLock({ $0.commits.end(ticket) }) { promise.fulfil(()) }
            // A group that was made for a commit that was refused must not count among the groups.
            if !isStored { forgetIfPristine(cell) }
        }
        let (accepted, refused) = check(offsets, of: group)
        var outcome = GroupOffsets.Outcome(refused: refused)
        guard !accepted.isEmpty else { return outcome }
        do {
            try await store.commit(group: group, offsets: accepted)
            isStored = true
        } catch let error as EventLogError where error.code == .unknownTopic || error.code == .unknownPartition {
            // A topic went away since it was looked at, and nothing was stored.
            for partition in accepted.keys {
                outcome.refused[partition] =
                    store.exists(partition) ? .coordinatorNotAvailable : .unknownTopicOrPartition
            }
        } catch {
            logger.error(
                "offsets cannot be stored",
                metadata: ["group": "\(group)", "error": "\(error)"]
            )
            for partition in accepted.keys { outcome.refused[partition] = .coordinatorNotAvailable }
        }
        return outcome
    }

    private func check(
        _ group: String,
        _ identity: GroupIdentity,
        isTransactional: Bool,
        begins: Bool
    ) -> (error: GroupError?, flight: (GroupCell, UInt64)?) {
        do {
            let creates = identity.generation < 0 && identity.memberID.isEmpty && begins
            let found = try withGroup(group, creating: creates, isTouch: true) {
                contents,
                now -> (GroupError?, UInt64) in
                let error = contents.machine.checkCommit(identity, isTransactional: isTransactional, now: now)
                return (error, error == nil && begins ? contents.commits.begin() : 0)
            }
            guard let (cell, (error, ticket)) = found else {
                // A group that nobody joined has no generation but can be committed for.
                guard identity.generation < 0, identity.memberID.isEmpty else { return (.illegalGeneration, nil) }
                return (hasRoom(for: group) ? nil : .groupMaxSizeReached, nil)
            }
            return error == nil ? (nil, (cell, ticket)) : (error, nil)
        } catch {
            return (error, nil)
        }
    }

    /// OffsetFetch; every partition where none is named.
    ///
    /// Waits for commits of the group that are being written. Unknown groups have no offsets, which is no error.
    package func committed(
        group: String,
        _ partitions: [TopicPartition]? = nil,
        requiresStable: Bool = false
    ) async -> GroupOffsets.Committed {
        if let error = refusal(of: group, allowsInternal: true) { return GroupOffsets.Committed(error: error) }
        // A closed coordinator has no commits on the way that are not in the store's order already.
        if let cell = try? cell(group, creating: false) {
            await cell.contents.withLock { $0.commits.barrier() }?.value()
        }
        // In this order: a transaction that ends in between stores its offsets before it stops being unfinished.
        let unstable = requiresStable ? store.unstableOffsets(group: group) : []
        var answer = GroupOffsets.Committed(offsets: store.committed(group: group), unstable: unstable)
        if let partitions {
            let wanted = Set(partitions)
            answer.offsets = answer.offsets.filter { wanted.contains($0.key) }
            answer.unstable.formIntersection(wanted)
        }
        return answer
    }

    /// OffsetDelete; partitions of topics that the group reads now are refused.
    package func deleteOffsets(group: String, of partitions: [TopicPartition]) async -> GroupOffsets.Outcome {
        if let error = refusal(of: group) { return GroupOffsets.Outcome(error: error) }
        var outcome = GroupOffsets.Outcome()
        do {
            let found = try withGroup(group, creating: false, isTouch: true) { contents, _ in
                Dictionary(
                    uniqueKeysWithValues: Set(partitions.map(\.topic)).map { topic in
                        (topic, contents.machine.refusalToDeleteOffsets(of: topic))
                    }
                )
            }
            let known = store.committed(group: group)
            if found == nil, known.isEmpty { return GroupOffsets.Outcome(error: .groupNotFound) }
            let refusals = found?.1 ?? [:]
            for partition in partitions {
                if let error = refusals[partition.topic] ?? nil { outcome.refused[partition] = error }
            }
            // A group of another kind refuses as a whole.
            if let whole = refusals.values.lazy.compactMap({ $0 }).first(where: { $0 != .groupSubscribedToTopic }) {
                return GroupOffsets.Outcome(error: whole)
            }
            for partition in partitions where outcome.refused[partition] == nil && !store.exists(partition) {
                outcome.refused[partition] = .unknownTopicOrPartition
            }
            let accepted = partitions.filter { outcome.refused[$0] == nil }
            try await store.deleteOffsets(group: group, of: accepted)
        } catch let error as GroupError {
            outcome.error = error
        } catch {
            logger.error("offsets cannot be deleted", metadata: ["group": "\(group)", "error": "\(error)"])
            outcome.error = .coordinatorNotAvailable
        }
        return outcome
    }
}
