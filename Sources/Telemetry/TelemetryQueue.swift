// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Synchronization

/// What waits to be written: bounded, so that a flood of telemetry costs records and never the work it describes.
///
/// Events of the engine are few and tell what an operator looks for after a flood, so no other record takes their places.
final class TelemetryQueue: Sendable {
    /// What one flush takes.
    struct Batch: Sendable {
        var logs: [LogRecord] = []
        var spans: [SpanRecord] = []
        var metrics: [MetricPoint] = []
        var events: [EngineEvent] = []
        /// Records refused since the last flush because the queue was full.
        var dropped = 0
        /// How many of them were events of the engine.
        var droppedEvents = 0

        var isEmpty: Bool { logs.isEmpty && spans.isEmpty && metrics.isEmpty && events.isEmpty && dropped == 0 }
        var count: Int { sharedCount + events.count }
        /// Records without events, which have places of their own.
        var sharedCount: Int { logs.count + spans.count + metrics.count }
        /// Bytes of text in logs and spans, roughly.
        var bytes = 0
        /// Bytes of text in events, roughly.
        var eventBytes = 0
    }

    private let countMax: Int
    private let bytesMax: Int
    private let eventsMax: Int
    private let eventBytesMax: Int
    private let batch = Mutex(Batch())
    private let budget = Mutex(SpanBudget())
    private let droppedEver = Atomic<Int>(0)
    private let droppedEventsEver = Atomic<Int>(0)

    /// Records that wait.
    var count: Int { batch.withLock { $0.count } }
    /// Records refused or lost since the start.
    var dropped: Int { droppedEver.load(ordering: .relaxed) }
    /// How many of them were events of the engine.
    var droppedEvents: Int { droppedEventsEver.load(ordering: .relaxed) }

    init(countMax: Int, bytesMax: Int = 64 << 20, eventsMax: Int = 10_000, eventBytesMax: Int = 8 << 20) {
        self.countMax = countMax
        self.bytesMax = bytesMax
        self.eventsMax = eventsMax
        self.eventBytesMax = eventBytesMax
    }

    func add(logs: [LogRecord] = [], spans: [SpanRecord] = [], metrics: [MetricPoint] = []) {
        let all = spans
        let spans = all.isEmpty ? all : budget.withLock { $0.kept(all) }
        if spans.count < all.count { addDropped(all.count - spans.count, again: 0) }
        if !offer(logs: logs, spans: spans, metrics: metrics) {
            addDropped(logs.count + spans.count + metrics.count, again: 0)
        }
    }

    func add(events: [EngineEvent]) {
        let bytes = Self.bytes(events)
        let isTaken = batch.withLock { batch in
            guard batch.events.count + events.count <= eventsMax, batch.eventBytes + bytes <= eventBytesMax else {
                batch.droppedEvents += events.count
                return false
            }
            batch.eventBytes += bytes
            batch.events += events
            return true
        }
        guard !isTaken else { return }
        droppedEventsEver.add(events.count, ordering: .relaxed)
        addDropped(events.count, again: 0)
    }

    /// Whether so many spans would all be kept now.
    func hasRoom(spans count: Int) -> Bool { budget.withLock { $0.hasRoom(for: count) } }

    /// Takes all or none; says whether there was room.
    func offer(logs: [LogRecord], spans: [SpanRecord], metrics: [MetricPoint]) -> Bool {
        let bytes = Self.bytes(logs) + Self.bytes(spans)
        let count = logs.count + spans.count + metrics.count
        return batch.withLock { batch in
            guard batch.sharedCount + count <= countMax, batch.bytes + bytes <= bytesMax else { return false }
            batch.bytes += bytes
            batch.logs += logs
            batch.spans += spans
            batch.metrics += metrics
            return true
        }
    }

    /// Counts records that were taken but could not be written; `again` were counted before and not told of, `eventsAgain` of them events.
    func addDropped(_ count: Int, again: Int, eventsAgain: Int = 0) {
        droppedEver.add(count, ordering: .relaxed)
        batch.withLock { batch in
            batch.dropped += count + again
            batch.droppedEvents += eventsAgain
        }
    }

    private static func bytes(_ events: [EngineEvent]) -> Int {
        events.reduce(0) { $0 + $1.name.utf8.count + $1.message.utf8.count + bytes($1.details) }
    }

    private static func bytes(_ logs: [LogRecord]) -> Int {
        logs.reduce(0) { $0 + $1.message.utf8.count + bytes($1.attributes) }
    }

    private static func bytes(_ spans: [SpanRecord]) -> Int {
        spans.reduce(0) { sum, span in
            sum + (span.statusMessage?.utf8.count ?? 0) + bytes(span.attributes)
                + span.events.reduce(0) { $0 + bytes($1.attributes) }
        }
    }

    private static func bytes(_ attributes: [String: String]) -> Int {
        attributes.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    }

    func take() -> Batch {
        batch.withLock { batch in
            defer { batch = Batch() }
            return batch
        }
    }
}
