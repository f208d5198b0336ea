// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import KafkaCodec
import Logging
import Synchronization

extension LocalLog {
    /// Marks directories that are being made or removed; no topic name may contain it.
    private static let unfinishedMark = "~"
    private static let partitionsMax: Int32 = 10_000

    package func createTopic(_ name: String, partitions: Int32, settings: TopicSettings) async throws {
        try TopicName.validate(name)
        try settings.validate()
        try Self.validate(partitions: partitions)
        try await administrate { [self] () throws(EventLogError) in
            guard registry.withLock({ $0.topics[name] == nil }) else {
                throw EventLogError(.topicExists, "topic \(name) exists", topic: name)
            }
            let file = TopicFile(name: name, id: UUID(), partitions: partitions, settings: settings)
            let unfinished = "\(directory)/topics/\(Self.unfinishedMark)new\(Self.unfinishedMark)\(name)"
            let folder = try OpenDirectory("\(directory)/topics", closing: environment.openFiles)
            do throws(EventLogError) {
                if Disk.exists(unfinished) { try Disk.removeTree(unfinished) }
                try Disk.makeDirectory(unfinished)
                for number in 0..<partitions { try createPartition(number, in: unfinished) }
                // Which flushes the names of the partitions as well.
                try file.store(in: unfinished)
                let path = "\(directory)/topics/\(name)"
                // What is left of another one, without anything that could be opened.
                if Disk.exists(path) {
                    try Disk.rename(
                        path,
                        to: "\(directory)/topics/\(name.prefix(200)).damaged-\(environment.settings.now())"
                    )
                }
                try Disk.rename(unfinished, to: path)
            } catch {
                // What could not be made is removed as far as possible; opening removes the rest.
                try? Disk.removeTree(unfinished)
                throw error
            }
            do throws(EventLogError) {
                try folder.synchronize()
                try load(file)
            } catch {
                // Half a topic would be in the way of another one of the name, and of the next start.
                discard(name, file.id)
                throw error
            }
        }
    }

    /// Takes away the folder of a topic that nobody has seen, now or at the next start.
    private func discard(_ name: String, _ id: UUID) {
        let condemned = condemnedPath(id)
        do throws(EventLogError) {
            try Disk.rename("\(directory)/topics/\(name)", to: condemned)
            try Disk.synchronizeDirectory("\(directory)/topics")
            try Disk.removeTree(condemned)
        } catch {
            environment.logger.warning(
                "the files of a topic that was not made are still there",
                metadata: ["topic": "\(name)", "error": "\(error)"]
            )
        }
    }

    private func condemnedPath(_ id: UUID) -> String {
        "\(directory)/topics/\(Self.unfinishedMark)old\(Self.unfinishedMark)\(id.uuidString)"
    }

    package func updateTopic(_ name: String, settings: TopicSettings, partitions: Int32? = nil) async throws {
        try settings.validate()
        if let partitions { try Self.validate(partitions: partitions) }
        try await administrate { [self] () throws(EventLogError) in
            guard let topic = registry.withLock({ $0.topics[name] }) else { throw Self.unknownTopic(name) }
            let count = partitions ?? topic.file.partitions
            guard count >= topic.file.partitions else {
                throw EventLogError(
                    .invalidSettings,
                    "topic \(name) has \(topic.file.partitions) partitions; the number can be raised, not lowered to \(count)",
                    topic: name
                )
            }
            let path = "\(directory)/topics/\(name)"
            var file = topic.file
            file.partitions = count
            file.settings = settings
            var loaded = topic.partitions
            for number in topic.file.partitions..<count {
                // One may have been left by an attempt that failed; then it has its first segment, or not even that.
                if try !hasSegments("\(path)/\(number)") { try createPartition(number, in: path) }
                loaded.append(try open(number, of: file, checkpoint: nil))
            }
            do throws(EventLogError) {
                try file.store(in: path)
            } catch {
                // The first of its two copies may be there: what was refused must not be in force after a restart.
                try? topic.file.store(in: path)
                throw error
            }
            for partition in topic.partitions { partition.apply(settings) }
            registry.withLock { $0.topics[name] = Topic(file: file, partitions: loaded) }
            divideMemory()
        }
    }

    package func deleteTopic(_ name: String) async throws {
        let id = try await administrate { [self] () throws(EventLogError) in
            guard let topic = registry.withLock({ $0.topics[name] }) else { throw Self.unknownTopic(name) }
            let condemned = condemnedPath(topic.file.id)
            let folder = try OpenDirectory("\(directory)/topics", closing: environment.openFiles)
            try Disk.rename("\(directory)/topics/\(name)", to: condemned)
            // Whatever comes, nothing may be written into what the next start removes.
            registry.withLock { registry in
                registry.topics[name] = nil
                registry.names[KafkaUUID(topic.file.id)] = nil
            }
            for partition in topic.partitions { partition.retire(Self.unknownTopic(name)) }
            divideMemory()
            try folder.synchronize()
            // Else a start would miss it. On a full disk there is room once the files are gone.
            registry.withLock { $0.hasDeleted = true }
            let isNoted = noteDeletion()
            do {
                try Disk.removeTree(condemned)
                if !isNoted { _ = noteDeletion() }
            } catch {
                environment.logger.warning(
                    "a deleted topic's files are removed at the next start",
                    metadata: ["topic": "\(name)", "error": "\(error)"]
                )
            }
            return topic.file.id
        }
        try await groupStore.store(.deleteTopic(id))
    }

    private func noteDeletion() -> Bool {
        do throws(EventLogError) {
            try writeCheckpoint(allPartitions())
            return true
        } catch {
            environment.logger.warning("no checkpoint was written", metadata: ["error": "\(error)"])
            return false
        }
    }

    package func topic(_ name: String) -> TopicDescription? {
        registry.withLock { $0.topics[name]?.file.description }
    }

    package func topics() -> [TopicDescription] {
        registry.withLock { $0.topics.values.map(\.file.description) }.sorted { $0.name < $1.name }
    }

    // MARK: Groups

    package func commit(group: String, offsets: [TopicPartition: CommittedOffset]) async throws {
        try Self.validate(group: group)
        var stored: [TopicPartition: StoredOffset] = [:]
        for (id, committed) in offsets {
            _ = try partition(id)
            guard let topic = topic(id.topic) else { throw Self.unknownTopic(id.topic) }
            guard committed.offset >= 0 else {
                throw EventLogError(.invalidSettings, "offset \(committed.offset) is negative").at(id)
            }
            guard committed.metadata.utf8.count <= CommittedOffset.metadataBytesMax else {
                throw EventLogError(
                    .messageTooLarge,
                    "metadata of \(committed.metadata.utf8.count) bytes; at most \(CommittedOffset.metadataBytesMax) are kept"
                ).at(id)
            }
            stored[id] = StoredOffset(topicID: topic.id, committed: committed)
        }
        if stored.isEmpty { return }
        try await groupStore.store(.commit(group: group, offsets: stored))
    }

    package func committed(group: String) -> [TopicPartition: CommittedOffset] {
        let stored = groupStore.offsets(of: group)
        // Offsets of a deleted topic do not count for another one of the same name.
        let ids = registry.withLock { $0.topics.mapValues(\.file.id) }
        return stored.filter { ids[$0.key.topic] == $0.value.topicID }.mapValues(\.committed)
    }

    package func groups() -> [String] {
        groupStore.groupNames()
    }

    /// How many groups have offsets, and about what the offsets of all groups take in memory; see ``CommittedOffset/byteCount(of:)``.
    package var offsetUsage: (groups: Int, bytes: Int) { groupStore.offsetUsage }

    /// Forgets a group's offsets and its state in one step; no error when there is nothing.
    package func deleteGroup(_ group: String) async throws {
        try Self.validate(group: group)
        try await groupStore.store(.deleteGroup(group))
    }

    // MARK: Opening

    /// Loads every topic, and what the checkpoint says of it; blocks.
    func recover(_ loaded: LoadedCheckpoint) throws(EventLogError) {
        let root = "\(directory)/topics"
        if let damage = loaded.damage {
            environment.logger.warning("the checkpoint is damaged", metadata: ["damage": "\(damage)"])
            registry.withLock { $0.damage.append(damage) }
        }
        var checkpoint: [UUID: [Int32: CheckpointEntry]] = [:]
        for entry in loaded.content?.entries ?? [] { checkpoint[entry.topicID, default: [:]][entry.partition] = entry }
        registry.withLock { $0.checkpointedCoordinators = loaded.content?.coordinators }
        // Their ids are not to be missed: by folder those that are deleted, by name those that get another one.
        var explained: Set<String> = []
        var unfinished: [String] = []
        for name in try Disk.names(in: root) {
            let path = "\(root)/\(name)"
            if name.hasPrefix(Self.unfinishedMark) {
                unfinished.append(path)
                continue
            }
            guard (try? TopicName.validate(name)) != nil else { continue }
            let (file, problem) = try TopicFile.load(from: path)
            if file == nil, try partitionNumbers(in: path).isEmpty {
                environment.logger.warning("something among the topics is none", metadata: ["path": "\(path)"])
                continue
            }
            if let problem { try reportTopicFile(problem, topic: name, path: path, isRestored: file != nil) }
            var usable: TopicFile
            if let file {
                usable = file
            } else {
                usable = try reconstruct(name, path)
                explained.insert(name)
            }
            usable.name = name
            if problem != nil { try usable.store(in: path) }
            try load(usable, checkpoint: checkpoint[usable.id] ?? [:])
        }
        if let content = loaded.content { noteMissing(content, explained.union(unfinished)) }
        registry.withLock { $0.hasDeleted = $0.hasDeleted || !unfinished.isEmpty }
        // Should the file of reserved ids be damaged, those in use are still known.
        for (_, partition) in allPartitions() { producerIDs.skip(to: partition.largestProducerID) }
        do {
            try writeCheckpoint(allPartitions())
        } catch {
            // A full disk does not keep the log from being read; the next start reads a little more.
            environment.logger.warning("no checkpoint was written", metadata: ["error": "\(error)"])
        }
        // The checkpoint does not tell of them any more.
        for path in unfinished { try Disk.removeTree(path) }
    }

    /// Reports topics that the checkpoint tells of and that nobody has deleted.
    private func noteMissing(_ checkpoint: Checkpoint, _ explained: Set<String>) {
        for (id, name) in checkpoint.topics {
            guard registry.withLock({ $0.names[KafkaUUID(id)] == nil }), !explained.contains(condemnedPath(id)),
                !explained.contains(name)
            else { continue }
            let report = DamageReport(
                topic: name,
                partition: -1,
                offsets: 0..<0,
                file: "\(directory)/topics/\(name)",
                bytes: 0..<0,
                reason: "all its files are missing; one of this name begins anew, without records, and so does who has "
                    + "committed offsets for it. Restore them from a backup"
            )
            environment.logger.error("a topic is missing", metadata: ["damage": "\(report)"])
            registry.withLock { registry in
                registry.damage.append(report)
                registry.missing.topics[id] = name
                registry.missing.entries += checkpoint.entries.filter { $0.topicID == id }
            }
        }
    }

    private func reportTopicFile(_ problem: String, topic: String, path: String, isRestored: Bool) throws(EventLogError)
    {
        let consequence =
            isRestored
            ? "its copy was used" : "the topic was opened with default settings and without retention: set them again"
        let damaged = "\(path)/\(TopicFile.name)"
        for name in [TopicFile.name] + (isRestored ? [] : [TopicFile.copyName]) where Disk.exists("\(path)/\(name)") {
            try Disk.rename("\(path)/\(name)", to: "\(path)/\(name).damaged-\(environment.settings.now())")
        }
        let report = DamageReport(
            topic: topic,
            partition: -1,
            offsets: 0..<0,
            file: damaged,
            bytes: 0..<0,
            reason: "\(problem); \(consequence)"
        )
        environment.logger.error("a topic's settings are damaged", metadata: ["damage": "\(report)"])
        registry.withLock { $0.damage.append(report) }
    }

    /// Makes settings for a topic whose files hold records but no readable settings: nothing may expire.
    private func reconstruct(_ name: String, _ path: String) throws(EventLogError) -> TopicFile {
        TopicFile(
            name: name,
            id: UUID(),
            partitions: (try partitionNumbers(in: path).max() ?? 0) + 1,
            settings: TopicSettings(retentionMilliseconds: nil, retentionBytes: nil)
        )
    }

    private func partitionNumbers(in path: String) throws(EventLogError) -> [Int32] {
        do {
            return try Disk.names(in: path).compactMap { Int32($0) }.filter { (0..<Self.partitionsMax).contains($0) }
        } catch  where error.systemError == ENOTDIR {
            return []
        }
    }

    private func load(_ file: TopicFile, checkpoint: [Int32: CheckpointEntry] = [:]) throws(EventLogError) {
        var partitions: [PartitionLog] = []
        for number in 0..<file.partitions {
            partitions.append(try open(number, of: file, checkpoint: checkpoint[number]))
        }
        registry.withLock { registry in
            registry.topics[file.name] = Topic(file: file, partitions: partitions)
            registry.names[KafkaUUID(file.id)] = file.name
        }
        divideMemory()
    }

    private func open(
        _ number: Int32,
        of file: TopicFile,
        checkpoint: CheckpointEntry?
    ) throws(EventLogError) -> PartitionLog {
        let id = TopicPartition(topic: file.name, partition: number)
        let path = "\(directory)/topics/\(file.name)/\(number)"
        var recovery = PartitionRecovery(
            id: id,
            directory: path,
            settings: file.settings,
            checkpoint: checkpoint,
            logSettings: environment.settings,
            logger: environment.logger
        )
        let state = try recovery.recover()
        let lane = registry.withLock { registry in
            registry.nextLane += 1
            return lanes[registry.nextLane % lanes.count]
        }
        for report in state.damage {
            environment.logger.error(
                "stored records are damaged; nothing was deleted",
                metadata: ["damage": "\(report)"]
            )
        }
        return PartitionLog(id: id, directory: path, environment: environment, lane: lane, state: state)
    }

    private func hasSegments(_ partition: String) throws(EventLogError) -> Bool {
        guard Disk.exists(partition) else { return false }
        return try Disk.names(in: partition).contains { Segment.baseOffset(ofFileNamed: $0) != nil }
    }

    private func createPartition(_ number: Int32, in path: String) throws(EventLogError) {
        let partition = "\(path)/\(number)"
        try Disk.makeDirectory(partition)
        _ = try PartitionLog.createSegment(directory: partition, baseOffset: 0, createdAt: 0)
    }

    private func divideMemory() {
        let count = registry.withLock { $0.topics.values.reduce(0) { $0 + $1.partitions.count } }
        environment.recentBytes.divide(amongPartitions: count)
    }

    // MARK: Checks

    /// Runs `work` on the administrator's thread.
    func administrate<Value: Sendable>(
        _ work: @escaping @Sendable () throws(EventLogError) -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Value, any Error>) in
            let accepted = administrator.submit { [environment] in
                do throws(EventLogError) {
                    continuation.resume(returning: try work())
                } catch {
                    if [.diskFull, .inputOutput].contains(error.code) {
                        environment.logger.error("changing files of the log failed", metadata: ["error": "\(error)"])
                    }
                    continuation.resume(throwing: error)
                }
            }
            switch accepted {
            case true: break
            case false:
                continuation.resume(
                    throwing: EventLogError(.overloaded, "too many topic changes are waiting; try again")
                )
            default: continuation.resume(throwing: EventLogError(.closed, "the event log is closed"))
            }
        }
    }

    private static func validate(partitions: Int32) throws(EventLogError) {
        guard (1...partitionsMax).contains(partitions) else {
            throw EventLogError(.invalidSettings, "\(partitions) partitions; a topic has 1 to \(partitionsMax)")
        }
    }

    static func validate(group: String) throws(EventLogError) {
        guard (1...1024).contains(group.utf8.count) else {
            throw EventLogError(.invalidSettings, "a group name has 1 to 1024 bytes, not \(group.utf8.count)")
        }
    }

    private static func unknownTopic(_ name: String) -> EventLogError {
        EventLogError(.unknownTopic, "there is no topic \(name)", topic: name)
    }
}
