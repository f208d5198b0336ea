// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// LeaveGroup: members that go, in one request.
package enum GroupLeave {
    /// One member that goes.
    package struct Member: Sendable, Equatable {
        /// The member's id; empty to remove a static member by its instance id.
        package var memberID: String
        /// `group.instance.id` of a static member.
        package var instanceID: String?

        /// Names a member.
        package init(memberID: String, instanceID: String? = nil) {
            self.memberID = memberID
            self.instanceID = instanceID
        }
    }

    /// What became of one member.
    package struct Outcome: Sendable, Equatable {
        /// The member as it was named.
        package var member: Member
        /// Why it was refused; nil for success.
        package var error: GroupError?
    }

    /// What the caller is told; versions before 3 write the first member's error as the whole request's.
    package struct Answer: Sendable, Equatable {
        /// Why the whole request was refused.
        package var error: GroupError?
        /// One for each member, in the order asked.
        package var members: [Outcome] = []
    }
}
