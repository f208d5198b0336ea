// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Foundation
import KafkaCodec
import Logging
import MartletCore
import Synchronization
import Testing
import Triggers
import Views

@Suite(.timeLimit(.minutes(5)))
struct TopicFailureTests {
    /// One partition takes what it gets and the other refuses, so that sends fail in part.
    @Test func eventsWaitForAFullDiskAndNoneIsLostOrRepeated() async throws {
        try await Engine.with(runs: false) { engine async throws in
            let log = FailingLog(engine.log)
            var settings = TriggerSettings()
            settings.retryDelay = .milliseconds(10)
            settings.retryDelayMax = .milliseconds(50)
            let runtime = TriggerRuntime(
                catalog: engine.catalog,
                inventory: engine.inventory,
                log: log,
                producer: RecordProducer(log: log),
                telemetry: engine.spans,
                settings: settings,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            )
            let view = try await engine.catalog.views.create(
                name: "v",
                owner: .init(name: "test"),
                spec: ViewSpec(path: engine.viewPath)
            )
            let trigger = try await engine.makeTrigger(#"{"name":"e","type":"Element","view":"v","topic":"t"}"#)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await runtime.run() }
                try await eventually { runtime.board.view(view.guid)?.state == .ready }
                log.failing.withLock { $0 = [1] }
                for index in 0..<300 { try engine.write("\(index)") }
                try await eventually { runtime.board.trigger(trigger.guid)?.contains("disk") == true }
                for index in 300..<400 { try engine.write("\(index)") }
                try await eventually { log.failures.withLock { $0 } >= 5 }
                log.failing.withLock { $0 = [] }
                let events = try await engine.events(atLeast: 400)
                #expect(events.count == 400)
                #expect(Set(events.compactMap { $0[extension: "elementpath"] }).count == 400)
                try await eventually { runtime.board.trigger(trigger.guid) == nil }
                group.cancelAll()
            }
        }
    }
}

/// A log of which chosen partitions refuse appends as if the disk were full.
private final class FailingLog: EventLog {
    let failing = Mutex<Set<Int32>>([])
    let failures = Mutex(0)
    private let log: LocalLog

    init(_ log: LocalLog) { self.log = log }

    func append(_ batch: [UInt8], to partition: TopicPartition) async throws -> AppendResult {
        if failing.withLock({ $0.contains(partition.partition) }) {
            failures.withLock { $0 += 1 }
            throw EventLogError(.diskFull, "the disk is full", topic: partition.topic, partition: partition.partition)
        }
        return try await log.append(batch, to: partition)
    }

    func createTopic(_ name: String, partitions: Int32, settings: TopicSettings) async throws {
        try await log.createTopic(name, partitions: partitions, settings: settings)
    }
    func updateTopic(_ name: String, settings: TopicSettings, partitions: Int32?) async throws {
        try await log.updateTopic(name, settings: settings, partitions: partitions)
    }
    func deleteTopic(_ name: String) async throws { try await log.deleteTopic(name) }
    func topic(_ name: String) async throws -> TopicDescription? { log.topic(name) }
    func topics() async throws -> [TopicDescription] { log.topics() }
    func read(
        _ partition: TopicPartition,
        from offset: Int64,
        bytesMax: Int,
        wait: Duration,
        isolation: ReadIsolation
    ) async throws -> ReadResult {
        try await log.read(partition, from: offset, bytesMax: bytesMax, wait: wait, isolation: isolation)
    }
    func offset(
        _ partition: TopicPartition,
        atOrAfter timestamp: Int64
    ) async throws -> (offset: Int64, timestamp: Int64)? {
        try await log.offset(partition, atOrAfter: timestamp)
    }
    func bounds(_ partition: TopicPartition) throws -> (start: Int64, end: Int64, stable: Int64) {
        try log.bounds(partition)
    }
    func commit(group: String, offsets: [TopicPartition: CommittedOffset]) async throws {
        try await log.commit(group: group, offsets: offsets)
    }
    func committed(group: String) async throws -> [TopicPartition: CommittedOffset] {
        log.committed(group: group)
    }
    func groups() async -> [String] { log.groups() }
    func deleteGroup(_ group: String) async throws { try await log.deleteGroup(group) }
    func damage() -> [DamageReport] { log.damage() }
}
