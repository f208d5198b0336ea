// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Groups
import Logging
import MartletCore
import Synchronization

/// The one member that all subscribers of a group over gRPC are among the consumer groups: it makes the group's offsets theirs alone.
///
/// A static member, so that after a crash the engine takes its own place again at once. Consumers over Kafka cannot join beside it, because
/// they share no assignor with it, nor can it beside them.
final class GroupMembership: Sendable {
    private static let assignor = "martlet"
    private static let instanceID = "martlet-grpc"
    private static let sessionTimeout = Duration.seconds(30)
    /// How often the member says that it is there.
    static let heartbeatInterval = Duration.seconds(5)

    private let group: String
    private let topics: [String]
    private let peer: String
    private let coordinator: GroupCoordinator
    private let identity = Mutex<GroupIdentity?>(nil)

    init(_ group: String, topics: [String], peer: String, _ coordinator: GroupCoordinator) {
        self.group = group
        self.topics = topics
        self.peer = peer
        self.coordinator = coordinator
    }

    /// Becomes the group's member and takes all partitions.
    func join(_ partitions: [TopicPartition]) async throws(ServiceError) {
        var memberID = ""
        for _ in 0..<5 {
            let joined = await coordinator.join(
                GroupJoin.Request(
                    group: group,
                    memberID: memberID,
                    instanceID: Self.instanceID,
                    clientID: Self.instanceID,
                    clientHost: peer,
                    protocols: [
                        .init(name: Self.assignor, metadata: ConsumerProtocol.subscription(to: topics))
                    ],
                    sessionTimeout: Self.sessionTimeout,
                    rebalanceTimeout: Self.sessionTimeout,
                    requiresKnownMember: false,
                    canSkipAssignment: true
                )
            )
            if let error = joined.error {
                guard Self.isPassing(error) else { throw refusal(error) }
                memberID = error == .memberIDRequired ? joined.memberID : ""
                continue
            }
            memberID = joined.memberID
            let synced = await coordinator.sync(
                GroupSync.Request(
                    group: group,
                    generation: joined.generation,
                    memberID: memberID,
                    instanceID: Self.instanceID,
                    assignments: joined.skipsAssignment
                        ? [] : [.init(memberID: memberID, bytes: ConsumerProtocol.assignment(of: partitions))]
                )
            )
            if let error = synced.error {
                guard Self.isPassing(error) else { throw refusal(error) }
                continue
            }
            let joinedAs = GroupIdentity(
                generation: joined.generation,
                memberID: memberID,
                instanceID: Self.instanceID
            )
            identity.withLock { $0 = joinedAs }
            return
        }
        throw refusal(.coordinatorNotAvailable)
    }

    /// Says that the member is there; whether it has to join again.
    func mustJoinAgain() -> Bool {
        guard let identity = identity.withLock({ $0 }) else { return true }
        return coordinator.heartbeat(group: group, identity) != nil
    }

    /// Commits offsets, joining again where that is needed; nil for success, with all of them on disk.
    func commit(_ offsets: [TopicPartition: Int64], partitions: [TopicPartition]) async -> ServiceError? {
        let positions = offsets.mapValues { GroupOffsets.Position($0) }
        for _ in 0..<2 {
            guard let identity = identity.withLock({ $0 }) else { return refusal(.unknownMember) }
            let outcome = await coordinator.commit(group: group, by: identity, positions)
            if let error = outcome.error {
                guard Self.isPassing(error) else { return refusal(error) }
                do throws(ServiceError) { try await join(partitions) } catch { return error }
                continue
            }
            return outcome.refused.values.first.map { refusal($0) }
        }
        return refusal(.coordinatorNotAvailable)
    }

    /// Leaves the group, whose offsets stay.
    func leave() {
        guard let identity = identity.withLock({ $0 }) else { return }
        _ = coordinator.leave(
            group: group,
            [.init(memberID: identity.memberID, instanceID: Self.instanceID)]
        )
    }

    private static func isPassing(_ error: GroupError) -> Bool {
        switch error {
        case .memberIDRequired, .rebalanceInProgress, .unknownMember, .illegalGeneration, .fencedInstance: true
        default: false
        }
    }

    private func refusal(_ error: GroupError) -> ServiceError {
        switch error {
        case .inconsistentProtocol:
            ServiceError(
                .inUse,
                "consumer group '\(group)' is read by clients of Kafka",
                fix: "stop them, or name another group"
            )
        case .groupAuthorizationFailed:
            ServiceError(
                .forbidden,
                "consumer group '\(group)' is the engine's own",
                fix: "choose a name that does not begin with '__'"
            )
        case .invalidGroupID:
            .invalid(
                field: "group",
                "'\(group.prefix(260))' cannot be the name of a consumer group",
                fix: "use 1 to 1024 bytes without control characters"
            )
        case .unknownTopicOrPartition:
            ServiceError(.notFound, "a topic of consumer group '\(group)' was deleted", fix: "subscribe to another one")
        case .groupMaxSizeReached:
            ServiceError(
                .unavailable,
                "there are too many consumer groups",
                fix: "delete some: martlet groups delete NAME"
            )
        default:
            ServiceError(
                .unavailable,
                "consumer group '\(group)' cannot be joined now (\(error))",
                fix: "try again; the engine's log has the cause"
            )
        }
    }
}
