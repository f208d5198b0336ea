// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
package import MartletCore

// Topics as Kafka's clients manage them: by name, with settings under Kafka's names.
extension TopicService {
    private static let owner = ResourceMetadata.Owner(name: "kafka")

    /// Creates a topic with settings by Kafka's names, where nil stands for the default; returns it as it is, or would be.
    ///
    /// - Throws: `ServiceError` `.alreadyExists`; `.invalid` naming the setting; `EventLogError` `.invalidTopicName`.
    @discardableResult
    package func create(
        _ name: String,
        partitions: Int32,
        configs: [String: String?],
        validateOnly: Bool
    ) async throws -> Resource<TopicSpec> {
        try TopicName.validate(name)
        try EngineTopic.refuseChanges(name)
        guard (1...Int32(Self.partitionsMax)).contains(partitions) else {
            throw ServiceError.invalid(
                field: "partitions",
                "\(partitions) is out of range",
                fix: "use 1 to \(Self.partitionsMax)"
            )
        }
        var spec = TopicSpec(partitions: partitions)
        var set: [String: String] = [:]
        for (config, value) in configs {
            if let value { set[config] = value } else { try Self.checkName(config) }
        }
        try Self.apply(set, to: &spec)
        let wanted = spec
        return try await changes.exclusively {
            let topic: Resource<TopicSpec> = try await catalog.transaction(dryRun: validateOnly) { tx in
                try tx.create(name: name, owner: Self.owner, spec: wanted)
            }
            if !validateOnly { try await make(topic) }
            return topic
        }
    }

    /// Deletes a topic; see ``delete(_:by:)``.
    package func delete(_ name: String) async throws {
        try EngineTopic.refuseChanges(name)
        try await delete(name, by: Caller(name: Self.owner.name))
    }

    /// Raises the number of partitions.
    ///
    /// - Throws: `ServiceError` `.notFound`; `.invalid` where there are as many already.
    package func addPartitions(_ name: String, total: Int32, validateOnly: Bool) async throws {
        try EngineTopic.refuseChanges(name)
        try await changeSpec(of: name, dryRun: validateOnly) { spec in
            guard total > spec.partitions, total <= Int32(Self.partitionsMax) else {
                throw ServiceError.invalid(
                    field: "partitions",
                    "\(total) is not more than the \(spec.partitions) there are, or more than \(Self.partitionsMax)"
                )
            }
            spec.partitions = total
        }
    }

    /// Changes settings; the closure gets those that are set, by Kafka's names.
    ///
    /// - Throws: `ServiceError` `.notFound`; `.invalid` naming the setting.
    package func alter(
        _ name: String,
        validateOnly: Bool,
        _ alter: @escaping @Sendable (inout [String: String]) throws -> Void
    ) async throws {
        try EngineTopic.refuseChanges(name)
        try await changeSpec(of: name, dryRun: validateOnly) { spec in
            var set = Self.overrides(of: spec)
            try alter(&set)
            try Self.apply(set, to: &spec)
        }
    }

    /// Returns the settings of a topic that are not the defaults, by Kafka's names.
    ///
    /// - Throws: `ServiceError` `.notFound`.
    package func overrides(_ name: String) async throws -> [String: String] {
        if let topic = try await catalog.topics.find(name) { return Self.overrides(of: topic.spec) }
        guard let topic = try await log.topic(name) else { throw ServiceError.notFound(.topics, name) }
        // One of the engine's own, which the catalog does not list.
        return Self.overrides(
            of: TopicSpec(
                partitions: topic.partitions,
                retentionMilliseconds: topic.settings.retentionMilliseconds,
                retentionBytes: topic.settings.retentionBytes
            )
        )
    }

    private func changeSpec(
        of name: String,
        dryRun: Bool,
        _ change: @escaping @Sendable (inout TopicSpec) throws -> Void
    ) async throws {
        try await self.change(name, dryRun: dryRun) { topic in try change(&topic.spec) }
    }

    private static func checkName(_ config: String) throws(ServiceError) {
        guard let known = TopicConfig.named(config) else { return try TopicConfig.check(config, "") }
        try TopicConfig.check(config, known.value)
    }

    // MARK: Settings

    /// Settings that have fields of their own.
    private static let retentionTime = "retention.ms"
    private static let retentionSize = "retention.bytes"

    static func overrides(of spec: TopicSpec) -> [String: String] {
        var set = spec.configs ?? [:]
        let defaults = TopicSpec(partitions: 1)
        if spec.retentionMilliseconds != defaults.retentionMilliseconds {
            set[retentionTime] = "\(spec.retentionMilliseconds ?? -1)"
        }
        if spec.retentionBytes != defaults.retentionBytes { set[retentionSize] = "\(spec.retentionBytes ?? -1)" }
        return set
    }

    /// Makes `set` the topic's settings; what it leaves out gets its default.
    private static func apply(_ set: [String: String], to spec: inout TopicSpec) throws(ServiceError) {
        // What an older engine took stays, until it is set again.
        let before = overrides(of: spec)
        for name in set.keys.sorted() where before[name] != set[name] { try TopicConfig.check(name, set[name] ?? "") }
        try refuseFlushes(set, before)
        guard !(spec.isDefault || spec.isDeadLetter) || compaction(set) == nil else {
            throw .invalid(
                field: "cleanup.policy",
                "cannot be compact for a topic of the engine's own, whose events have no keys",
                fix: "leave it out, or set delete"
            )
        }
        let defaults = TopicSpec(partitions: spec.partitions)
        func limit(_ name: String, _ value: Int64?) -> Int64? {
            guard let number = set[name].flatMap({ Int64($0) }) else { return value }
            return number < 0 ? nil : number
        }
        spec.retentionMilliseconds = limit(retentionTime, defaults.retentionMilliseconds)
        spec.retentionBytes = limit(retentionSize, defaults.retentionBytes)
        let others = set.filter { $0.key != retentionTime && $0.key != retentionSize }
        spec.configs = others.isEmpty ? nil : others
    }

    /// Flushing each record, and not waiting for the disk, exclude each other.
    private static func refuseFlushes(_ set: [String: String], _ before: [String: String]) throws(ServiceError) {
        let flushes = ["flush.messages": "1", "flush.ms": "0"]
        guard set["martlet.durability"] == TopicSettings.Durability.powerFailureLosesLastSecond.rawValue, set != before,
            let name = flushes.keys.sorted().first(where: { set[$0] == flushes[$0] })
        else { return }
        throw .invalid(
            field: name,
            "'\(flushes[name] ?? "")' asks for every record to be on disk, and martlet.durability for the opposite",
            fix: "leave one of them out"
        )
    }

    /// Sets settings by Kafka's names; an empty text gives one its default again.
    static func change(_ configs: [(name: String, value: String)], of spec: inout TopicSpec) throws(ServiceError) {
        if configs.isEmpty { return }
        var set = overrides(of: spec)
        for (name, value) in configs {
            if value.isEmpty { try checkName(name) }
            set[name] = value.isEmpty ? nil : value
        }
        try apply(set, to: &spec)
    }

    /// What the log is told.
    static func settings(_ spec: TopicSpec) -> TopicSettings {
        var settings = TopicSettings(
            retentionMilliseconds: spec.retentionMilliseconds,
            retentionBytes: spec.retentionBytes
        )
        let configs = spec.configs ?? [:]
        if let value = configs["segment.bytes"].flatMap({ Int64($0) }) { settings.segmentBytes = value }
        if let value = configs["segment.ms"].flatMap({ Int64($0) }) { settings.segmentMilliseconds = value }
        if let value = configs["max.message.bytes"].flatMap({ Int32($0) }) { settings.messageBytesMax = value }
        if let value = configs["martlet.durability"].flatMap({ TopicSettings.Durability(rawValue: $0) }) {
            settings.durability = value
        }
        let difference = configs["message.timestamp.difference.max.ms"]
        if let value = (configs["message.timestamp.before.max.ms"] ?? difference).flatMap({ Int64($0) }) {
            settings.timestampBeforeMilliseconds = value
        }
        if let value = (configs["message.timestamp.after.max.ms"] ?? difference).flatMap({ Int64($0) }) {
            settings.timestampAfterMilliseconds = value
        }
        settings.stampsAppendTime = configs["message.timestamp.type"] == "LogAppendTime"
        settings.compaction = compaction(configs)
        return settings
    }

    private static func compaction(_ configs: [String: String]) -> TopicSettings.Compaction? {
        let policies = (configs["cleanup.policy"] ?? "").split(separator: ",").map { $0.filter { $0 != " " } }
        guard policies.contains("compact") else { return nil }
        var compaction = TopicSettings.Compaction(alsoDeletes: policies.contains("delete"))
        func number(_ name: String) -> Int64? { configs[name].flatMap { Int64($0) } }
        if let ratio = configs["min.cleanable.dirty.ratio"].flatMap({ Double($0) }) { compaction.dirtyRatio = ratio }
        if let time = number("delete.retention.ms") { compaction.deleteRetentionMilliseconds = time }
        if let time = number("min.compaction.lag.ms") { compaction.lagMillisecondsMin = time }
        if let time = number("max.compaction.lag.ms") { compaction.lagMillisecondsMax = time }
        return compaction
    }
}
