// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import MartletCore
import Synchronization

/// What waits to be exported: bounded in records and bytes, so that an endpoint that is away costs records and never work or memory.
final class ExportQueue: Sendable {
    /// Most records waiting, those on their way included.
    static let countMax = 100_000
    /// Most bytes of text waiting.
    static let bytesMax = 64 << 20

    private struct State {
        var spans = Deque<SpanRecord>()
        var logs = Deque<LogRecord>()
        var metrics = Deque<MetricPoint>()
        /// Waiting or on their way.
        var count = 0
        var bytes = 0
        var dropped = 0
    }

    private let signals: Set<TelemetrySignal>
    private let state = Mutex(State())

    init(signals: Set<TelemetrySignal>) {
        self.signals = signals
    }

    func add(spans: [SpanRecord]) {
        guard signals.contains(.traces) else { return }
        let bytes = spans.reduce(0) { $0 + Self.bytes($1) }
        add(spans.count, bytes) { $0.spans.append(contentsOf: spans) }
    }

    func add(logs: [LogRecord]) {
        guard signals.contains(.logs) else { return }
        let bytes = logs.reduce(0) { $0 + Self.bytes($1) }
        add(logs.count, bytes) { $0.logs.append(contentsOf: logs) }
    }

    func add(metrics: [MetricPoint]) {
        guard signals.contains(.metrics) else { return }
        let bytes = metrics.reduce(0) { $0 + Self.bytes($1) }
        add(metrics.count, bytes) { $0.metrics.append(contentsOf: metrics) }
    }

    private func add(_ count: Int, _ bytes: Int, _ append: (inout State) -> Void) {
        state.withLock { state in
            guard state.count + count <= Self.countMax, state.bytes + bytes <= Self.bytesMax else {
                state.dropped += count
                return
            }
            state.count += count
            state.bytes += bytes
            append(&state)
        }
    }

    /// Takes the oldest records of a signal; they count as waiting until ``finish(_:dropped:)``.
    func take(_ signal: TelemetrySignal, max: Int) -> TelemetryRecords {
        state.withLock { state in
            switch signal {
            case .traces: TelemetryRecords(spans: Self.pop(&state.spans, max))
            case .logs: TelemetryRecords(logs: Self.pop(&state.logs, max))
            case .metrics: TelemetryRecords(metrics: Self.pop(&state.metrics, max))
            }
        }
    }

    /// Makes room for as many records as these were, and counts those that were not taken.
    func finish(_ records: TelemetryRecords, dropped: Int = 0) {
        let bytes =
            records.spans.reduce(0) { $0 + Self.bytes($1) } + records.logs.reduce(0) { $0 + Self.bytes($1) }
            + records.metrics.reduce(0) { $0 + Self.bytes($1) }
        state.withLock { state in
            state.count -= records.count
            state.bytes -= bytes
            state.dropped += dropped
        }
    }

    /// Records that were not exported since this was last asked.
    func takeDropped() -> Int {
        state.withLock { state in
            defer { state.dropped = 0 }
            return state.dropped
        }
    }

    /// Records waiting or on their way.
    var count: Int { state.withLock { $0.count } }

    private static func pop<Item>(_ items: inout Deque<Item>, _ max: Int) -> [Item] {
        let count = min(max, items.count)
        defer { items.removeFirst(count) }
        return Array(items.prefix(count))
    }

    private static func bytes(_ span: SpanRecord) -> Int {
        300 + span.name.utf8.count + (span.statusMessage?.utf8.count ?? 0) + bytes(span.attributes)
            + span.events.reduce(0) { $0 + $1.name.utf8.count + bytes($1.attributes) }
    }

    private static func bytes(_ log: LogRecord) -> Int { 200 + log.message.utf8.count + bytes(log.attributes) }

    private static func bytes(_ point: MetricPoint) -> Int {
        200 + point.name.utf8.count + (point.buckets?.utf8.count ?? 0) + bytes(point.attributes)
    }

    private static func bytes(_ attributes: [String: String]) -> Int {
        attributes.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    }
}
