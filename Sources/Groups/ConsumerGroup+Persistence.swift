// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension ConsumerGroup {
    /// Brings back a group that was stored: members have their whole session timeout to be heard of again.
    package init(name: String, settings: GroupSettings, restoring stored: StoredGroup, now: GroupTime) {
        self.init(name: name, settings: settings)
        generation = stored.generation
        generationFloor = stored.reservedThrough + 1
        reservedThrough = stored.reservedThrough
        protocolType = stored.protocolType
        lastStored = stored
        guard !stored.members.isEmpty else {
            emptySince = stored.emptySince
            return
        }
        state = .stable
        protocolName = stored.protocolName
        for kept in stored.members {
            var member = GroupMember(kept, order: nextOrder)
            nextOrder += 1
            member.heartbeatDeadline = now.instant + member.sessionTimeout
            members[member.id] = member
            if let instance = member.instanceID { staticMembers[instance] = member.id }
        }
        leader = stored.leader.flatMap { members[$0]?.id } ?? orderedMembers.first?.id
    }

    /// The group as it is to be stored, without the reservation.
    func snapshot() -> StoredGroup {
        var group = StoredGroup(protocolType: protocolType, generation: generation)
        group.protocolName = protocolName
        group.leader = leader
        group.emptySince = emptySince
        group.members = orderedMembers.map { member in
            StoredGroup.Member(
                id: member.id,
                instanceID: member.instanceID,
                clientID: member.clientID,
                clientHost: member.clientHost,
                sessionTimeoutMilliseconds: Self.milliseconds(member.sessionTimeout),
                rebalanceTimeoutMilliseconds: Self.milliseconds(member.rebalanceTimeout),
                protocols: member.protocols,
                assignment: member.assignment
            )
        }
        return group
    }

    private static func milliseconds(_ duration: Duration) -> Int64 {
        let (seconds, attoseconds) = duration.components
        return seconds * 1000 + attoseconds / 1_000_000_000_000_000
    }
}
