// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Foundation
import KafkaCodec
import Logging
import MartletCore
import Testing
import Topics

private let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// What becomes of the two steps of a change, one in the catalog and one in the log.
@Suite(.timeLimit(.minutes(5)))
struct TopicChangeTests {
    private struct Stand {
        let path: String
        let catalog: Catalog
        let log: LocalLog
        let topics: TopicService

        func prepare() async throws {
            try await topics.prepare(defaultTopic: "events", deadLetterTopic: "dead")
        }

        func create(_ name: String, partitions: Int32 = 1, _ configs: [String: String?] = [:]) async throws {
            try await topics.create(name, partitions: partitions, configs: configs, validateOnly: false)
        }

        func append(_ topic: String) async throws {
            let bytes = RecordBatchEncoder.encode([Record(timestamp: 1000, value: [1])])
            _ = try await log.append(bytes, to: TopicPartition(topic: topic, partition: 0))
        }
    }

    private final class Folder: Sendable {
        let path = FileManager.default.temporaryDirectory.path + "/martlet-topics-\(UUID().uuidString)"

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private func with(_ folder: Folder, _ body: (Stand) async throws -> Void) async throws {
        try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
        let catalog = try Catalog.open(path: folder.path + "/catalog.sqlite")
        let log = try await LocalLog.open(directory: folder.path, logger: quietLogger)
        let topics = TopicService(catalog: catalog, log: log, producer: RecordProducer(log: log))
        var failure: (any Error)?
        do {
            try await body(Stand(path: folder.path, catalog: catalog, log: log, topics: topics))
        } catch {
            failure = error
        }
        await log.close()
        try catalog.close()
        if let failure { throw failure }
    }

    private func code(_ body: () async throws -> Void) async -> ServiceError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? ServiceError)?.code
        }
    }

    // MARK: Deleting

    /// Keeps the log's topic from being renamed until it is removed.
    private func obstacle(_ stand: Stand, _ name: String) throws -> String {
        let id = try #require(stand.log.topic(name)?.id)
        let path = "\(stand.path)/log/topics/~old~\(id.uuidString)"
        try FileManager.default.createDirectory(atPath: path + "/x", withIntermediateDirectories: true)
        return path
    }

    @Test func aDeletionThatIsCutShortIsFinishedByTheNextStart() async throws {
        let folder = Folder()
        try await with(folder) { stand in
            try await stand.prepare()
            try await stand.create("t")
            try await stand.append("t")
            _ = try obstacle(stand, "t")
            await #expect(throws: (any Error).self) { try await stand.topics.delete("t") }
            #expect(stand.log.topic("t") != nil)
        }
        try await with(folder) { stand in
            try await stand.prepare()
            #expect(stand.log.topic("t") == nil)
            try await stand.create("t")
            #expect(try stand.log.bounds(TopicPartition(topic: "t", partition: 0)).end == 0)
            try await stand.append("t")
        }
        // What was deleted once is not deleted again.
        try await with(folder) { stand in
            try await stand.prepare()
            #expect(try stand.log.bounds(TopicPartition(topic: "t", partition: 0)).end == 1)
        }
    }

    @Test(arguments: [false, true]) func aDeletionThatFailedCanBeTriedAgain(byMakingAnother: Bool) async throws {
        let folder = Folder()
        try await with(folder) { stand in
            try await stand.prepare()
            try await stand.create("t", ["retention.ms": "5000"])
            try await stand.append("t")
            let path = try obstacle(stand, "t")
            await #expect(throws: (any Error).self) { try await stand.topics.delete("t") }
            try FileManager.default.removeItem(atPath: path)
            if byMakingAnother {
                try await stand.create("t")
                #expect(stand.log.topic("t")?.settings == TopicSettings())
                #expect(try stand.log.bounds(TopicPartition(topic: "t", partition: 0)).end == 0)
            } else {
                try await stand.topics.delete("t")
                #expect(stand.log.topic("t") == nil)
                #expect(await code { try await stand.topics.delete("t") } == .notFound)
            }
        }
    }

    @Test func aTopicThatOnlyTheLogHasIsNotTakenOver() async throws {
        let folder = Folder()
        try await with(folder) { stand in
            try await stand.prepare()
            try await stand.log.createTopic("t", partitions: 3, settings: TopicSettings())
            try await stand.append("t")
            #expect(await code { try await stand.create("t") } == .alreadyExists)
            #expect(try await stand.catalog.topics.find("t") == nil)
            #expect(try stand.log.bounds(TopicPartition(topic: "t", partition: 0)).end == 1)
            try await stand.topics.delete("t")
            try await stand.create("t")
            #expect(stand.log.topic("t")?.partitions == 1)
        }
    }

    // MARK: Changing

    @Test func changesAtOnceLeaveCatalogAndLogTheSame() async throws {
        let folder = Folder()
        try await with(folder) { stand in
            try await stand.prepare()
            try await stand.create("t")
            for round in 0..<12 {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<8 {
                        group.addTask {
                            // Fewer than there are by then is refused.
                            try? await stand.topics.addPartitions(
                                "t",
                                total: Int32(2 + 4 * round + number % 4),
                                validateOnly: false
                            )
                        }
                        group.addTask {
                            try? await stand.topics.alter("t", validateOnly: false) { set in
                                // The next change begins when the one before has come to the log.
                                let held = stand.log.topic("t")?.settings.retentionMilliseconds
                                #expect((set["retention.ms"] ?? "604800000") == "\(held ?? -1)")
                                set["retention.ms"] = "\(1000 * (round + 1) + number)"
                            }
                        }
                    }
                }
                let known = try await stand.catalog.topics.get("t").spec
                let held = try #require(stand.log.topic("t"))
                #expect(known.retentionMilliseconds == held.settings.retentionMilliseconds, "round \(round)")
                #expect(known.partitions == held.partitions, "round \(round)")
                #expect(known.partitions == Int32(5 + 4 * round))
            }
        }
    }

    @Test func aRefusedChangeIsNotInForceAfterAll() async throws {
        let folder = Folder()
        try await with(folder) { stand in
            try await stand.prepare()
            try await stand.create("t", ["retention.ms": "5000"])
            // Its copy cannot be written.
            let path = "\(stand.path)/log/topics/t/topic.copy.json.tmp"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            await #expect(throws: (any Error).self) {
                try await stand.topics.alter("t", validateOnly: false) { $0["retention.ms"] = "7000" }
            }
            #expect(stand.log.topic("t")?.settings.retentionMilliseconds == 5000)
            #expect(try await stand.catalog.topics.get("t").spec.retentionMilliseconds == 5000)
            try FileManager.default.removeItem(atPath: path)
        }
        try await with(folder) { stand in
            #expect(stand.log.topic("t")?.settings.retentionMilliseconds == 5000)
        }
    }

    @Test func aStartGivesTheLogWhatTheCatalogHas() async throws {
        let folder = Folder()
        try await with(folder) { stand in
            try await stand.prepare()
            try await stand.create("t", partitions: 2)
            try await stand.create("u", partitions: 2)
            // As a kill between the two steps leaves them.
            _ = try await stand.catalog.topics.update("t") { topic in
                topic.spec.retentionMilliseconds = 5000
                topic.spec.partitions = 4
            }
            try await stand.log.updateTopic("u", settings: TopicSettings(retentionMilliseconds: 9000), partitions: 3)
        }
        try await with(folder) { stand in
            try await stand.prepare()
            #expect(stand.log.topic("t")?.partitions == 4)
            #expect(stand.log.topic("t")?.settings.retentionMilliseconds == 5000)
            #expect(stand.log.topic("u")?.partitions == 3)
            #expect(stand.log.topic("u")?.settings == TopicSettings())
            #expect(try await stand.catalog.topics.get("u").spec.partitions == 3)
        }
    }
}
