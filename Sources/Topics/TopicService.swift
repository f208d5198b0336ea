// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
import Documents
package import EventLog
import FoundationEssentials
import KafkaCodec
package import MartletCore

/// Topics as people manage them: the catalog knows them, the event log holds their records.
package struct TopicService: TopicServices {
    static let partitionsMax = 10_000
    private static let dayMilliseconds: Int64 = 86_400_000

    let catalog: Catalog
    let log: any EventLog
    /// The same, for what only a log on this machine has.
    private let local: LocalLog
    private let producer: RecordProducer
    let changes = TopicChanges()

    package init(catalog: Catalog, log: LocalLog, producer: RecordProducer) {
        self.catalog = catalog
        self.log = log
        local = log
        self.producer = producer
    }

    /// Makes sure the engine's own topics exist, and that catalog and log agree where an earlier process was stopped in the middle of a change.
    package func prepare(defaultTopic: String, deadLetterTopic: String) async throws {
        for (key, state) in try await catalog.state.all(prefix: Self.deletingPrefix) {
            let name = String(key.dropFirst(Self.deletingPrefix.count))
            if let held = try await log.topic(name), Self.deletingState(held, try end(of: held)) != state {
                // Another one, or its deletion was refused, by a catalog that could not be flushed, and it was written to since.
                try await catalog.state.set(key, nil)
            } else {
                // The log has told of what keeps it from being deleted; the next start tries again, and so does who makes one of the name.
                try? await finishDeletion(of: name)
            }
        }
        for (name, isDeadLetter) in [(defaultTopic, false), (deadLetterTopic, true)] {
            if try await catalog.topics.find(name) == nil {
                _ = try await catalog.topics.create(
                    name: name,
                    description: isDeadLetter
                        ? "Events that could not be processed" : "Events of triggers without a topic of their own",
                    owner: ResourceMetadata.Owner(name: "martlet"),
                    spec: TopicSpec(partitions: 1, isDefault: !isDeadLetter, isDeadLetter: isDeadLetter)
                )
            }
        }
        let made = try await catalog.state.all(prefix: Self.madePrefix)
        var unmarked: [String: String?] = [:]
        // Those whose settings could not be read keep their records until somebody has looked, or the next start.
        let harmed = Set(local.damage().filter { $0.partition == -1 }.map(\.topic))
        for topic in try await catalog.topics.all() {
            if let held = try await log.topic(topic.name) {
                // Those of the engine's own tables have more settings in the log than in the catalog.
                if !harmed.contains(topic.name), !EngineTopic.isOne(topic.name) { await reconcile(topic, held) }
            } else {
                try await log.createTopic(
                    topic.name,
                    partitions: topic.spec.partitions,
                    settings: Self.settings(topic.spec)
                )
            }
            if made[Self.madeKey(topic)] == nil { unmarked[Self.madeKey(topic)] = "1" }
        }
        if !unmarked.isEmpty { try await catalog.state.set(unmarked) }
    }

    /// Gives the log the settings that the catalog has, and both the higher number of partitions.
    private func reconcile(_ topic: Resource<TopicSpec>, _ held: TopicDescription) async {
        let partitions = max(topic.spec.partitions, held.partitions)
        let settings = Self.settings(topic.spec)
        // Where either cannot be written, both go on as they are; the log has said why.
        if partitions != topic.spec.partitions {
            _ = try? await catalog.topics.update(topic.guid) { $0.spec.partitions = partitions }
        }
        if partitions != held.partitions || settings != held.settings {
            try? await log.updateTopic(topic.name, settings: settings, partitions: partitions)
        }
    }

    private static let madePrefix = "topic-made/"
    private static let deletingPrefix = "topic-deleting/"

    /// The key in the engine's state that says that a topic's files were made, so that they are missing where they are not there.
    private static func madeKey(_ topic: Resource<TopicSpec>) -> String { madePrefix + topic.guid }

    /// Topics whose files were made and are gone from the log, and how many topics had files; to be asked before ``prepare(defaultTopic:deadLetterTopic:)``,
    /// which makes them anew.
    package func lost() async throws -> (names: [String], of: Int) {
        let made = try await catalog.state.all(prefix: Self.madePrefix)
        let known = try await catalog.topics.all().filter { made[Self.madeKey($0)] != nil }
        var names: [String] = []
        for topic in known where try await log.topic(topic.name) == nil { names.append(topic.name) }
        return (names, known.count)
    }

    package func create(_ document: Document, by caller: Caller, dryRun: Bool) async throws -> Resource<TopicSpec> {
        let reader = DocumentReader(document, what: "a topic")
        let name = reader.string("name", required: true)
        let description = reader.string("description")
        let tags = reader.strings("tags")
        let partitions = reader.int("partitions", in: 1...Self.partitionsMax)
        let retention = Self.retention(reader)
        let configs = reader.map("configs")
        Self.refuseTwice(reader, configs)
        Self.ignoreReadOnly(reader)
        try reader.finish()
        guard let name else { throw ServiceError.invalid(field: "name", "is missing") }
        try Self.checkTopicName(name)
        guard !EngineTopic.isOne(name) else {
            throw ServiceError.invalid(
                field: "name",
                "'\(name)' starts with '\(EngineTopic.prefix)'",
                fix: "names of that form are the engine's own"
            )
        }
        var made = TopicSpec(
            partitions: Int32(partitions ?? 1),
            retentionMilliseconds: retention.milliseconds ?? .some(7 * Self.dayMilliseconds),
            retentionBytes: retention.bytes ?? nil
        )
        try Self.change(configs ?? [], of: &made)
        let spec = made
        let topic = try await changes.exclusively {
            let topic: Resource<TopicSpec> = try await catalog.transaction(dryRun: dryRun) { tx in
                try tx.create(
                    name: name,
                    description: description ?? "",
                    tags: tags ?? [],
                    owner: ResourceMetadata.Owner(name: caller.name),
                    spec: spec
                )
            }
            if !dryRun { try await make(topic) }
            return topic
        }
        return try await identified(topic)
    }

    /// The topic with the id that Kafka's clients know it by.
    private func identified(_ topic: Resource<TopicSpec>) async throws -> Resource<TopicSpec> {
        var topic = topic
        topic.spec.kafkaTopicId = try await log.topic(topic.name).map { KafkaUUID($0.id).base64 }
        return topic
    }

    /// Makes the partitions of a topic that the catalog has just got; where that fails, the catalog forgets it again.
    ///
    /// While other changes wait.
    func make(_ topic: Resource<TopicSpec>) async throws {
        var isMade = false
        do {
            if let held = try await log.topic(topic.name)?.id.uuidString { try await clear(topic.name, of: held) }
            try await log.createTopic(
                topic.name,
                partitions: topic.spec.partitions,
                settings: Self.settings(topic.spec)
            )
            isMade = true
            try await catalog.state.set(Self.madeKey(topic), "1")
        } catch {
            // Where the catalog cannot be written either, the next start makes the topic.
            if isMade { try? await remove(topic) } else { _ = try? await catalog.topics.delete(topic.guid) }
            throw error
        }
    }

    /// Makes room for a topic where the log has one of the name from before: one that was deleted goes.
    private func clear(_ name: String, of held: String) async throws {
        guard try await catalog.state.get(Self.deletingPrefix + name)?.hasPrefix(held) == true else {
            throw ServiceError(
                .alreadyExists,
                "topic '\(name)' is in the log, with records that no topic of the catalog has",
                fix: "choose another name; or delete it with its records: martlet topics delete \(name)"
            )
        }
        try await finishDeletion(of: name)
    }

    /// Takes a topic out of the catalog, then out of the log; a crash in between is made good by ``prepare(defaultTopic:deadLetterTopic:)``.
    private func remove(_ topic: Resource<TopicSpec>) async throws {
        let held = try await log.topic(topic.name)
        let deleting = try held.map { Self.deletingState($0, try end(of: $0)) }
        let state: [String: String?] = [Self.madeKey(topic): nil, Self.deletingPrefix + topic.name: deleting]
        try await catalog.transaction { tx in
            try tx.delete(TopicSpec.self, topic.guid)
            try tx.setState(state)
        }
        if held != nil { try await finishDeletion(of: topic.name) }
    }

    /// What is noted of a topic that is about to be deleted: which one it is, and how far it was written.
    private static func deletingState(_ held: TopicDescription, _ end: Int64) -> String {
        "\(held.id.uuidString) \(end)"
    }

    /// The ends of all its partitions together, which grow with every record.
    private func end(of held: TopicDescription) throws -> Int64 {
        try (0..<held.partitions).reduce(0) { sum, partition in
            try sum + local.bounds(TopicPartition(topic: held.name, partition: partition)).end
        }
    }

    /// Deletes the log's topic of this name, if it is still there, and forgets that it was to be deleted.
    private func finishDeletion(of name: String) async throws {
        if try await log.topic(name) != nil { try await log.deleteTopic(name) }
        try await catalog.state.set(Self.deletingPrefix + name, nil)
    }

    package func update(
        _ id: String,
        _ document: Document,
        by caller: Caller,
        dryRun: Bool
    ) async throws -> Resource<TopicSpec> {
        let reader = DocumentReader(document, what: "a topic")
        let name = reader.string("name")
        let description = reader.string("description")
        let tags = reader.strings("tags")
        let partitions = reader.int("partitions", in: 1...Self.partitionsMax)
        let retention = Self.retention(reader)
        let configs = reader.map("configs")
        Self.refuseTwice(reader, configs)
        Self.ignoreReadOnly(reader)
        try reader.finish()
        let topic = try await change(id, dryRun: dryRun) { topic in
            try EngineTopic.refuseChanges(topic.name)
            if let name, name != topic.name {
                throw ServiceError.invalid(
                    field: "name",
                    "topic '\(topic.name)' cannot be renamed to '\(name.prefix(140))'",
                    fix: "leave the name out, or create another topic"
                )
            }
            if let description { topic.metadata.description = description }
            if let tags { topic.metadata.tags = tags }
            if let partitions {
                guard partitions >= Int(topic.spec.partitions) else {
                    throw ServiceError.invalid(
                        field: "partitions",
                        "\(partitions) is fewer than the \(topic.spec.partitions) there are",
                        fix: "partitions can be added, not removed"
                    )
                }
                topic.spec.partitions = Int32(partitions)
            }
            try Self.change(configs ?? [], of: &topic.spec)
            if let milliseconds = retention.milliseconds { topic.spec.retentionMilliseconds = milliseconds }
            if let bytes = retention.bytes { topic.spec.retentionBytes = bytes }
        }
        return try await identified(topic)
    }

    /// Changes a topic in the catalog and then in the log, one change after the other; returns it as it is, or would be.
    @discardableResult
    func change(
        _ id: String,
        dryRun: Bool,
        _ change: @escaping @Sendable (inout Resource<TopicSpec>) throws -> Void
    ) async throws -> Resource<TopicSpec> {
        try await changes.exclusively {
            let before = try await catalog.topics.get(id)
            let topic = try await catalog.transaction(dryRun: dryRun) { tx in
                try tx.update(TopicSpec.self, id, change)
            }
            if !dryRun { try await apply(topic, insteadOf: before) }
            return topic
        }
    }

    /// Tells the log of a topic's changed settings; where it fails, the catalog gets back what it had.
    private func apply(_ topic: Resource<TopicSpec>, insteadOf before: Resource<TopicSpec>) async throws {
        do {
            try await log.updateTopic(
                topic.name,
                settings: Self.settings(topic.spec),
                partitions: topic.spec.partitions
            )
        } catch {
            // Where the catalog cannot be written either, its error says no more than this one.
            _ = try? await catalog.topics.update(topic.guid) { topic in
                topic.metadata.description = before.metadata.description
                topic.metadata.tags = before.metadata.tags
                topic.spec = before.spec
            }
            throw error
        }
    }

    package func get(_ id: String) async throws -> Resource<TopicSpec> {
        try await identified(catalog.topics.get(ResourceName(id)?.topicName ?? id))
    }

    package func list(_ query: ListQuery) async throws -> Page<Resource<TopicSpec>> {
        var page = try await catalog.topics.list(query)
        for place in page.items.indices { page.items[place] = try await identified(page.items[place]) }
        return page
    }

    package func delete(_ id: String, by caller: Caller) async throws {
        let name = ResourceName(id)?.topicName ?? id
        try await changes.exclusively {
            guard let topic = try await catalog.topics.find(name) else {
                // The log has one still where a deletion failed after its first step, and it would be in the way for ever.
                guard !EngineTopic.isOne(name), try await log.topic(name) != nil else {
                    throw ServiceError.notFound(.topics, name)
                }
                return try await finishDeletion(of: name)
            }
            try EngineTopic.refuseChanges(topic.name)
            guard !topic.spec.isDefault, !topic.spec.isDeadLetter else {
                throw ServiceError(.inUse, "topic '\(topic.name)' is the engine's own", fix: "it cannot be deleted")
            }
            try await remove(topic)
        }
    }

    package func settings(_ id: String) async throws -> [TopicSetting] {
        let set = try await overrides(get(id).name)
        return TopicConfig.all.map { config in
            TopicSetting(
                name: config.name,
                value: set[config.name] ?? config.value,
                defaultValue: config.value,
                isSet: set[config.name] != nil,
                description: config.text
            )
        }
    }

    package func deleteRecords(_ id: String, partition: Int32, before offset: Int64) async throws -> Int64 {
        let topic = try await get(id)
        try EngineTopic.refuseRecords(topic.name)
        return try await local.deleteRecords(TopicPartition(topic: topic.name, partition: partition), before: offset)
    }

    package func partitions(_ id: String) async throws -> [PartitionStatus] {
        let topic = try await get(id)
        let sizes = local.sizes()
        var all = [PartitionStatus]()
        for number in 0..<topic.spec.partitions {
            let partition = TopicPartition(topic: topic.name, partition: number)
            let bounds = try log.bounds(partition)
            all.append(
                PartitionStatus(
                    partition: number,
                    startOffset: bounds.start,
                    endOffset: bounds.end,
                    sizeBytes: sizes[partition]
                )
            )
        }
        return all
    }

    package func publish(_ id: String, events: [CloudEvent]) async throws -> Int {
        let topic = try await get(id)
        try EngineTopic.refuseRecords(topic.name)
        let now = Timestamp.nowMicroseconds() / 1000
        let records = events.map { event in
            Record(event: event, key: event[extension: "partitionkey"].map { Array($0.utf8) }, timestamp: now)
        }
        return try await producer.send(records, topic: topic.name).count
    }

    /// Refuses names that Kafka's clients could not use either.
    private static func checkTopicName(_ name: String) throws(ServiceError) {
        do throws(EventLogError) {
            try TopicName.validate(name)
        } catch {
            throw .invalid(
                field: "name",
                "'\(name.prefix(260))' cannot be the name of a topic",
                fix: "use 1 to 249 letters, digits, '.', '_' or '-', and neither '.' nor '..'"
            )
        }
    }

    /// Fields other systems name, and those `topics get` shows and nobody sets.
    private static func ignoreReadOnly(_ reader: DocumentReader) {
        reader.ignore(
            "broker",
            "broker_name",
            "database_name",
            "name_in_broker",
            "default",
            "deadletter",
            "tenant_guid"
        )
        reader.ignore("id", "guid", "owner", "vrn", "created_at", "updated_at", "is_default", "is_dead_letter")
        reader.ignore("is_internal", "partition_offsets", "kafka_topic_id")
    }

    /// Refuses a setting that has a field of its own and is given there too.
    private static func refuseTwice(_ reader: DocumentReader, _ configs: [(name: String, value: String)]?) {
        for (field, config) in [("retention_milliseconds", "retention.ms"), ("retention_bytes", "retention.bytes")] {
            guard reader.has(field), configs?.contains(where: { $0.name == config }) == true else { continue }
            reader.fail(field, "is given as \(config) in configs too", fix: "leave one of them out")
        }
    }

    /// What the document says of retention; -1 is for ever, as Kafka writes it.
    private static func retention(_ reader: DocumentReader) -> (milliseconds: Int64??, bytes: Int64??) {
        let milliseconds = reader.int(
            "retention_milliseconds",
            aliases: ["retention_ms", "retention.ms"],
            in: -1...Int.max
        )
        let bytes = reader.int("retention_bytes", aliases: ["retention.bytes"], in: -1...Int.max)
        if let milliseconds, (0..<1000).contains(milliseconds) {
            reader.fail(
                "retention_milliseconds",
                "\(milliseconds) is less than a second",
                fix: "write at least 1000, or -1 for ever"
            )
        }
        return (milliseconds.map { $0 < 0 ? nil : Int64($0) }, bytes.map { $0 < 0 ? nil : Int64($0) })
    }
}
