// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension ConsumerGroup {
    /// Takes a sync; the answer comes as an effect, at once or when the leader's assignment is stored.
    ///
    /// An assignment by which the members would grow by more than `bytesLeft` is refused.
    package mutating func sync(
        _ request: GroupSync.Request,
        caller: GroupCaller,
        now: GroupTime,
        bytesLeft: Int = .max
    ) {
        if let error = refusal(of: request, bytesLeft) {
            effects.append(.sync(caller, .refused(error)))
            return
        }
        guard let member = members[request.memberID] else { return }
        if unsynced.remove(member.id) != nil, unsynced.isEmpty { syncDeadline = nil }
        if state == .stable {
            members[member.id]?.heartbeatDeadline = now.instant + member.sessionTimeout
            effects.append(.sync(caller, answer(with: member.assignment)))
            return
        }
        answerSync(of: member.id, .rebalanceInProgress, now: now)
        members[member.id]?.syncCaller = caller
        members[member.id]?.heartbeatDeadline = nil
        guard member.id == leader, assigning == nil else { return }
        var assignments: [String: [UInt8]] = [:]
        for assignment in request.assignments where members[assignment.memberID] != nil {
            assignments[assignment.memberID] = assignment.bytes
        }
        var group = snapshot()
        for index in group.members.indices {
            group.members[index].assignment = assignments[group.members[index].id] ?? []
        }
        let sequence = store(group)
        assigning = Assigning(sequence: sequence, assignments: assignments)
    }

    private func refusal(of request: GroupSync.Request, _ bytesLeft: Int) -> GroupError? {
        if let error = refusal(memberID: request.memberID, instanceID: request.instanceID) { return error }
        guard request.generation == generation else { return .illegalGeneration }
        if let type = request.protocolType, type != protocolType { return .inconsistentProtocol }
        if let name = request.protocolName, name != protocolName { return .inconsistentProtocol }
        switch state {
        case .empty: return .unknownMember
        case .dead: return .coordinatorNotAvailable
        case .preparingRebalance: return .rebalanceInProgress
        case .stable: return nil
        case .completingRebalance: break
        }
        let bytes = request.assignments.reduce(0) { $0 + $1.bytes.count }
        let metadata = members.values.reduce(0) { $0 + $1.metadataBytes }
        if bytes + metadata > settings.groupBytesMax { return .invalidRequest }
        // Becomes possible when other groups have shrunk, so the members are to try again.
        let growth = bytes - members.values.reduce(0) { $0 + $1.assignment.count }
        return growth > max(0, bytesLeft) ? .coordinatorNotAvailable : nil
    }

    /// The assignment is on disk: members may work.
    mutating func assign(_ assignments: [String: [UInt8]], now: GroupTime) {
        guard state == .completingRebalance else { return }
        state = .stable
        for member in orderedMembers {
            let assignment = assignments[member.id] ?? []
            members[member.id]?.assignment = assignment
            guard let caller = member.syncCaller else { continue }
            members[member.id]?.syncCaller = nil
            members[member.id]?.heartbeatDeadline = now.instant + member.sessionTimeout
            effects.append(.sync(caller, answer(with: assignment)))
        }
    }

    /// The assignment could not be stored: members are told to come again.
    mutating func failAssignment(now: GroupTime) {
        guard state == .completingRebalance else { return }
        refuseSyncs(.coordinatorNotAvailable, now: now)
        prepare(now: now)
    }

    private func answer(with assignment: [UInt8]) -> GroupSync.Answer {
        GroupSync.Answer(
            error: nil,
            protocolType: protocolType,
            protocolName: protocolName,
            assignment: assignment
        )
    }
}
