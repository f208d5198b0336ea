// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// JoinGroup: a member asks to be part of the next generation.
package enum GroupJoin {
    /// One way of assigning partitions a member knows, with what the leader needs to know of the member.
    package struct MemberProtocol: Sendable, Equatable {
        /// The assignor's name, such as `range`.
        package var name: String
        /// Opaque to the coordinator, except that a consumer's subscription is looked up in it.
        package var metadata: [UInt8]

        /// Describes a protocol.
        package init(name: String, metadata: [UInt8]) {
            self.name = name
            self.metadata = metadata
        }
    }

    /// What a member asks.
    package struct Request: Sendable {
        /// The group's name.
        package var group: String
        /// Empty on a first join.
        package var memberID: String
        /// `group.instance.id` of a static member.
        package var instanceID: String?
        /// The client's id, part of the member ids made for it.
        package var clientID: String
        /// The client's address, shown by describe.
        package var clientHost: String
        /// `consumer` for consumers.
        package var protocolType: String
        /// In order of preference.
        package var protocols: [MemberProtocol]
        /// How long the member may be silent.
        package var sessionTimeout: Duration
        /// How long others wait for this member in a rebalance.
        package var rebalanceTimeout: Duration
        /// Whether a first join is answered with ``GroupError/memberIDRequired`` (version 4 and later).
        package var requiresKnownMember: Bool
        /// Whether the member understands ``Answer/skipsAssignment`` (version 9 and later).
        package var canSkipAssignment: Bool

        /// Describes a join.
        package init(
            group: String,
            memberID: String = "",
            instanceID: String? = nil,
            clientID: String,
            clientHost: String,
            protocolType: String = ConsumerProtocol.type,
            protocols: [MemberProtocol],
            sessionTimeout: Duration,
            rebalanceTimeout: Duration,
            requiresKnownMember: Bool = true,
            canSkipAssignment: Bool = false
        ) {
            self.group = group
            self.memberID = memberID
            self.instanceID = instanceID
            self.clientID = clientID
            self.clientHost = clientHost
            self.protocolType = protocolType
            self.protocols = protocols
            self.sessionTimeout = sessionTimeout
            self.rebalanceTimeout = rebalanceTimeout
            self.requiresKnownMember = requiresKnownMember
            self.canSkipAssignment = canSkipAssignment
        }
    }

    /// A member as the leader sees it.
    package struct Peer: Sendable, Equatable {
        /// The member's id.
        package var memberID: String
        /// The member's `group.instance.id`.
        package var instanceID: String?
        /// The member's metadata for the chosen protocol.
        package var metadata: [UInt8]
    }

    /// What the member is told.
    package struct Answer: Sendable, Equatable {
        /// Why the join was refused; nil for success.
        package var error: GroupError?
        /// The group's generation, -1 with an error.
        package var generation: Int32 = -1
        /// The group's protocol type.
        package var protocolType: String?
        /// The protocol chosen; nil with an error, which versions before 7 write as an empty string.
        package var protocolName: String?
        /// The leader's member id, empty with an error.
        package var leader = ""
        /// The member's id: the one sent, or the one made for it.
        package var memberID: String
        /// Every member, for the leader; empty for the others.
        package var members: [Peer] = []
        /// Whether the leader must leave the assignment as it is (version 9).
        package var skipsAssignment = false

        static func refused(_ error: GroupError, memberID: String) -> Answer {
            Answer(error: error, memberID: memberID)
        }
    }
}
