// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import GRPCCore
package import MartletCore
package import MartletProto
import SwiftProtobuf

/// `martlet.v1.Groups`, over the service the REST API uses.
package struct GroupsService: Martlet_V1_Groups.SimpleServiceProtocol {
    private let groups: any GroupServices
    private let explain: @Sendable (any Error) -> ServiceError

    /// Manages groups through `groups`; `explain` turns errors into what callers are told.
    package init(groups: any GroupServices, explain: @escaping @Sendable (any Error) -> ServiceError) {
        self.groups = groups
        self.explain = explain
    }

    package func listGroups(
        request: Martlet_V1_ListGroupsRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_ListGroupsResponse {
        try await explained {
            let listed = try await groups.list()
            return .with { $0.groups = listed.map(Self.group) }
        }
    }

    package func getGroup(
        request: Martlet_V1_GetGroupRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_Group {
        try await explained {
            let status = try await groups.get(request.name)
            var group = Self.group(status.summary)
            group.members = status.members.map { member in
                .with {
                    $0.id = member.memberId
                    $0.clientID = member.clientId
                    $0.clientHost = member.clientHost
                    $0.partitionCount = Int32(clamping: member.partitionCount)
                }
            }
            group.partitions = status.partitions.map { partition in
                .with {
                    $0.topic = partition.topic
                    $0.partition = partition.partition
                    if let offset = partition.committedOffset { $0.committedOffset = offset }
                    $0.startOffset = partition.startOffset
                    $0.endOffset = partition.endOffset
                    $0.lagRecords = partition.lagRecords
                    $0.lagSeconds = partition.lagSeconds
                }
            }
            return group
        }
    }

    package func resetGroup(
        request: Martlet_V1_ResetGroupRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_ResetGroupResponse {
        try await explained {
            let reset = GroupReset(
                try Self.target(request),
                topics: request.topics.isEmpty ? nil : request.topics,
                partitions: request.partitions.isEmpty ? nil : request.partitions,
                isDryRun: request.dryRun
            )
            let outcomes = try await groups.reset(request.name, reset)
            return .with { response in
                response.partitions = outcomes.map { outcome in
                    .with {
                        $0.topic = outcome.topic
                        $0.partition = outcome.partition
                        if let old = outcome.oldOffset { $0.oldOffset = old }
                        $0.newOffset = outcome.newOffset
                    }
                }
            }
        }
    }

    package func deleteGroup(
        request: Martlet_V1_DeleteGroupRequest,
        context: ServerContext
    ) async throws -> Martlet_V1_DeleteGroupResponse {
        try await explained {
            try await groups.delete(request.name)
            return Martlet_V1_DeleteGroupResponse()
        }
    }

    // MARK: Parts

    private func explained<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
        do { return try await body() } catch { throw RPCError(explain(error)) }
    }

    private static func target(_ request: Martlet_V1_ResetGroupRequest) throws(ServiceError) -> GroupReset.Target {
        switch request.to {
        case .earliest: .earliest
        case .latest: .latest
        case .timestampMs(let time): .time(milliseconds: time)
        case .offset(let offset): .offset(offset)
        case .by(let count): .by(count)
        case nil:
            throw .invalid(field: "to", "is missing", fix: "set one of earliest, latest, timestamp_ms, offset and by")
        }
    }

    private static func group(_ summary: GroupSummary) -> Martlet_V1_Group {
        .with {
            $0.name = summary.name
            $0.state = summary.state
            $0.topics = summary.topics
            $0.memberCount = Int32(clamping: summary.memberCount)
            $0.lagRecords = summary.lagRecords
            $0.lagSeconds = summary.lagSeconds
            $0.isInternal = summary.isInternal
        }
    }
}
