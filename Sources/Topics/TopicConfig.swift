// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
package import MartletCore

/// One setting of a topic under the name Kafka's clients and tools know it by.
///
/// Names, types and defaults are those of Apache Kafka 4.0's topic configuration, except where ``Effect`` says otherwise, and that
/// timestamps have no limit, as they had none in Kafka up to 3.9: a hour ahead would refuse what producers send today.
package struct TopicConfig: Sendable {
    /// What kind of value it has.
    package enum Kind: Sendable, Equatable {
        case boolean
        case integer(ClosedRange<Int64>)
        case real(ClosedRange<Double>)
        case text
        /// One of these.
        case choice([String])
        /// Some of these, separated by commas.
        case list([String])
    }

    /// What setting it does here.
    package enum Effect: Sendable, Equatable {
        /// What it says.
        case honoured
        /// Only these values describe what the engine does; others are refused.
        case only([String])
        /// Nothing: it is kept and shown, because one machine has nothing that it could change.
        case kept
    }

    /// Kafka's name of it.
    package let name: String
    /// What kind of value it has.
    package let kind: Kind
    /// The value of a topic that sets none.
    package let value: String
    /// What setting it does here.
    package let effect: Effect
    /// One sentence for people.
    package let text: String

    init(_ name: String, _ kind: Kind, _ value: String, _ effect: Effect = .honoured, _ text: String) {
        self.name = name
        self.kind = kind
        self.value = value
        self.effect = effect
        self.text = text
    }

    private static let positive: ClosedRange<Int64> = 0...Int64.max
    private static let orNone: ClosedRange<Int64> = -1...Int64.max
    /// What Kafka's own defaults say where nothing is asked for.
    private static let unlimited = "\(Int64.max)"

    /// Every setting of a topic, by name.
    package static let all: [TopicConfig] = [
        TopicConfig(
            "cleanup.policy",
            .list(["delete", "compact"]),
            "delete",
            .honoured,
            "What happens to old records: segments past retention are deleted, or the last record of each key is kept, or both."
        ),
        TopicConfig("compression.gzip.level", .integer(-1...9), "-1", .kept, "Batches are kept as they were sent."),
        TopicConfig("compression.lz4.level", .integer(1...17), "9", .kept, "Batches are kept as they were sent."),
        TopicConfig(
            "compression.type",
            .choice(["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
            "producer",
            .only(["producer"]),
            "Batches are kept as they were sent."
        ),
        TopicConfig(
            "compression.zstd.level",
            .integer(-131_072...22),
            "3",
            .kept,
            "Batches are kept as they were sent."
        ),
        TopicConfig(
            "delete.retention.ms",
            .integer(positive),
            "86400000",
            .honoured,
            "How long a compacted topic keeps tombstones."
        ),
        TopicConfig("file.delete.delay.ms", .integer(positive), "0", .only(["0"]), "Files are deleted at once."),
        TopicConfig(
            "flush.messages",
            .integer(1...Int64.max),
            "1",
            .only(["1", unlimited]),
            "Every append is on disk before it is acknowledged; see martlet.durability."
        ),
        TopicConfig(
            "flush.ms",
            .integer(positive),
            "0",
            .only(["0", unlimited]),
            "Every append is on disk before it is acknowledged; see martlet.durability."
        ),
        TopicConfig("follower.replication.throttled.replicas", .text, "", .kept, "There is one replica."),
        TopicConfig(
            "index.interval.bytes",
            .integer(0...Int64(Int32.max)),
            "4096",
            .only(["4096"]),
            "Bytes between index entries, which are the same for every topic."
        ),
        TopicConfig("leader.replication.throttled.replicas", .text, "", .kept, "There is one replica."),
        TopicConfig("local.retention.bytes", .integer(-2...Int64.max), "-2", .kept, "There is no remote tier."),
        TopicConfig("local.retention.ms", .integer(-2...Int64.max), "-2", .kept, "There is no remote tier."),
        TopicConfig(
            "martlet.durability",
            .choice(["on_disk", "power_failure_loses_last_second"]),
            "on_disk",
            .honoured,
            "What an acknowledged append has survived."
        ),
        TopicConfig(
            "max.compaction.lag.ms",
            .integer(1...Int64.max),
            "9223372036854775807",
            .honoured,
            "The longest a record stays uncompacted."
        ),
        TopicConfig(
            "max.message.bytes",
            .integer(256...256 << 20),
            "1048588",
            .honoured,
            "The largest batch accepted, header included."
        ),
        TopicConfig("message.downconversion.enable", .boolean, "false", .only(["false"]), "Old formats are not made."),
        TopicConfig(
            "message.timestamp.after.max.ms",
            .integer(positive),
            "9223372036854775807",
            .honoured,
            "How far ahead of the engine's clock a producer's timestamp may be."
        ),
        TopicConfig(
            "message.timestamp.before.max.ms",
            .integer(positive),
            "9223372036854775807",
            .honoured,
            "How far behind the engine's clock a producer's timestamp may be."
        ),
        TopicConfig(
            "message.timestamp.difference.max.ms",
            .integer(positive),
            "9223372036854775807",
            .honoured,
            "Kafka's older name for both limits of timestamps; each of the two new ones counts where it is set."
        ),
        TopicConfig(
            "message.timestamp.type",
            .choice(["CreateTime", "LogAppendTime"]),
            "CreateTime",
            .honoured,
            "Whether records have the producer's time or that of the log."
        ),
        TopicConfig(
            "min.cleanable.dirty.ratio",
            .real(0...1),
            "0.5",
            .honoured,
            "A compacted topic is compacted when this share of it has not been."
        ),
        TopicConfig(
            "min.compaction.lag.ms",
            .integer(positive),
            "0",
            .honoured,
            "The shortest a record stays uncompacted."
        ),
        TopicConfig(
            "min.insync.replicas",
            .integer(1...Int64(Int32.max)),
            "1",
            .only(["1"]),
            "There is one replica."
        ),
        TopicConfig(
            "preallocate",
            .boolean,
            "true",
            .only(["true"]),
            "Room is always reserved ahead, as much as is useful."
        ),
        TopicConfig("remote.log.copy.disable", .boolean, "false", .kept, "There is no remote tier."),
        TopicConfig("remote.log.delete.on.disable", .boolean, "false", .kept, "There is no remote tier."),
        TopicConfig("remote.storage.enable", .boolean, "false", .only(["false"]), "There is no remote tier."),
        TopicConfig(
            "retention.bytes",
            .integer(orNone),
            "-1",
            .honoured,
            "The oldest segments of a partition are deleted beyond this size; -1 is no limit."
        ),
        TopicConfig(
            "retention.ms",
            .integer(orNone),
            "604800000",
            .honoured,
            "Segments are deleted when their newest record is older; -1 keeps them for ever."
        ),
        TopicConfig(
            "segment.bytes",
            .integer(1024...1 << 30),
            "134217728",
            .honoured,
            "A segment is closed before it grows beyond this size."
        ),
        TopicConfig(
            "segment.index.bytes",
            .integer(4...Int64(Int32.max)),
            "10485760",
            .kept,
            "Indexes grow as needed."
        ),
        TopicConfig("segment.jitter.ms", .integer(positive), "0", .only(["0"]), "Segments are closed on time."),
        TopicConfig(
            "segment.ms",
            .integer(1...Int64.max),
            "86400000",
            .honoured,
            "A segment is closed when it has been open for this long."
        ),
        TopicConfig(
            "unclean.leader.election.enable",
            .boolean,
            "false",
            .only(["false"]),
            "There is one replica, so no election."
        ),
    ]

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// Returns the setting of this name.
    package static func named(_ name: String) -> TopicConfig? { byName[name] }

    /// Refuses names that are no setting, and values that are none of this setting or not what the engine does.
    ///
    /// - Throws: `ServiceError` `.invalid` naming the setting, the value and what it may be.
    package static func check(_ name: String, _ value: String) throws(ServiceError) {
        guard let config = byName[name] else {
            let near = NearestName.of(name, among: all.map(\.name))
            throw .invalid(
                field: name,
                "is not a setting of a topic",
                fix: near.map { "did you mean \($0)?" } ?? "list them with: martlet topics configs NAME"
            )
        }
        guard config.accepts(value) else {
            throw .invalid(field: name, "'\(value.prefix(200))' is not \(config.kind.description)")
        }
        if case .only(let values) = config.effect, !values.contains(value) {
            throw .invalid(
                field: name,
                "'\(value.prefix(200))' is not supported. \(config.text)",
                fix: "leave it out, or set \(values.joined(separator: " or "))"
            )
        }
    }

    private func accepts(_ value: String) -> Bool {
        switch kind {
        case .boolean: value == "true" || value == "false"
        case .integer(let range): Int64(value).map(range.contains) ?? false
        case .real(let range): Double(value).map(range.contains) ?? false
        case .text: value.utf8.count <= 4096
        case .choice(let values): values.contains(value)
        case .list(let values):
            !value.isEmpty
                && value.split(separator: ",", omittingEmptySubsequences: false).allSatisfy { part in
                    values.contains(part.filter { $0 != " " })
                }
        }
    }
}

extension TopicConfig.Kind: CustomStringConvertible {
    package var description: String {
        switch self {
        case .boolean: "true or false"
        case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .real(let range): "a number from \(range.lowerBound) to \(range.upperBound)"
        case .text: "a text of up to 4096 bytes"
        case .choice(let values): "one of \(values.joined(separator: ", "))"
        case .list(let values): "a list of \(values.joined(separator: ", "))"
        }
    }
}
