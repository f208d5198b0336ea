// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Logging
import MartletCore
import Synchronization
import Views

extension ViewRunner {
    /// Appends the events of changes for one trigger, again and again until that succeeds; false when the task was cancelled.
    ///
    /// After a failure part of the events may be in the topic, so what is there is looked up before the rest is sent. A trigger that
    /// is deleted meanwhile gets nothing more.
    func send(_ changes: [ElementChange], for trigger: ActiveTrigger) async -> Bool {
        guard !changes.isEmpty else { return true }
        var pending = state.withLock { state in
            changes.map { (change: $0, id: state.recentIDs.id($0, trigger: trigger.guid)) }
        }
        var trigger = trigger
        var delay = context.settings.retryDelay
        var isRetry = false
        while true {
            guard let current = state.withLock({ $0.triggers.first { $0.guid == trigger.guid } }) else { return true }
            trigger = current
            do {
                if isRetry { pending = try await withoutEmitted(pending, trigger) }
                try await append(pending, trigger)
                if isRetry {
                    let ends = try await context.tail.ends(trigger.topic)
                    state.withLock { $0.checkpoints[trigger.guid] = ends }
                    context.board.set(trigger: trigger.guid, reason: nil)
                }
                return true
            } catch {
                if Task.isCancelled { return false }
                isRetry = true
                let reason = "events cannot be appended to topic '\(trigger.topic)' and wait: \(error)"
                context.board.set(trigger: trigger.guid, reason: reason)
                context.logger.error(
                    "a trigger's events wait",
                    metadata: ["trigger": "\(trigger.name)", "events": "\(pending.count)", "error": "\(error)"]
                )
                guard (try? await Task.sleep(for: delay)) != nil else { return false }  // Only cancellation ends it.
                delay = min(delay * 2, context.settings.retryDelayMax)
            }
        }
    }

    private func withoutEmitted(
        _ pending: [(change: ElementChange, id: UInt64)],
        _ trigger: ActiveTrigger
    ) async throws -> [(change: ElementChange, id: UInt64)] {
        let checkpoints = state.withLock { $0.checkpoints[trigger.guid] ?? [:] }
        var emitted: Set<String> = []
        _ = try await context.tail.forEach(trigger.topic, trigger: trigger.guid, from: checkpoints) {
            emitted.insert($0.id)
        }
        return pending.filter { !emitted.contains(String($0.id)) }
    }

    private func append(_ pending: [(change: ElementChange, id: UInt64)], _ trigger: ActiveTrigger) async throws {
        guard !pending.isEmpty else { return }
        let now = context.clock.nowMicros() / 1000
        let records = pending.map { change, id in
            Record(
                event: events.event(change, trigger: trigger, id: id),
                key: Array("\(events.view)/\(change.key)".utf8),
                timestamp: now
            )
        }
        let positions = try await context.producer.send(records, topic: trigger.topic)
        context.metrics.counter(EngineMetrics.eventsSent, ["trigger": trigger.name]).add(Int64(records.count))
        let done = Timestamp.nowMicroseconds()
        state.withLock { state in
            for position in positions {
                let old = state.checkpoints[trigger.guid]?[position.partition] ?? 0
                state.checkpoints[trigger.guid, default: [:]][position.partition] = max(old, position.offset + 1)
            }
            state.changedCheckpoints.insert(trigger.guid)
        }
        context.telemetry.record(spans: zip(pending, positions).map { span($0, trigger, $1, doneMicros: done) })
    }

    /// The span from seeing a change to having its event on disk; it starts the event's trace.
    private func span(
        _ pending: (change: ElementChange, id: UInt64),
        _ trigger: ActiveTrigger,
        _ position: RecordPosition,
        doneMicros: Int64
    ) -> SpanRecord {
        let id = String(pending.id)
        let trace = TraceContext(triggerOf: id)
        return SpanRecord(
            traceId: trace.traceID,
            spanId: trace.spanText,
            name: "trigger",
            kind: "PRODUCER",
            startMicros: pending.change.seenMicros,
            durationMicros: max(0, doneMicros - pending.change.seenMicros),
            status: "OK",
            eventId: id,
            eventType: "\(context.settings.authority):Element.\(ElementEventName.subtype(pending.change.kind))",
            attributes: [
                "trigger": trigger.name,
                "view": events.view,
                "element": pending.change.key,
                "topic": trigger.topic,
                "partition": String(position.partition),
                "offset": String(position.offset),
            ]
        )
    }
}
