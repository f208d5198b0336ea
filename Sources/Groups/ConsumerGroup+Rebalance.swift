// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension ConsumerGroup {
    /// Begins a rebalance, or ends the join phase of the one that goes on where nobody is missing.
    mutating func rebalance(now: GroupTime) {
        switch state {
        case .empty: prepare(now: now)
        case .completingRebalance, .stable:
            guard let end = endOfCalm(now: now) else { return prepare(now: now) }
            calmDeadline = end
        case .preparingRebalance: completeJoinIfAllJoined(now: now)
        case .dead: break
        }
    }

    /// Until when the generation is to be left alone; nil where it may end now.
    ///
    /// Where members come and go faster than an assignment can be made and worked on, each rebalance would be overtaken by
    /// the next one and nobody would ever read a record. So after many generations in a short time the next one waits,
    /// and takes in all that came and went meanwhile. Without a leader to assign, or members that work, there is nothing
    /// to wait for.
    private func endOfCalm(now: GroupTime) -> ContinuousClock.Instant? {
        guard recentBegins.count >= settings.calmGenerations, let first = recentBegins.first,
            let last = recentBegins.last,
            first + settings.calmPeriod > now.instant
        else { return nil }
        let end = last + settings.calmTime
        guard end > now.instant else { return nil }
        switch state {
        case .completingRebalance:
            guard !hasLostLeader, let leader, let member = members[leader], isInGeneration(member) else { return nil }
        case .stable: guard members.values.contains(where: isInGeneration) else { return nil }
        case .empty, .preparingRebalance, .dead: return nil
        }
        return end
    }

    /// Whether a member has, or is about to get, a part of the current assignment and does not wait for the next one.
    func isInGeneration(_ member: GroupMember) -> Bool {
        !member.isNew && member.joinCaller == nil && !member.hasVanished
    }

    /// The generation was left alone long enough.
    mutating func passCalmDeadline(now: GroupTime) {
        calmDeadline = nil
        if state == .stable || state == .completingRebalance { prepare(now: now) }
    }

    mutating func prepare(now: GroupTime) {
        let isFirst = state == .empty
        calmDeadline = nil
        if state == .completingRebalance { refuseSyncs(.rebalanceInProgress, now: now) }
        syncDeadline = nil
        unsynced = []
        state = .preparingRebalance
        emptySince = nil
        if isFirst, settings.initialRebalanceDelay > .zero {
            let longest = min(rebalanceTimeout, settings.initialRebalanceWaitMax)
            initialWaitLeft = max(longest - settings.initialRebalanceDelay, .zero)
            hasNewMember = false
            joinDeadline = now.instant + settings.initialRebalanceDelay
        } else if isFirst {
            completeJoin(now: now)
        } else {
            joinDeadline = now.instant + rebalanceTimeout
            completeJoinIfAllJoined(now: now)
        }
    }

    /// Begins the next generation where nobody is missing.
    ///
    /// Those that were given an id are on their way, so they are waited for, but not for long: a client that asks for ids
    /// again and again and uses none must not stop the group.
    mutating func completeJoinIfAllJoined(now: GroupTime) {
        guard state == .preparingRebalance, initialWaitLeft == nil, hasAllJoined else { return }
        guard !pending.isEmpty else { return completeJoin(now: now) }
        let deadline = now.instant + settings.pendingMemberWait
        joinDeadline = joinDeadline.map { min($0, deadline) } ?? deadline
    }

    /// The time to join is over.
    mutating func passJoinDeadline(now: GroupTime) {
        if let left = initialWaitLeft, hasNewMember, left > .zero {
            let delay = min(settings.initialRebalanceDelay, left)
            initialWaitLeft = left - delay
            hasNewMember = false
            joinDeadline = now.instant + delay
            return
        }
        completeJoin(now: now)
    }

    /// Begins the next generation with the members that joined.
    mutating func completeJoin(now: GroupTime) {
        initialWaitLeft = nil
        joinDeadline = nil
        for member in orderedMembers where member.joinCaller == nil && member.instanceID == nil {
            remove(member.id, now: now)
        }
        if members.isEmpty { return becomeEmpty(now: now) }
        guard electJoinedLeader() else {
            // Only static members are left and none has come: they keep their places until their sessions end.
            joinDeadline = now.instant + max(rebalanceTimeout, settings.retryDelay)
            return
        }
        let next = nextGeneration
        guard next <= reservedThrough else { return reserve(now: now) }
        isWaitingForReservation = false
        generation = next
        hasLostLeader = false
        recentBegins.append(now.instant)
        if recentBegins.count > settings.calmGenerations { recentBegins.removeFirst() }
        protocolName = electedProtocol()
        state = .completingRebalance
        syncDeadline = now.instant + rebalanceTimeout
        for member in orderedMembers {
            members[member.id]?.assignment = []
            members[member.id]?.hasVanished = false
            guard let caller = member.joinCaller else { continue }
            members[member.id]?.joinCaller = nil
            members[member.id]?.isNew = false
            members[member.id]?.canReturn = true
            members[member.id]?.heartbeatDeadline = now.instant + member.sessionTimeout
            unsynced.insert(member.id)
            effects.append(.join(caller, joinAnswer(for: member)))
        }
    }

    private mutating func becomeEmpty(now: GroupTime) {
        isWaitingForReservation = false
        generation = nextGeneration
        protocolName = nil
        leader = nil
        state = .empty
        emptySince = now.wallMilliseconds
        _ = store(snapshot())
    }

    /// A leader that did not come gives its place to the oldest member that did; false when none did.
    private mutating func electJoinedLeader() -> Bool {
        if let leader, members[leader]?.joinCaller != nil { return true }
        guard let next = orderedMembers.first(where: { $0.joinCaller != nil }) else { return false }
        leader = next.id
        return true
    }

    // MARK: Generations

    /// The next generation's number, beyond all that may have been given out before.
    ///
    /// What has been told to members may not have been stored when the engine stops, and a number must not name two
    /// different assignments. So numbers are reserved on disk in advance, and a restart goes on behind the reserved ones.
    var nextGeneration: Int32 { max(generation + 1, generationFloor) }

    private mutating func reserve(now: GroupTime) {
        guard !isWaitingForReservation else { return }
        isWaitingForReservation = true
        // What members were last told to work on stays on disk; only the reservation changes.
        _ = store(lastStored ?? StoredGroup(protocolType: "", generation: 0))
    }

    /// A write has ended, and with it those before it.
    package mutating func stored(through sequence: UInt64, succeeded: Bool, now: GroupTime) {
        let ended = storing.filter { $0.key <= sequence }
        for key in ended.keys { storing[key] = nil }
        if succeeded { reservedThrough = max(reservedThrough, ended.values.max() ?? 0) }
        for takeover in takeovers where takeover.sequence <= sequence {
            let answer = takeover.answer
            effects.append(
                .join(
                    takeover.caller,
                    succeeded ? answer : .refused(.coordinatorNotAvailable, memberID: answer.memberID)
                )
            )
        }
        takeovers.removeAll { $0.sequence <= sequence }
        if let assigning, assigning.sequence <= sequence {
            self.assigning = nil
            if succeeded { assign(assigning.assignments, now: now) } else { failAssignment(now: now) }
        }
        guard isWaitingForReservation, state == .preparingRebalance, !ended.isEmpty else { return }
        isWaitingForReservation = false
        if succeeded {
            // The join phase was over when the reservation was asked for.
            completeJoin(now: now)
        } else {
            refuseJoins(.coordinatorNotAvailable, now: now)
            joinDeadline = now.instant + max(rebalanceTimeout, settings.retryDelay)
        }
    }

    // MARK: Storing

    @discardableResult mutating func store(_ group: StoredGroup) -> UInt64 {
        var group = group
        lastSequence += 1
        let reserved = max(reservedThrough, nextGeneration + Self.generationsReserved)
        group.reservedThrough = reserved
        storing[lastSequence] = reserved
        lastStored = group
        effects.append(.store(sequence: lastSequence, group))
        return lastSequence
    }

    // MARK: Answers

    mutating func answerJoin(of id: String, _ error: GroupError) {
        guard let caller = members[id]?.joinCaller else { return }
        members[id]?.joinCaller = nil
        effects.append(.join(caller, .refused(error, memberID: id)))
    }

    mutating func answerSync(of id: String, _ error: GroupError, now: GroupTime) {
        guard let member = members[id], let caller = member.syncCaller else { return }
        members[id]?.syncCaller = nil
        members[id]?.heartbeatDeadline = now.instant + member.sessionTimeout
        effects.append(.sync(caller, .refused(error)))
    }

    mutating func refuseJoins(_ error: GroupError, now: GroupTime) {
        for member in orderedMembers where member.joinCaller != nil {
            answerJoin(of: member.id, error)
            members[member.id]?.heartbeatDeadline = now.instant + member.sessionTimeout
        }
    }

    /// Drops the assignment that was being made.
    mutating func refuseSyncs(_ error: GroupError, now: GroupTime) {
        assigning = nil
        for member in orderedMembers {
            members[member.id]?.assignment = []
            answerSync(of: member.id, error, now: now)
        }
    }
}
