// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A group as describe and list show it.
package struct GroupDescription: Sendable, Equatable {
    /// A member as describe shows it.
    package struct Member: Sendable, Equatable {
        /// The member's id.
        package var memberID: String
        /// The member's `group.instance.id`.
        package var instanceID: String?
        /// The client's id.
        package var clientID: String
        /// The client's address.
        package var clientHost: String
        /// Metadata for the protocol in use; empty while the group is not stable.
        package var metadata: [UInt8]
        /// What the member reads; empty while the group is not stable.
        package var assignment: [UInt8]

        /// Describes a member.
        package init(
            memberID: String,
            instanceID: String? = nil,
            clientID: String,
            clientHost: String,
            metadata: [UInt8] = [],
            assignment: [UInt8] = []
        ) {
            self.memberID = memberID
            self.instanceID = instanceID
            self.clientID = clientID
            self.clientHost = clientHost
            self.metadata = metadata
            self.assignment = assignment
        }
    }

    /// The type every group has: Kafka's other ones are not served.
    package static let type = "classic"

    /// The group's name.
    package var group: String
    /// Where it stands.
    package var state: ConsumerGroup.State
    /// `consumer` for consumers; empty where only offsets were committed.
    package var protocolType: String
    /// The protocol in use; empty while the group is not stable.
    package var protocolName = ""
    /// The members, oldest first.
    package var members: [Member] = []
    /// The number of the assignment.
    package var generation: Int32 = 0
    /// Whether the engine uses the group for itself.
    package var isInternal = false
}

extension ConsumerGroup {
    /// The group as describe shows it.
    package var description: GroupDescription {
        let isStable = state == .stable
        var description = GroupDescription(group: name, state: state, protocolType: protocolType)
        description.generation = generation
        description.protocolName = isStable ? protocolName ?? "" : ""
        description.members = orderedMembers.map { member in
            GroupDescription.Member(
                memberID: member.id,
                instanceID: member.instanceID,
                clientID: member.clientID,
                clientHost: member.clientHost,
                metadata: isStable ? member.metadata(of: protocolName) : [],
                assignment: isStable ? member.assignment : []
            )
        }
        return description
    }
}
