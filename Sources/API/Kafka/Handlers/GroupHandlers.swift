// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import KafkaCodec
import MartletCore

// Membership and administration of consumer groups.
extension KafkaDoor {
    private enum KeyType {
        static let group: Int8 = 0
        static let transaction: Int8 = 1
    }

    private static let notAllowed = "no access rule allows it"

    /// Every group and every transactional id is coordinated here.
    func findCoordinator(_ request: FindCoordinatorRequest, _ call: Call) -> FindCoordinatorResponse {
        typealias Coordinator = FindCoordinatorResponse.Coordinator
        let place = advertised(to: call.session)
        let isKnown = request.keyType == KeyType.group || request.keyType == KeyType.transaction
        func refusal(_ key: String) -> KafkaErrorCode? {
            switch request.keyType {
            case KeyType.group: may(call.session, .describe, group: key) ? nil : .groupAuthorizationFailed
            case KeyType.transaction:
                may(call.session, .describe, transactionalID: key) ? nil : .transactionalIdAuthorizationFailed
            default: nil
            }
        }
        guard call.version >= 4 else {
            guard isKnown else {
                return FindCoordinatorResponse(
                    errorCode: .invalidRequest,
                    errorMessage: "key type \(request.keyType) does not exist",
                    nodeID: -1,
                    port: -1
                )
            }
            if let code = refusal(request.key) {
                return FindCoordinatorResponse(errorCode: code, errorMessage: Self.notAllowed, nodeID: -1, port: -1)
            }
            return FindCoordinatorResponse(nodeID: Self.nodeID, host: place.host, port: place.port)
        }
        return FindCoordinatorResponse(
            coordinators: request.coordinatorKeys.withoutRepeats().map { key in
                if let code = refusal(key) {
                    return Coordinator(
                        key: key,
                        nodeID: -1,
                        port: -1,
                        errorCode: code,
                        errorMessage: Self.notAllowed
                    )
                }
                return isKnown
                    ? Coordinator(key: key, nodeID: Self.nodeID, host: place.host, port: place.port)
                    : Coordinator(
                        key: key,
                        nodeID: -1,
                        port: -1,
                        errorCode: .invalidRequest,
                        errorMessage: "key type \(request.keyType) does not exist"
                    )
            }
        )
    }

    func joinGroup(_ request: JoinGroupRequest, _ call: Call) async -> JoinGroupResponse {
        guard may(call.session, .read, group: request.groupID) else {
            return JoinGroupResponse(
                errorCode: .groupAuthorizationFailed,
                generationID: -1,
                protocolName: call.version < 7 ? "" : nil,
                memberID: request.memberID
            )
        }
        let answer = await groups.join(
            GroupJoin.Request(
                group: request.groupID,
                memberID: request.memberID,
                instanceID: request.groupInstanceID,
                clientID: call.head.header.clientID ?? "",
                clientHost: "/\(call.session.peer)",
                protocolType: request.protocolType,
                protocols: request.protocols.map { GroupJoin.MemberProtocol(name: $0.name, metadata: $0.metadata) },
                sessionTimeout: .milliseconds(request.sessionTimeoutMs),
                // Version 0 has one time for both.
                rebalanceTimeout: .milliseconds(
                    call.version == 0 ? request.sessionTimeoutMs : request.rebalanceTimeoutMs
                ),
                requiresKnownMember: call.version >= 4,
                canSkipAssignment: call.version >= 9
            )
        )
        return JoinGroupResponse(
            errorCode: .of(answer.error),
            generationID: answer.generation,
            protocolType: answer.protocolType,
            protocolName: answer.protocolName ?? (call.version < 7 ? "" : nil),
            leader: answer.leader,
            skipAssignment: answer.skipsAssignment,
            memberID: answer.memberID,
            members: answer.members.map { member in
                JoinGroupResponse.JoinGroupResponseMember(
                    memberID: member.memberID,
                    groupInstanceID: member.instanceID,
                    metadata: member.metadata
                )
            }
        )
    }

    func syncGroup(_ request: SyncGroupRequest, _ call: Call) async -> SyncGroupResponse {
        guard may(call.session, .read, group: request.groupID) else {
            return SyncGroupResponse(errorCode: .groupAuthorizationFailed)
        }
        let answer = await groups.sync(
            GroupSync.Request(
                group: request.groupID,
                generation: request.generationID,
                memberID: request.memberID,
                instanceID: request.groupInstanceID,
                protocolType: request.protocolType,
                protocolName: request.protocolName,
                assignments: request.assignments.map {
                    GroupSync.Assignment(memberID: $0.memberID, bytes: $0.assignment)
                }
            )
        )
        return SyncGroupResponse(
            errorCode: .of(answer.error),
            protocolType: answer.protocolType,
            protocolName: answer.protocolName,
            assignment: answer.assignment
        )
    }

    func heartbeat(_ request: HeartbeatRequest, _ call: Call) -> HeartbeatResponse {
        guard may(call.session, .read, group: request.groupID) else {
            return HeartbeatResponse(errorCode: .groupAuthorizationFailed)
        }
        let identity = GroupIdentity(
            generation: request.generationID,
            memberID: request.memberID,
            instanceID: request.groupInstanceID
        )
        return HeartbeatResponse(errorCode: .of(groups.heartbeat(group: request.groupID, identity)))
    }

    func leaveGroup(_ request: LeaveGroupRequest, _ call: Call) -> LeaveGroupResponse {
        guard may(call.session, .read, group: request.groupID) else {
            return LeaveGroupResponse(errorCode: .groupAuthorizationFailed)
        }
        let isBatch = call.version >= 3
        let members =
            isBatch
            ? request.members.map { GroupLeave.Member(memberID: $0.memberID, instanceID: $0.groupInstanceID) }
            : [GroupLeave.Member(memberID: request.memberID)]
        let answer = groups.leave(group: request.groupID, members)
        guard isBatch else {
            return LeaveGroupResponse(errorCode: .of(answer.error ?? answer.members.first?.error))
        }
        return LeaveGroupResponse(
            errorCode: .of(answer.error),
            members: answer.members.map { outcome in
                LeaveGroupResponse.MemberResponse(
                    memberID: outcome.member.memberID,
                    groupInstanceID: outcome.member.instanceID,
                    errorCode: .of(outcome.error)
                )
            }
        )
    }

    func listGroups(_ request: ListGroupsRequest, _ call: Call) -> ListGroupsResponse {
        let seesAll = sees(call.session, .cluster, KafkaACL.clusterName)
        let all = groups.list(states: request.statesFilter, types: request.typesFilter)
        return ListGroupsResponse(
            groups: all.filter { seesAll || sees(call.session, .group, $0.group) }.map { group in
                ListGroupsResponse.ListedGroup(
                    groupID: group.group,
                    protocolType: group.protocolType,
                    groupState: group.state.rawValue,
                    groupType: GroupDescription.type
                )
            }
        )
    }

    func describeGroups(_ request: DescribeGroupsRequest, _ call: Call) -> DescribeGroupsResponse {
        typealias Group = DescribeGroupsResponse.DescribedGroup
        return DescribeGroupsResponse(
            groups: request.groups.withoutRepeats().map { name in
                var described = Group(groupID: name, authorizedOperations: Self.noOperations)
                guard may(call.session, .describe, group: name) else {
                    described.errorCode = .groupAuthorizationFailed
                    return described
                }
                if request.includeAuthorizedOperations {
                    described.authorizedOperations = operations(call.session, .group, name)
                }
                do throws(GroupError) {
                    guard let group = try groups.describe(name) else {
                        // Older versions have a state for it instead of an error.
                        described.groupState = ConsumerGroup.State.dead.rawValue
                        if call.version >= 6 {
                            described.errorCode = .groupIdNotFound
                            described.errorMessage = "there is no group '\(name)'"
                        }
                        return described
                    }
                    described.groupState = group.state.rawValue
                    described.protocolType = group.protocolType
                    described.protocolData = group.protocolName
                    described.members = group.members.map { member in
                        DescribeGroupsResponse.DescribedGroupMember(
                            memberID: member.memberID,
                            groupInstanceID: member.instanceID,
                            clientID: member.clientID,
                            clientHost: member.clientHost,
                            memberMetadata: member.metadata,
                            memberAssignment: member.assignment
                        )
                    }
                } catch {
                    described.errorCode = .of(error)
                }
                return described
            }
        )
    }

    func deleteGroups(_ request: DeleteGroupsRequest, _ call: Call) async throws -> DeleteGroupsResponse {
        var response = DeleteGroupsResponse()
        for name in request.groupsNames.withoutRepeats() {
            try Task.checkCancellation()
            let isAllowed = may(call.session, .delete, group: name)
            response.results.append(
                DeleteGroupsResponse.DeletableGroupResult(
                    groupID: name,
                    errorCode: isAllowed ? .of(await groups.delete(name)) : .groupAuthorizationFailed
                )
            )
        }
        return response
    }
}

extension KafkaErrorCode {
    /// The code of a group's refusal; none for nil.
    static func of(_ error: GroupError?) -> KafkaErrorCode {
        guard let error else { return .noError }
        return KafkaErrorCode(rawValue: error.rawValue) ?? .unknownServerError
    }
}
