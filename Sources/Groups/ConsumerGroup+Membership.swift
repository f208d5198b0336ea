// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension ConsumerGroup {
    /// Takes a heartbeat; nil for success.
    package mutating func heartbeat(_ identity: GroupIdentity, now: GroupTime) -> GroupError? {
        if let error = refusal(memberID: identity.memberID, instanceID: identity.instanceID) { return error }
        guard identity.generation == generation else { return .illegalGeneration }
        touch(identity.memberID, now: now)
        switch state {
        case .empty: return .unknownMember
        case .dead: return .coordinatorNotAvailable
        case .preparingRebalance: return .rebalanceInProgress
        case .completingRebalance, .stable: return nil
        }
    }

    /// Removes members, each with its own outcome; one rebalance for all of them.
    package mutating func leave(_ leaving: [GroupLeave.Member], now: GroupTime) -> GroupLeave.Answer {
        if state == .dead { return GroupLeave.Answer(error: .coordinatorNotAvailable) }
        let before = members.count
        var outcomes: [GroupLeave.Outcome] = []
        for member in leaving {
            let error = depart(member, now: now)
            outcomes.append(GroupLeave.Outcome(member: member, error: error))
        }
        if members.count < before { adjustToRemoval(now: now) } else { completeJoinIfAllJoined(now: now) }
        return GroupLeave.Answer(members: outcomes)
    }

    private mutating func depart(_ member: GroupLeave.Member, now: GroupTime) -> GroupError? {
        var id = member.memberID
        if id.isEmpty, let instance = member.instanceID {
            guard let current = staticMembers[instance] else { return .unknownMember }
            id = current
        }
        if pending[id] != nil, member.instanceID == nil {
            pending[id] = nil
            return nil
        }
        if let error = refusal(memberID: id, instanceID: member.instanceID) { return error }
        remove(id, now: now)
        return nil
    }

    /// Forgets a caller whose connection is gone.
    ///
    /// A member that never knew its id is removed, as it cannot come back. One that waited for its join does not hold up
    /// the others, and unless it comes back before they go on it is dropped then; a static one keeps its place. Otherwise
    /// a member has its session timeout to be heard of again.
    package mutating func abandon(_ caller: GroupCaller, now: GroupTime) {
        takeovers.removeAll { $0.caller == caller }
        for member in members.values where member.joinCaller == caller || member.syncCaller == caller {
            let isSync = member.syncCaller == caller
            members[member.id]?.joinCaller = nil
            members[member.id]?.syncCaller = nil
            if !member.canReturn, !isSync {
                remove(member.id, now: now)
                adjustToRemoval(now: now)
            } else {
                members[member.id]?.heartbeatDeadline = now.instant + member.sessionTimeout
                members[member.id]?.hasVanished = !isSync
                completeJoinIfAllJoined(now: now)
            }
            return
        }
    }

    /// Does what is due.
    package mutating func tick(now: GroupTime) {
        let expired = pending.filter { $0.value <= now.instant }.keys
        for id in expired { pending[id] = nil }
        if !expired.isEmpty { completeJoinIfAllJoined(now: now) }
        let silent = orderedMembers.filter { member in member.heartbeatDeadline.map { $0 <= now.instant } ?? false }
        for member in silent { remove(member.id, now: now) }
        if !silent.isEmpty { adjustToRemoval(now: now) }
        if let deadline = joinDeadline, deadline <= now.instant { passJoinDeadline(now: now) }
        if let deadline = calmDeadline, deadline <= now.instant { passCalmDeadline(now: now) }
        if let deadline = syncDeadline, deadline <= now.instant { passSyncDeadline(now: now) }
    }

    /// Members that joined and never asked for their assignment are gone.
    private mutating func passSyncDeadline(now: GroupTime) {
        syncDeadline = nil
        guard state == .completingRebalance || state == .stable, !unsynced.isEmpty else { return }
        for id in unsynced.sorted() { remove(id, now: now) }
        adjustToRemoval(now: now)
    }

    /// Takes a member out and answers what it waits for.
    mutating func remove(_ id: String, now: GroupTime) {
        answerJoin(of: id, .unknownMember)
        answerSync(of: id, .unknownMember, now: now)
        guard let member = members.removeValue(forKey: id) else { return }
        if let instance = member.instanceID, staticMembers[instance] == id { staticMembers[instance] = nil }
        if unsynced.remove(id) != nil, unsynced.isEmpty { syncDeadline = nil }
        if leader == id {
            leader = orderedMembers.first?.id
            hasLostLeader = true
        }
    }

    private mutating func adjustToRemoval(now: GroupTime) {
        switch state {
        case .stable, .completingRebalance, .preparingRebalance: rebalance(now: now)
        case .empty, .dead: break
        }
    }

    /// A member was heard of.
    mutating func touch(_ id: String, now: GroupTime) {
        // While an answer is owed to the member, its silence is the coordinator's.
        guard let member = members[id], member.joinCaller == nil, member.syncCaller == nil else { return }
        members[id]?.heartbeatDeadline = now.instant + member.sessionTimeout
        members[id]?.hasVanished = false
    }

    // MARK: Ending

    /// Makes an empty group refuse everything, so that it can be deleted; false when it has members.
    package mutating func close() -> Bool {
        guard state == .empty, pending.isEmpty else { return false }
        state = .dead
        return true
    }

    /// Takes a deletion back that failed.
    package mutating func reopen() {
        if state == .dead { state = .empty }
    }

    /// Answers everybody who waits, because the engine stops.
    package mutating func interrupt(now: GroupTime) {
        for takeover in takeovers {
            effects.append(
                .join(takeover.caller, .refused(.coordinatorNotAvailable, memberID: takeover.answer.memberID))
            )
        }
        takeovers = []
        for member in orderedMembers {
            answerJoin(of: member.id, .coordinatorNotAvailable)
            answerSync(of: member.id, .coordinatorNotAvailable, now: now)
        }
    }
}
