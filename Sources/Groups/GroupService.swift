// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import MartletCore

/// Consumer groups as people manage them, over the coordinator and the log.
package struct GroupService: GroupServices {
    /// Most topics, and most partitions, that a reset may name.
    private static let namedMax = 10_000

    private let coordinator: GroupCoordinator
    private let log: any EventLog
    private let clock: GroupClock

    /// Manages the coordinator's groups; `log` must be where their offsets point to.
    package init(coordinator: GroupCoordinator, log: any EventLog, clock: GroupClock = .system) {
        self.coordinator = coordinator
        self.log = log
        self.clock = clock
    }

    package func list() async throws -> [GroupSummary] {
        var summaries: [GroupSummary] = []
        for listed in coordinator.list() {
            guard let group = try describe(listed.group) else { continue }
            summaries.append(summary(of: group, try await partitions(of: group)))
        }
        return summaries
    }

    package func get(_ name: String) async throws -> GroupStatus {
        guard let group = try describe(name) else { throw Self.notFound(name) }
        let partitions = try await partitions(of: group)
        return GroupStatus(
            summary: summary(of: group, partitions),
            generation: group.generation,
            protocolName: group.protocolName,
            members: group.members.map { member in
                GroupMemberStatus(
                    memberId: member.memberID,
                    instanceId: member.instanceID,
                    clientId: member.clientID,
                    clientHost: member.clientHost,
                    partitionCount: Self.assigned(member, of: group).count
                )
            },
            partitions: partitions
        )
    }

    package func reset(_ name: String, _ reset: GroupReset) async throws -> [GroupResetOutcome] {
        let group = try describe(name)
        if group == nil, reset.topics == nil { throw Self.notFound(name) }
        if group?.isInternal == true || GroupCoordinator.isInternal(name) { throw Self.internalGroup(name) }
        if let group, group.state != .empty { throw Self.inUse(name) }
        let committed = try await log.committed(group: name)
        var outcomes: [GroupResetOutcome] = []
        for partition in try await scope(of: reset, committed) {
            let old = committed[partition]?.offset
            outcomes.append(
                GroupResetOutcome(
                    topic: partition.topic,
                    partition: partition.partition,
                    oldOffset: old,
                    newOffset: try await target(reset.target, partition, from: old)
                )
            )
        }
        if reset.isDryRun || outcomes.isEmpty { return outcomes }
        var offsets: [TopicPartition: GroupOffsets.Position] = [:]
        for outcome in outcomes {
            offsets[TopicPartition(topic: outcome.topic, partition: outcome.partition)] = .init(outcome.newOffset)
        }
        let result = await coordinator.commit(group: name, by: .simple, offsets)
        if let error = result.error ?? result.refused.values.first { throw Self.failure(error, name) }
        return outcomes
    }

    package func delete(_ name: String) async throws {
        if let error = await coordinator.delete(name) { throw Self.failure(error, name) }
    }

    // MARK: Looking up

    private func describe(_ name: String) throws -> GroupDescription? {
        do {
            return try coordinator.describe(name)
        } catch {
            throw Self.failure(error, name)
        }
    }

    private static func assigned(
        _ member: GroupDescription.Member,
        of group: GroupDescription
    ) -> [TopicPartition] {
        guard group.protocolType == ConsumerProtocol.type else { return [] }
        return ConsumerProtocol.assignedPartitions(member.assignment) ?? []
    }

    private func partitions(of group: GroupDescription) async throws -> [GroupPartitionStatus] {
        let committed = try await log.committed(group: group.group)
        var readers: [TopicPartition: String] = [:]
        for member in group.members {
            for partition in Self.assigned(member, of: group) { readers[partition] = member.memberID }
        }
        let lag = GroupLag(log: log)
        let now = clock.now().wallMilliseconds
        var statuses: [GroupPartitionStatus] = []
        let all = Set(committed.keys).union(readers.keys)
        for partition in all.sorted(by: { ($0.topic, $0.partition) < ($1.topic, $1.partition) }) {
            guard var status = await lag.status(partition, committed[partition], nowMilliseconds: now) else { continue }
            status.memberId = readers[partition]
            statuses.append(status)
        }
        return statuses
    }

    private func summary(of group: GroupDescription, _ partitions: [GroupPartitionStatus]) -> GroupSummary {
        GroupSummary(
            name: group.group,
            state: group.state.rawValue,
            protocolType: group.protocolType,
            memberCount: group.members.count,
            topics: Set(partitions.map(\.topic)).sorted(),
            lagRecords: partitions.reduce(0) { $0 + $1.lagRecords },
            lagSeconds: partitions.map(\.lagSeconds).max() ?? 0,
            isInternal: group.isInternal
        )
    }

    // MARK: Reset

    private func scope(
        of reset: GroupReset,
        _ committed: [TopicPartition: CommittedOffset]
    ) async throws -> [TopicPartition] {
        var all: Set<TopicPartition> = []
        if let named = reset.topics {
            let topics = try Self.named(named, "topics")
            for name in topics {
                guard let topic = try await log.topic(name) else { throw ServiceError.notFound(.topics, name) }
                for partition in 0..<topic.partitions { all.insert(TopicPartition(topic: name, partition: partition)) }
            }
        } else {
            all = Set(committed.keys)
        }
        if let named = reset.partitions {
            let numbers = try Self.named(named, "partitions")
            let known = Set(all.map(\.partition))
            if let number = numbers.subtracting(known).min() {
                throw ServiceError.invalid(
                    field: "partitions",
                    "there is no partition \(number) among the group's topics",
                    fix: "leave it out, or name a topic that has it"
                )
            }
            all = all.filter { numbers.contains($0.partition) }
        }
        return all.sorted { ($0.topic, $0.partition) < ($1.topic, $1.partition) }
    }

    private static func named<Name: Hashable>(_ names: [Name], _ field: String) throws(ServiceError) -> Set<Name> {
        guard names.count <= namedMax else {
            throw .invalid(
                field: field,
                "\(names.count) are named",
                fix: "name up to \(namedMax), or leave it out for all that the group has read"
            )
        }
        return Set(names)
    }

    private func target(
        _ target: GroupReset.Target,
        _ partition: TopicPartition,
        from old: Int64?
    ) async throws -> Int64 {
        let bounds = try log.bounds(partition)
        let wanted: Int64
        switch target {
        case .earliest: wanted = bounds.start
        case .latest: wanted = bounds.end
        case .offset(let offset): wanted = offset
        case .by(let count):
            let (sum, isTooLarge) = (old ?? bounds.start).addingReportingOverflow(count)
            wanted = isTooLarge ? (count < 0 ? bounds.start : bounds.end) : sum
        case .time(let milliseconds):
            wanted = try await log.offset(partition, atOrAfter: milliseconds)?.offset ?? bounds.end
        }
        return min(max(wanted, bounds.start), bounds.end)
    }

    // MARK: Errors

    private static func notFound(_ name: String) -> ServiceError {
        ServiceError(
            .notFound,
            "no consumer group named '\(name.prefix(260))'",
            fix: "list what exists with: martlet groups list"
        )
    }

    private static func inUse(_ name: String) -> ServiceError {
        ServiceError(
            .inUse,
            "consumer group '\(name)' has members",
            fix: "stop its consumers; members that were killed are dropped when their session ends"
        )
    }

    private static func internalGroup(_ name: String) -> ServiceError {
        let fix: String
        if name.hasPrefix("__table.") {
            let table = name.dropFirst("__table.".count)
            fix =
                "the table '\(table)' keeps its place together with its rows; to read its topic again make another table: "
                + "martlet tables create NAME --topic TOPIC"
        } else if name.hasPrefix("__pipeline.") {
            fix = "to read records again use: martlet pipelines replay NAME --from 1h"
        } else {
            fix = "choose a group of your own: martlet groups list"
        }
        return ServiceError(.forbidden, "consumer group '\(name)' is the engine's own", fix: fix)
    }

    private static func failure(_ error: GroupError, _ name: String) -> ServiceError {
        switch error {
        case .groupNotFound: notFound(name)
        case .nonEmptyGroup, .unknownMember, .rebalanceInProgress, .illegalGeneration: inUse(name)
        case .groupAuthorizationFailed: internalGroup(name)
        case .invalidGroupID:
            .invalid(
                field: "name",
                "'\(name.prefix(260))' cannot be the name of a consumer group",
                fix: "use 1 to 1024 bytes without control characters"
            )
        case .unknownTopicOrPartition:
            ServiceError(.notFound, "a topic of consumer group '\(name)' was deleted meanwhile", fix: "try again")
        default:
            ServiceError(
                .unavailable,
                "consumer group '\(name)' cannot be changed now (\(error))",
                fix: "try again; the engine's log has the cause"
            )
        }
    }
}
