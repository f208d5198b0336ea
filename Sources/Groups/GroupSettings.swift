// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Limits and times of consumer groups.
package struct GroupSettings: Sendable {
    /// The shortest session timeout a member may ask for.
    package var sessionTimeoutMin: Duration = .seconds(6)
    /// The longest session timeout a member may ask for.
    package var sessionTimeoutMax: Duration = .seconds(1800)
    /// The longest rebalance timeout used; a member that asks for more gets this.
    package var rebalanceTimeoutMax: Duration = .seconds(3600)
    /// How long an empty group waits for further members before the first assignment.
    ///
    /// Kafka's default is 3 s and 0 for development. Here 100 ms: consumers started together share one rebalance, and
    /// a single one starts without a wait that anybody notices.
    package var initialRebalanceDelay: Duration = .milliseconds(100)
    /// The longest that an empty group waits for its first members, however many more come.
    package var initialRebalanceWaitMax: Duration = .seconds(3)
    /// How long the members that have joined wait for one that was given an id and has not used it.
    package var pendingMemberWait: Duration = .seconds(1)
    /// As many generations within ``calmPeriod`` are too many: the next one is left alone for ``calmTime``.
    package var calmGenerations = 5
    /// The time in which generations are counted.
    package var calmPeriod: Duration = .seconds(10)
    /// The least time between the beginnings of two generations where there were too many.
    package var calmTime: Duration = .seconds(2)
    /// How long a member that never had an answer to its join is kept while the join goes on.
    package var newMemberJoinTimeout: Duration = .seconds(300)
    /// Pause before something refused by the store is tried again.
    package var retryDelay: Duration = .seconds(1)
    /// The most groups, those included that have offsets and no members; the engine's own are not counted.
    package var groupsMax = 10_000
    /// The most bytes that the members of all groups take together, with their metadata and assignments.
    package var membersBytesMax = 256 << 20
    /// The most bytes that the offsets of all groups take together, with their metadata.
    package var offsetsBytesMax = 256 << 20
    /// The most members of a group, those included that were given an id and have not come back.
    package var membersMax = 1000
    /// The most protocols (assignors) a member may name.
    package var protocolsMax = 32
    /// The most bytes of a member's metadata, all its protocols together.
    package var memberMetadataBytesMax = 1 << 20
    /// The most bytes of metadata and assignments of a group's members together.
    package var groupBytesMax = 8 << 20
    /// The most bytes of a group's name, a client's id, a member's id or an instance id.
    package var nameBytesMax = 1024
    /// The most bytes of metadata kept with an offset.
    package var offsetMetadataBytesMax = 4096
    /// How long offsets of an empty group are kept after its last member left and the last commit.
    package var offsetsRetention: Duration = .seconds(7 * 86_400)
    /// How often expired groups are looked for.
    package var expiryInterval: Duration = .seconds(600)

    /// Creates the defaults.
    package init() {}

    /// Whether a group may have this name.
    package func allows(groupName: String) -> Bool {
        (1...nameBytesMax).contains(groupName.utf8.count) && groupName.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }
}
