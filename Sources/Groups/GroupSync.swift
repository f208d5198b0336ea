// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// SyncGroup: the leader hands in the assignment, the others wait for their part of it.
package enum GroupSync {
    /// What one member is to read; opaque to the coordinator.
    package struct Assignment: Sendable, Equatable {
        /// The member's id.
        package var memberID: String
        /// The member's part.
        package var bytes: [UInt8]

        /// Describes an assignment.
        package init(memberID: String, bytes: [UInt8]) {
            self.memberID = memberID
            self.bytes = bytes
        }
    }

    /// What a member asks.
    package struct Request: Sendable {
        /// The group's name.
        package var group: String
        /// The generation the join was answered with.
        package var generation: Int32
        /// The member's id.
        package var memberID: String
        /// `group.instance.id` of a static member.
        package var instanceID: String?
        /// Checked where it is given (version 5 and later).
        package var protocolType: String?
        /// Checked where it is given (version 5 and later).
        package var protocolName: String?
        /// Every member's part, from the leader; ignored from others.
        package var assignments: [Assignment]

        /// Describes a sync.
        package init(
            group: String,
            generation: Int32,
            memberID: String,
            instanceID: String? = nil,
            protocolType: String? = nil,
            protocolName: String? = nil,
            assignments: [Assignment] = []
        ) {
            self.group = group
            self.generation = generation
            self.memberID = memberID
            self.instanceID = instanceID
            self.protocolType = protocolType
            self.protocolName = protocolName
            self.assignments = assignments
        }
    }

    /// What the member is told.
    package struct Answer: Sendable, Equatable {
        /// Why the sync was refused; nil for success.
        package var error: GroupError?
        /// The group's protocol type; nil with an error.
        package var protocolType: String?
        /// The protocol chosen; nil with an error.
        package var protocolName: String?
        /// What the member is to read; empty with an error.
        package var assignment: [UInt8] = []

        static func refused(_ error: GroupError) -> Answer { Answer(error: error) }
    }
}
