// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Logging
import Synchronization

extension GroupCoordinator {
    /// What the engine calls the protocol of its own groups.
    package static let internalProtocol = "martlet"

    /// DescribeGroups of one group; nil when there is none.
    package func describe(_ group: String) throws(GroupError) -> GroupDescription? {
        if let error = refusal(of: group, allowsInternal: true) { throw error }
        let offsets = store.committed(group: group)
        if Self.isInternal(group) { return offsets.isEmpty ? nil : Self.internalGroup(group, offsets) }
        if let cell = try cell(group, creating: false) {
            let (description, isKnown) = cell.contents.withLock { ($0.machine.description, !$0.machine.isPristine) }
            return isKnown || !offsets.isEmpty ? description : nil
        }
        return offsets.isEmpty ? nil : GroupDescription(group: group, state: .empty, protocolType: "")
    }

    /// ListGroups, ordered by name, members left out; empty filters let everything through.
    ///
    /// - Parameters:
    ///   - states: Names of states as Kafka writes them; upper and lower case are the same.
    ///   - types: Names of types; this engine has `classic` only.
    /// - Returns: The groups that fit both.
    package func list(states: [String] = [], types: [String] = []) -> [GroupDescription] {
        guard types.isEmpty || types.contains(where: { $0.lowercased() == GroupDescription.type }) else { return [] }
        let wanted = Set(states.map { $0.lowercased() })
        var groups: [String: GroupDescription] = [:]
        for name in store.groups() {
            var description = GroupDescription(group: name, state: .empty, protocolType: "")
            if Self.isInternal(name) {
                description.state = .stable
                description.protocolType = ConsumerProtocol.type
                description.isInternal = true
            }
            groups[name] = description
        }
        for cell in cells() {
            let (description, isPristine) = cell.contents.withLock { contents in
                var description = GroupDescription(
                    group: cell.name,
                    state: contents.machine.state,
                    protocolType: contents.machine.protocolType
                )
                description.generation = contents.machine.generation
                return (description, contents.machine.isPristine)
            }
            if !isPristine { groups[cell.name] = description }
        }
        return groups.values
            .filter { wanted.isEmpty || wanted.contains($0.state.rawValue.lowercased()) }
            .sorted { $0.group < $1.group }
    }

    /// DeleteGroups of one group; nil for success, with offsets and state gone from disk.
    package func delete(_ group: String) async -> GroupError? {
        if let error = refusal(of: group) { return error }
        guard let description = try? describe(group) else { return .groupNotFound }
        guard description.state != .dead else { return .groupNotFound }
        return await remove(group, if: { _ in true })
    }

    /// Deletes groups that have had no members and no commits for the retention time.
    package func expireOffsets() async {
        let (seconds, attoseconds) = settings.offsetsRetention.components
        let kept = seconds * 1000 + attoseconds / 1_000_000_000_000_000
        let now = clock.now().wallMilliseconds
        for group in list(states: [ConsumerGroup.State.empty.rawValue]) where !group.isInternal {
            guard !Task.isCancelled else { return }
            let lastCommit = store.committed(group: group.group).values.map(\.committedAt).max()
            let error = await remove(group.group) { contents in
                guard let last = [contents.machine.emptySince, lastCommit].compactMap({ $0 }).max() else {
                    return false
                }
                return now - last >= kept
            }
            if error == nil { logger.info("deleted an expired consumer group", metadata: ["group": "\(group.group)"]) }
        }
    }

    /// Closes an empty group and has it deleted; nil for success.
    private func remove(
        _ group: String,
        if condition: @Sendable (GroupCell.Contents) -> Bool
    ) async -> GroupError? {
        let promise = Promise<Bool>()
        do {
            let found = try withGroup(group, creating: true) { contents, _ -> GroupError? in
                guard condition(contents) else { return .nonEmptyGroup }
                guard contents.machine.close() else { return .nonEmptyGroup }
                contents.removal = promise
                return nil
            }
            guard let (cell, error) = found else { return .groupNotFound }
            if let error { return error }
            interruptIfClosed(cell)
        } catch {
            return error
        }
        return await promise.value() ? nil : .coordinatorNotAvailable
    }

    /// An engine's group as Kafka's tools can read it: one member that has every partition with an offset.
    ///
    /// Tools that watch lag only look at groups of consumers, and show partitions with the member that reads them.
    private static func internalGroup(
        _ name: String,
        _ offsets: [TopicPartition: CommittedOffset]
    ) -> GroupDescription {
        var group = GroupDescription(group: name, state: .stable, protocolType: ConsumerProtocol.type)
        group.protocolName = internalProtocol
        group.isInternal = true
        group.members = [
            GroupDescription.Member(
                memberID: internalProtocol,
                clientID: internalProtocol,
                clientHost: "/127.0.0.1",
                metadata: ConsumerProtocol.subscription(to: Set(offsets.keys.map(\.topic)).sorted()),
                assignment: ConsumerProtocol.assignment(of: Array(offsets.keys))
            )
        ]
        return group
    }
}
