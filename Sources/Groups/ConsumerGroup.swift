// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One consumer group: Kafka's classic protocol as a value without clock, disk or callers of its own.
///
/// Commands come in as calls that are told the time; what is to be done collects in ``takeEffects()``; whoever drives the
/// group calls ``tick(now:)`` at ``nextDeadline``. Every join and sync is answered by exactly one effect.
/// Source: Kafka's protocol guide, KIP-62, 345 (static members), 394 (member ids), 429 (cooperative), 814 (skipped
/// assignments).
package struct ConsumerGroup: Sendable {
    /// Where the group stands; the raw value is what Kafka's tools show.
    package enum State: String, Sendable, CaseIterable {
        /// No members; there may be offsets.
        case empty = "Empty"
        /// Waiting for members to join the next generation.
        case preparingRebalance = "PreparingRebalance"
        /// Waiting for the leader's assignment.
        case completingRebalance = "CompletingRebalance"
        /// Members work.
        case stable = "Stable"
        /// Being deleted.
        case dead = "Dead"
    }

    /// An assignment that is being stored.
    struct Assigning: Sendable {
        let sequence: UInt64
        let assignments: [String: [UInt8]]
    }

    /// A static member's answer that waits for its new id to be stored.
    struct Takeover: Sendable {
        let sequence: UInt64
        let caller: GroupCaller
        let answer: GroupJoin.Answer
    }

    /// How many generations are reserved at once; see ``nextGeneration``.
    static let generationsReserved: Int32 = 100

    /// The group's name.
    package let name: String
    let settings: GroupSettings
    /// Where the group stands.
    package internal(set) var state = State.empty
    /// The number of the current assignment; 0 before the first.
    package internal(set) var generation: Int32 = 0
    /// `consumer` for consumers; empty before the first member.
    package internal(set) var protocolType = ""
    /// The protocol in use; nil without members.
    package internal(set) var protocolName: String?
    /// The leader's member id; nil without members.
    package internal(set) var leader: String?
    /// Since when the group has been without members, in milliseconds since 1970; nil while it has some or never had any.
    package internal(set) var emptySince: Int64?

    var members: [String: GroupMember] = [:]
    /// Member ids of static members by their instance id.
    var staticMembers: [String: String] = [:]
    /// Ids given out by ``GroupError/memberIDRequired``, and until when they may be used.
    var pending: [String: ContinuousClock.Instant] = [:]
    /// Members that have not asked for their part of the assignment.
    var unsynced: Set<String> = []
    var nextOrder: UInt64 = 0

    var joinDeadline: ContinuousClock.Instant?
    var syncDeadline: ContinuousClock.Instant?
    /// When a rebalance that was put off begins.
    var calmDeadline: ContinuousClock.Instant?
    /// Whether nobody is left who was told to make the assignment that is waited for.
    var hasLostLeader = false
    /// When the last generations began, the oldest first; as many as ``GroupSettings/calmGenerations``.
    var recentBegins: [ContinuousClock.Instant] = []
    /// What is left of the longest wait for further first members; nil when this is not a group's first rebalance.
    var initialWaitLeft: Duration?
    var hasNewMember = false

    /// The generations up to this one are on disk as used, so that none is given out twice.
    var reservedThrough: Int32 = 0
    /// Generations below were, or may have been, given out before a restart.
    var generationFloor: Int32 = 1
    var isWaitingForReservation = false
    var assigning: Assigning?
    var takeovers: [Takeover] = []
    /// What each unfinished store reserves, by its sequence.
    var storing: [UInt64: Int32] = [:]
    var lastSequence: UInt64 = 0
    /// What the last store wrote or is writing.
    var lastStored: StoredGroup?

    var effects: [GroupEffect] = []

    /// Creates a group without members.
    package init(name: String, settings: GroupSettings) {
        self.name = name
        self.settings = settings
    }

    /// Returns what is to be done since the last call.
    package mutating func takeEffects() -> [GroupEffect] {
        defer { effects = [] }
        return effects
    }

    /// When ``tick(now:)`` has something to do; later where only heartbeats came since it was asked for.
    package var nextDeadline: ContinuousClock.Instant? {
        var earliest = [joinDeadline, syncDeadline, calmDeadline].compactMap { $0 }.min()
        for deadline in pending.values { earliest = Swift.min(earliest ?? deadline, deadline) }
        for member in members.values {
            if let deadline = member.heartbeatDeadline { earliest = Swift.min(earliest ?? deadline, deadline) }
        }
        return earliest
    }

    /// The number of members.
    package var memberCount: Int { members.count }

    /// About what the members take in memory, and the ids that were given out and not used yet.
    package var memberByteCount: Int { members.values.reduce(512 * pending.count) { $0 + $1.byteCount } }

    /// Whether nothing is lost by forgetting the group: it has no members and never gave out a generation.
    package var isPristine: Bool {
        state == .empty && pending.isEmpty && generation == 0 && lastStored == nil
    }

    // MARK: Rules

    /// The longest of the members' rebalance timeouts.
    var rebalanceTimeout: Duration { members.values.map(\.rebalanceTimeout).max() ?? .zero }

    /// Whether nobody is missing whom it is worth waiting for.
    ///
    /// A member that vanished while it waited has most likely crashed, and one that keeps crashing and coming again under
    /// new ids would hold up the others for ever. While nobody else waits there is no hurry.
    var hasAllJoined: Bool {
        guard !members.isEmpty else { return true }
        return members.values.allSatisfy { $0.joinCaller != nil || $0.hasVanished }
            && members.values.contains { $0.joinCaller != nil }
    }

    /// Members in the order they came.
    var orderedMembers: [GroupMember] { members.values.sorted { $0.order < $1.order } }

    /// Refuses whoever is not a member, or was replaced by another one with its instance id.
    func refusal(memberID: String, instanceID: String?) -> GroupError? {
        if state == .dead { return .coordinatorNotAvailable }
        if let instanceID {
            guard let current = staticMembers[instanceID] else { return .unknownMember }
            guard current == memberID else { return .fencedInstance }
        }
        return members[memberID] == nil ? .unknownMember : nil
    }

    /// Whether a member that knows these protocols fits the others.
    func supports(_ request: GroupJoin.Request) -> Bool {
        guard !members.isEmpty else { return true }
        guard request.protocolType == protocolType else { return false }
        return request.protocols.contains { candidate in
            members.values.allSatisfy { member in
                isSame(member, request) || member.protocols.contains { $0.name == candidate.name }
            }
        }
    }

    /// Whether a request comes from this member, or from a static member that will take its place.
    func isSame(_ member: GroupMember, _ request: GroupJoin.Request) -> Bool {
        member.id == request.memberID || (request.instanceID != nil && member.instanceID == request.instanceID)
    }

    /// The protocol all members know that most of them like best; ties go to the leader's order.
    func electedProtocol() -> String? {
        let ordered = orderedMembers
        guard let first = ordered.first(where: { $0.id == leader }) ?? ordered.first else { return nil }
        let candidates = first.protocols.map(\.name).filter { name in
            ordered.allSatisfy { $0.protocols.contains { $0.name == name } }
        }
        var votes: [String: Int] = [:]
        for member in ordered {
            if let vote = member.protocols.first(where: { candidates.contains($0.name) }) {
                votes[vote.name, default: 0] += 1
            }
        }
        let most = votes.values.max()
        return candidates.first { votes[$0] == most }
    }

    /// The topics a member reads, where it is a consumer whose subscription can be read.
    func subscription(of member: GroupMember, in protocolName: String?) -> [String]? {
        guard protocolType == ConsumerProtocol.type else { return nil }
        return ConsumerProtocol.subscribedTopics(member.metadata(of: protocolName))
    }

    /// The topics the members read; nil where that is unknown.
    package var subscribedTopics: Set<String>? {
        guard protocolType == ConsumerProtocol.type else { return nil }
        var topics: Set<String> = []
        for member in members.values {
            guard let name = protocolName ?? member.protocols.first?.name,
                let own = subscription(of: member, in: name)
            else { return nil }
            topics.formUnion(own)
        }
        return topics
    }
}
