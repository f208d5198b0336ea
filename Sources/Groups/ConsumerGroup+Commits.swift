// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension ConsumerGroup {
    /// Whether offsets may be committed; nil for yes.
    ///
    /// A member's commit counts as a heartbeat.
    /// Members commit with their generation while it lasts, also when told to join again, but not between their join and
    /// the assignment. Consumers that manage their partitions themselves commit while the group is empty. A transaction
    /// may name no member at all, as producers before Kafka 2.5 do.
    package mutating func checkCommit(
        _ identity: GroupIdentity,
        isTransactional: Bool,
        now: GroupTime
    ) -> GroupError? {
        if state == .dead { return .coordinatorNotAvailable }
        if identity.generation < 0, state == .empty { return nil }
        if identity.generation >= 0 || !identity.memberID.isEmpty || identity.instanceID != nil {
            if let error = refusal(memberID: identity.memberID, instanceID: identity.instanceID) { return error }
            guard identity.generation == generation else { return .illegalGeneration }
            touch(identity.memberID, now: now)
        } else if !isTransactional {
            return .unknownMember
        }
        return state == .completingRebalance && !isTransactional ? .rebalanceInProgress : nil
    }

    /// Whether the offsets of a topic may be deleted; nil for yes.
    package func refusalToDeleteOffsets(of topic: String) -> GroupError? {
        switch state {
        case .empty: return nil
        case .dead: return .groupNotFound
        case .preparingRebalance, .completingRebalance, .stable:
            guard protocolType == ConsumerProtocol.type else { return .nonEmptyGroup }
            // Unknown subscriptions may hold the topic.
            guard let topics = subscribedTopics, !topics.contains(topic) else { return .groupSubscribedToTopic }
            return nil
        }
    }
}
