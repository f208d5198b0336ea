// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why a group's call was refused; the raw value is Kafka's error code.
package enum GroupError: Int16, Error, Sendable, CaseIterable {
    /// The topic or partition of an offset does not exist.
    case unknownTopicOrPartition = 3
    /// The metadata sent with an offset is longer than ``GroupSettings/offsetMetadataBytesMax``.
    case offsetMetadataTooLarge = 12
    /// The group cannot be served now (stopping, being deleted, or the disk refuses); try again.
    case coordinatorNotAvailable = 15
    /// The generation named is not the group's.
    case illegalGeneration = 22
    /// The member shares no protocol with the others, or names another protocol type.
    case inconsistentProtocol = 23
    /// The group's name is empty, too long or has control characters.
    case invalidGroupID = 24
    /// The group does not know the member.
    case unknownMember = 25
    /// The session timeout is outside of the range allowed.
    case invalidSessionTimeout = 26
    /// Members have to join again.
    case rebalanceInProgress = 27
    /// The offsets of all groups take as much memory as they may.
    case invalidCommitOffsetSize = 28
    /// The group is the engine's own.
    case groupAuthorizationFailed = 30
    /// A value or size in the request is out of range.
    case invalidRequest = 42
    /// The group has members, and what was asked needs it to be empty.
    case nonEmptyGroup = 68
    /// There is no such group.
    case groupNotFound = 69
    /// The first join of a member: it has to come back with the id it was given.
    case memberIDRequired = 79
    /// The group has as many members as it may have, the members of all groups take as much memory as they may, or there are too many groups.
    case groupMaxSizeReached = 81
    /// Another member took over this `group.instance.id`.
    case fencedInstance = 82
    /// The group reads the topic, so its offsets cannot be deleted.
    case groupSubscribedToTopic = 86
    /// A transaction that commits the offset is not finished.
    case unstableOffsetCommit = 88
}
