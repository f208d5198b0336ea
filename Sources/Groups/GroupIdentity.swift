// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Who makes a call that only a member of the current generation may make: heartbeats and commits.
package struct GroupIdentity: Sendable, Equatable {
    /// The generation; -1 for consumers that manage their partitions themselves.
    package var generation: Int32
    /// The member's id; empty for consumers that manage their partitions themselves.
    package var memberID: String
    /// `group.instance.id` of a static member.
    package var instanceID: String?

    /// Names a member of a generation.
    package init(generation: Int32, memberID: String, instanceID: String? = nil) {
        self.generation = generation
        self.memberID = memberID
        self.instanceID = instanceID
    }

    /// A consumer that manages its partitions itself, or an administrator.
    package static let simple = GroupIdentity(generation: -1, memberID: "")
}
