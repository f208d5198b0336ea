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

/// A catalog, an inventory and a log on disk, and the services and the runtime on them.
struct Engine: Sendable {
    let directory: String
    let viewPath: String
    let catalog: Catalog
    let inventory: ElementInventory
    let log: LocalLog
    let spans = Spans()
    let runtime: TriggerRuntime
    let triggers: TriggerService
    let views: ViewService

    static let caller = Caller(name: "test")

    static func temporaryPath() -> String {
        "\(FileManager.default.temporaryDirectory.resolvingSymlinksInPath().path)/martlet-triggers-\(UUID().uuidString)"
    }

    /// Opens everything in a new directory, or in `directory`, and closes it afterwards.
    static func with(
        directory given: String? = nil,
        clock: any TriggerClock = SystemClock(),
        settings: TriggerSettings = TriggerSettings(),
        runs: Bool = true,
        _ body: @Sendable (Engine) async throws -> Void
    ) async throws {
        let directory = given ?? temporaryPath()
        try FileManager.default.createDirectory(atPath: "\(directory)/data", withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: "\(directory)/view", withIntermediateDirectories: true)
        // Nothing can be done about it.
        defer { if given == nil { try? FileManager.default.removeItem(atPath: directory) } }
        let engine = try await Engine(directory, clock: clock, settings: settings)
        try await withThrowingTaskGroup(of: Void.self) { group in
            if runs { group.addTask { try await engine.runtime.run() } }
            try await body(engine)
            group.cancelAll()
            try await group.waitForAll()
        }
        await engine.log.close()
        try engine.catalog.close()
        try engine.inventory.close()
    }

    private init(_ directory: String, clock: any TriggerClock, settings: TriggerSettings) async throws {
        self.directory = directory
        viewPath = "\(directory)/view"
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        catalog = try Catalog.open(path: "\(directory)/data/catalog.sqlite")
        inventory = try ElementInventory.open(path: "\(directory)/data/inventory.sqlite", durability: .relaxed)
        log = try await LocalLog.open(directory: "\(directory)/data", logger: logger)
        let runtime = TriggerRuntime(
            catalog: catalog,
            inventory: inventory,
            log: log,
            producer: RecordProducer(log: log),
            telemetry: spans,
            settings: settings,
            clock: clock,
            logger: logger
        )
        self.runtime = runtime
        triggers = TriggerService(
            catalog: catalog,
            board: runtime.board,
            now: { Date(timeIntervalSince1970: Double(clock.nowMicros()) / 1_000_000) }
        ) { await runtime.reload() }
        views = ViewService(catalog: catalog, board: runtime.board, dataDirectory: "\(directory)/data") {
            await runtime.reload()
        }
        try await makeTopic("t")
    }

    func makeTopic(_ name: String, isDefault: Bool = false, isDeadLetter: Bool = false) async throws {
        if log.topic(name) == nil { try await log.createTopic(name, partitions: 2, settings: TopicSettings()) }
        if try await catalog.topics.find(name) == nil {
            _ = try await catalog.topics.create(
                name: name,
                owner: .init(name: "test"),
                spec: TopicSpec(partitions: 2, isDefault: isDefault, isDeadLetter: isDeadLetter)
            )
        }
    }

    /// Makes view `v` and waits until it is watched.
    func makeView() async throws {
        _ = try await views.create(
            Document(
                value: .object(
                    JSONObject(members: [
                        .init(key: "name", value: "v"), .init(key: "path", value: .string(viewPath)),
                    ])
                )
            ),
            by: Self.caller,
            dryRun: false
        )
        try await waitForView()
    }

    func waitForView() async throws {
        let guid = try await catalog.views.get("v").guid
        try await eventually { runtime.board.view(guid)?.state == .ready }
    }

    @discardableResult
    func makeTrigger(_ json: String) async throws -> Resource<TriggerSpec> {
        try await triggers.create(Document(value: try JSONValue(parsing: json)), by: Self.caller, dryRun: false)
    }

    func write(_ key: String, _ text: String = "x") throws {
        let url = URL(fileURLWithPath: "\(viewPath)/\(key)")
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: url)
    }

    func events(_ topic: String = "t") async throws -> [CloudEvent] { try await Self.events(log, topic) }

    static func events(_ log: LocalLog, _ topic: String) async throws -> [CloudEvent] {
        var events: [CloudEvent] = []
        for partition in 0..<(log.topic(topic)?.partitions ?? 0) {
            let id = TopicPartition(topic: topic, partition: partition)
            var offset = try log.bounds(id).start
            let end = try log.bounds(id).end
            while offset < end {
                let result = try await log.read(id, from: offset, bytesMax: 4 << 20)
                for record in try RecordBatches.records(in: result.bytes, from: offset) {
                    events.append(try CloudEvent(record: record))
                }
                offset = result.nextOffset
            }
        }
        return events
    }

    /// Waits until the topic has that many events and returns them.
    @discardableResult
    func events(atLeast count: Int, _ topic: String = "t", seconds: Double = 40) async throws -> [CloudEvent] {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            let found = try await events(topic)
            if found.count >= count || ContinuousClock.now > end { return found }
            try await Task.sleep(for: .milliseconds(5))
        }
    }
}

/// Waits for a condition.
func eventually(seconds: Double = 40, _ condition: () async throws -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        try #require(ContinuousClock.now < end, "the condition did not come true")
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// Keeps spans.
final class Spans: TelemetrySink {
    private let list = Mutex<[SpanRecord]>([])
    var all: [SpanRecord] { list.withLock { $0 } }
    func record(spans: [SpanRecord]) { list.withLock { $0 += spans } }
    func record(logs: [LogRecord]) {}
    func record(metrics: [MetricPoint]) {}
}

/// A clock that stands still until it is moved.
final class ManualClock: TriggerClock {
    private struct Sleeper {
        var until: Int64
        var continuation: CheckedContinuation<Void, any Error>
    }

    private struct State {
        var wall: Int64
        var monotonic: Int64 = 0
        var sleepers: [Int: Sleeper] = [:]
        var last = 0
    }

    private let state: Mutex<State>

    init(_ text: String) throws {
        state = Mutex(State(wall: try #require(Timestamp.parseMicroseconds(text))))
    }

    func nowMicros() -> Int64 { state.withLock { $0.wall } }

    /// How many wait.
    var sleepers: Int { state.withLock { $0.sleepers.count } }

    /// Sets the wall clock alone.
    func set(_ text: String) throws {
        let micros = try #require(Timestamp.parseMicroseconds(text))
        state.withLock { $0.wall = micros }
    }

    func advance(seconds: Int64) {
        let due = state.withLock { state in
            state.wall += seconds * 1_000_000
            state.monotonic += seconds * 1_000_000
            let due = state.sleepers.filter { $0.value.until <= state.monotonic }
            for number in due.keys { state.sleepers.removeValue(forKey: number) }
            return due.values.map(\.continuation)
        }
        for continuation in due { continuation.resume() }
    }

    func sleep(micros: Int64) async throws {
        let number = state.withLock { state in
            state.last += 1
            return state.last
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { state in
                    state.sleepers[number] = Sleeper(until: state.monotonic + micros, continuation: continuation)
                }
                if Task.isCancelled { wake(number) }
            }
        } onCancel: {
            wake(number)
        }
    }

    private func wake(_ number: Int) {
        state.withLock { $0.sleepers.removeValue(forKey: number) }?.continuation.resume(throwing: CancellationError())
    }
}
