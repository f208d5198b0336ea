// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Broker
import EventLog
import MartletCore
import MartletProto

/// What `open` asks for, checked.
struct SubscribePlan: Sendable {
    private static let topicsMax = 100
    private static let filterMax = 1000
    private static let inFlightMax: UInt32 = 10_000
    private static let inFlightBytesMax: UInt64 = 64 << 20

    let topics: [String]
    let start: StartPosition
    let filter: KeyFilter?
    let stopsAtEnd: Bool
    private let open: Martlet_V1_Open

    /// Checks what is asked for.
    ///
    /// - Throws: `ServiceError` `.invalid` naming the field.
    init(_ open: Martlet_V1_Open) throws(ServiceError) {
        self.open = open
        topics = Set(open.topics).sorted()
        guard (1...Self.topicsMax).contains(topics.count) else {
            throw .invalid(field: "topics", "\(topics.count) are named", fix: "name 1 to \(Self.topicsMax)")
        }
        if let own = topics.first(where: { $0.hasPrefix("__") }) {
            throw ServiceError(.forbidden, "topic '\(own.prefix(260))' is the engine's own", fix: "read another one")
        }
        start = try Self.start(open, topics)
        filter = try Self.filter(open)
        stopsAtEnd = open.stopAtEnd
        guard !stopsAtEnd || open.group.isEmpty else {
            throw .invalid(field: "stop_at_end", "cannot be with a group", fix: "leave out one of them")
        }
    }

    private static func start(_ open: Martlet_V1_Open, _ topics: [String]) throws(ServiceError) -> StartPosition {
        switch open.start.position {
        case nil, .latest: return .latest
        case .earliest: return .earliest
        case .timestampMs(let time): return .time(time)
        case .offsets(let offsets):
            var found: [TopicPartition: Int64] = [:]
            for one in offsets.partitions {
                guard !one.topic.isEmpty || topics.count == 1, one.partition >= 0, one.offset >= 0 else {
                    throw .invalid(
                        field: "start.offsets",
                        "topic '\(one.topic.prefix(260))', partition \(one.partition), offset \(one.offset) is no place",
                        fix: "name the topic, and numbers from 0"
                    )
                }
                let topic = one.topic.isEmpty ? topics[0] : one.topic
                found[TopicPartition(topic: topic, partition: one.partition)] = one.offset
            }
            guard !found.isEmpty else {
                throw .invalid(field: "start.offsets", "names no partition", fix: "name one, or use earliest or latest")
            }
            return .offsets(found)
        }
    }

    private static func filter(_ open: Martlet_V1_Open) throws(ServiceError) -> KeyFilter? {
        guard open.hasFilter else { return nil }
        let keys = open.filter.keys.map { Array($0) }
        let prefixes = open.filter.prefixes.map { Array($0) }
        guard (1...filterMax).contains(keys.count + prefixes.count) else {
            throw .invalid(
                field: "filter",
                "has \(keys.count + prefixes.count) keys and prefixes",
                fix: "name 1 to \(filterMax), or leave the filter out"
            )
        }
        return KeyFilter(keys: Set(keys), prefixes: prefixes)
    }

    /// The request of a subscriber of a group.
    ///
    /// - Throws: `ServiceError` `.invalid` naming the field.
    func request(peer: String) throws(ServiceError) -> SubscriptionRequest {
        let count = open.inFlightMax == 0 ? 1000 : open.inFlightMax
        guard count <= Self.inFlightMax else {
            throw .invalid(field: "in_flight_max", "\(count) is too many", fix: "use 1 to \(Self.inFlightMax)")
        }
        let bytes = open.inFlightBytesMax == 0 ? 16 << 20 : open.inFlightBytesMax
        guard bytes <= Self.inFlightBytesMax else {
            throw .invalid(
                field: "in_flight_bytes_max",
                "\(bytes) is too much",
                fix: "use up to \(Self.inFlightBytesMax)"
            )
        }
        let time = open.acknowledgeWithinMs == 0 ? 60_000 : open.acknowledgeWithinMs
        guard (1000...3_600_000).contains(time) else {
            throw .invalid(field: "acknowledge_within_ms", "\(time) is out of range", fix: "use 1000 to 3600000")
        }
        return SubscriptionRequest(
            group: open.group,
            topics: topics,
            start: start,
            filter: filter,
            limits: SubscriptionState.Limits(
                countMax: Int(count),
                bytesMax: Int(bytes),
                deadline: .milliseconds(Int64(time))
            ),
            reportsCommits: open.reportCommits,
            peer: peer
        )
    }
}
