// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension ConsumerGroup {
    /// Takes a join; the answer comes as an effect, at once or when the next generation begins.
    ///
    /// - Parameters:
    ///   - request: What the member asks.
    ///   - freshID: The id the member gets if it has none; must never have been used.
    ///   - caller: Who gets the answer.
    ///   - now: The time.
    ///   - bytesLeft: By how much the members may grow.
    package mutating func join(
        _ request: GroupJoin.Request,
        freshID: String,
        caller: GroupCaller,
        now: GroupTime,
        bytesLeft: Int = .max
    ) {
        if let error = refusal(of: request, bytesLeft) {
            effects.append(.join(caller, .refused(error, memberID: request.memberID)))
            return
        }
        if request.memberID.isEmpty {
            joinWithoutID(request, freshID: freshID, caller: caller, now: now)
        } else {
            joinWithID(request, caller: caller, now: now)
        }
    }

    private func refusal(of request: GroupJoin.Request, _ bytesLeft: Int) -> GroupError? {
        if state == .dead { return .coordinatorNotAvailable }
        guard (settings.sessionTimeoutMin...settings.sessionTimeoutMax).contains(request.sessionTimeout) else {
            return .invalidSessionTimeout
        }
        if let error = settings.refusal(of: request) { return error }
        let isKnown =
            members[request.memberID] != nil || pending[request.memberID] != nil
            || request.instanceID.map { staticMembers[$0] != nil } ?? false
        let others = members.values.filter { !isSame($0, request) }
        let bytes = others.reduce(0) { $0 + $1.metadataBytes + $1.assignment.count }
        let added = request.protocols.reduce(0) { $0 + $1.metadata.count }
        if bytes + added > settings.groupBytesMax { return .groupMaxSizeReached }
        // Who is a member already can always come again, unless it brings more than it had.
        let known = members.values.first { isSame($0, request) }
        let growth = GroupMember(id: "", order: 0, request, settings).byteCount - (known?.byteCount ?? 0)
        if growth > max(0, bytesLeft) { return .groupMaxSizeReached }
        if !isKnown {
            if !request.memberID.isEmpty { return .unknownMember }
            if members.count + pending.count >= settings.membersMax { return .groupMaxSizeReached }
        }
        return supports(request) ? nil : .inconsistentProtocol
    }

    private mutating func joinWithoutID(
        _ request: GroupJoin.Request,
        freshID: String,
        caller: GroupCaller,
        now: GroupTime
    ) {
        if let instance = request.instanceID {
            if let current = staticMembers[instance] {
                takeOver(current, by: freshID, request, caller: caller, now: now)
            } else {
                add(freshID, request, caller: caller, now: now)
            }
        } else if request.requiresKnownMember {
            pending[freshID] = now.instant + request.sessionTimeout
            effects.append(.join(caller, .refused(.memberIDRequired, memberID: freshID)))
        } else {
            add(freshID, request, caller: caller, now: now)
        }
    }

    private mutating func joinWithID(_ request: GroupJoin.Request, caller: GroupCaller, now: GroupTime) {
        let id = request.memberID
        if pending[id] != nil {
            // An id given to a dynamic member; a static one by the same id can only be another client's.
            guard request.instanceID == nil else {
                effects.append(.join(caller, .refused(.unknownMember, memberID: id)))
                return
            }
            pending[id] = nil
            add(id, request, caller: caller, now: now, knowsID: true)
            return
        }
        if let error = refusal(memberID: id, instanceID: request.instanceID) {
            effects.append(.join(caller, .refused(error, memberID: id)))
            return
        }
        guard let member = members[id] else { return }
        let isUnchanged = member.protocols == request.protocols
        // Whoever waits for the next generation, or vanished while it did, is not part of this one.
        let missedAnswer = isUnchanged && isInGeneration(member)
        switch state {
        case .completingRebalance where missedAnswer, .stable where missedAnswer && id != leader:
            // The member missed the answer to its last join; a leader that comes again wants a new assignment.
            answerAgain(id, caller: caller, now: now)
        default: rejoin(id, request, caller: caller, now: now)
        }
    }

    private mutating func add(
        _ id: String,
        _ request: GroupJoin.Request,
        caller: GroupCaller,
        now: GroupTime,
        knowsID: Bool = false
    ) {
        if members.isEmpty { protocolType = request.protocolType }
        var member = GroupMember(id: id, order: nextOrder, request, settings)
        member.canReturn = knowsID || request.instanceID != nil
        nextOrder += 1
        member.joinCaller = caller
        // A client that does not know its id cannot send heartbeats; one whose connection broke comes as yet another member.
        member.heartbeatDeadline = now.instant + settings.newMemberJoinTimeout
        members[id] = member
        if let instance = request.instanceID { staticMembers[instance] = id }
        if leader == nil { leader = id }
        if initialWaitLeft != nil { hasNewMember = true }
        rebalance(now: now)
    }

    private mutating func rejoin(_ id: String, _ request: GroupJoin.Request, caller: GroupCaller, now: GroupTime) {
        answerJoin(of: id, .rebalanceInProgress)
        guard var member = members[id] else { return }
        member.update(request, settings)
        member.joinCaller = caller
        member.hasVanished = false
        // As in add(): a new one cannot send heartbeats.
        member.heartbeatDeadline = member.isNew ? now.instant + settings.newMemberJoinTimeout : nil
        members[id] = member
        if unsynced.remove(id) != nil, unsynced.isEmpty { syncDeadline = nil }
        rebalance(now: now)
    }

    private mutating func answerAgain(_ id: String, caller: GroupCaller, now: GroupTime) {
        guard let member = members[id] else { return }
        effects.append(.join(caller, joinAnswer(for: member)))
        if member.syncCaller == nil { members[id]?.heartbeatDeadline = now.instant + member.sessionTimeout }
    }

    func joinAnswer(for member: GroupMember) -> GroupJoin.Answer {
        var answer = GroupJoin.Answer(memberID: member.id)
        answer.generation = generation
        answer.protocolType = protocolType
        answer.protocolName = protocolName
        answer.leader = leader ?? ""
        // Of a stable group nobody is asked for an assignment, so nobody needs the members.
        if member.id == leader, state != .stable { answer.members = peers() }
        return answer
    }

    private func peers() -> [GroupJoin.Peer] {
        orderedMembers.map {
            GroupJoin.Peer(memberID: $0.id, instanceID: $0.instanceID, metadata: $0.metadata(of: protocolName))
        }
    }

    /// A restarted static member takes the place of its former self.
    private mutating func takeOver(
        _ old: String,
        by new: String,
        _ request: GroupJoin.Request,
        caller: GroupCaller,
        now: GroupTime
    ) {
        answerJoin(of: old, .fencedInstance)
        answerSync(of: old, .fencedInstance, now: now)
        guard var member = members.removeValue(forKey: old), let instance = member.instanceID else { return }
        let formerLeader = leader
        let formerTopics = subscription(of: member, in: protocolName)
        member.id = new
        member.hasVanished = false
        member.update(request, settings)
        member.heartbeatDeadline = now.instant + member.sessionTimeout
        members[new] = member
        staticMembers[instance] = new
        if leader == old { leader = new }
        if unsynced.remove(old) != nil { unsynced.insert(new) }

        let keepsAssignment =
            state == .stable && electedProtocol() == protocolName
            && subscription(of: member, in: protocolName) == formerTopics
        guard keepsAssignment else {
            member.joinCaller = caller
            member.heartbeatDeadline = member.isNew ? now.instant + settings.newMemberJoinTimeout : nil
            members[new] = member
            rebalance(now: now)
            return
        }
        var answer = joinAnswer(for: member)
        if request.canSkipAssignment {
            answer.skipsAssignment = new == leader
            if new == leader { answer.members = peers() }
        } else {
            // Before version 9 a leader can only be kept from assigning by not telling it that it leads.
            answer.leader = formerLeader ?? ""
        }
        let sequence = store(snapshot())
        takeovers.append(Takeover(sequence: sequence, caller: caller, answer: answer))
    }
}

extension GroupSettings {
    /// Refuses what no group takes.
    func refusal(of request: GroupJoin.Request) -> GroupError? {
        guard !request.protocolType.isEmpty, !request.protocols.isEmpty else { return .inconsistentProtocol }
        let names = request.protocols.map(\.name)
        guard request.protocols.count <= protocolsMax, Set(names).count == names.count,
            request.protocols.reduce(0, { $0 + $1.metadata.count }) <= memberMetadataBytesMax,
            (names + [request.protocolType, request.memberID, request.instanceID ?? "", request.clientID])
                .allSatisfy({ $0.utf8.count <= nameBytesMax })
        else { return .invalidRequest }
        return nil
    }
}
