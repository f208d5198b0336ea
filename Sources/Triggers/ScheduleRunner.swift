// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import EventLog
import Foundation
import KafkaCodec
import Logging
import MartletCore
import Synchronization

/// Fires one schedule trigger.
final class ScheduleRunner: Sendable {
    let trigger: ActiveTrigger
    let stopSignal = StopSignal()
    private let context: TriggerContext

    init(_ trigger: ActiveTrigger, context: TriggerContext) {
        self.trigger = trigger
        self.context = context
    }

    /// How far a schedule has come; kept in the catalog.
    private struct Progress: Codable, Equatable {
        /// The newest time fired or passed over, microseconds since 1970.
        var firedMicros: Int64
        /// The expression and zone this is the progress of.
        var schedule: String
        var topic: String
        /// The offsets in the topic behind the event of that fire, by partition.
        var offsets: [String: Int64]
    }

    /// The longest wait between looks at the wall clock, which may be set at any time.
    private static let lookMicros: Int64 = 1_000_000
    /// A clock that is set back further than this starts the schedule anew.
    private static let backwardsMicros: Int64 = 600_000_000

    private var stateKey: String { Self.stateKey(trigger.guid) }

    static func stateKey(_ guid: String) -> String { "schedule/\(guid)" }

    func run() async {
        await stopSignal.whileNotStopped { [self] in
            var delay = context.settings.retryDelay
            while !Task.isCancelled {
                do {
                    try await follow()
                    return
                } catch {
                    if Task.isCancelled { return }
                    context.board.set(
                        trigger: trigger.guid,
                        reason: "the schedule cannot fire and is tried again: \(error)"
                    )
                    context.logger.error(
                        "a schedule failed",
                        metadata: ["trigger": "\(trigger.name)", "error": "\(error)"]
                    )
                    // Only cancellation.
                    guard (try? await context.clock.sleep(micros: delay.micros)) != nil else { return }
                    delay = min(delay * 2, context.settings.retryDelayMax)
                }
            }
        }
    }

    private func follow() async throws {
        let config = trigger.spec.config
        let schedule = try CronSchedule(config.cronExpression ?? config.cronSchedule ?? "", timeZone: config.timeZone)
        var progress = try await start(schedule)
        context.board.set(trigger: trigger.guid, reason: nil)
        // What was missed while nobody looked is decided once; afterwards only late fires are.
        try await catchUp(&progress, schedule, lateMicrosMax: 0)
        while true {
            try Task.checkCancellation()
            let now = context.clock.nowMicros()
            if progress.firedMicros > now + Self.backwardsMicros { progress.firedMicros = now }
            guard let next = schedule.next(after: Self.date(progress.firedMicros)).map(Timestamp.microseconds) else {
                context.board.set(trigger: trigger.guid, reason: "the schedule has no fire time left")
                try await waitForEver()
                return
            }
            guard next <= now else {
                try await context.clock.sleep(micros: min(next - now, Self.lookMicros))
                continue
            }
            try await catchUp(&progress, schedule, lateMicrosMax: context.settings.lateFireMax.micros)
            context.board.set(trigger: trigger.guid, reason: nil)
        }
    }

    private func waitForEver() async throws {
        while true { try await context.clock.sleep(micros: 3_600_000_000) }
    }

    // MARK: Firing

    /// Fires what is due; what is later than `lateMicrosMax` counts as missed, and the trigger's rule decides about it.
    private func catchUp(_ progress: inout Progress, _ schedule: CronSchedule, lateMicrosMax: Int64) async throws {
        let now = context.clock.nowMicros()
        var missed: [Int64] = []
        var missedCount = 0
        var punctual: [Int64] = []
        var last = Self.date(progress.firedMicros)
        let rule = trigger.spec.config.missedFires ?? "once"
        let keep = rule == "all" ? context.settings.missedFiresMax : 1
        while let next = schedule.next(after: last) {
            let micros = Timestamp.microseconds(next)
            guard micros <= now else { break }
            if now - micros < max(lateMicrosMax, 1) {
                punctual.append(micros)
            } else {
                missedCount += 1
                missed.append(micros)
                if missed.count > 2 * keep { missed.removeFirst(missed.count - keep) }
                if missedCount % 1000 == 0 { try Task.checkCancellation() }
            }
            last = next
        }
        missed = rule == "skip" ? [] : Array(missed.suffix(keep))
        if missedCount > missed.count {
            context.logger.notice(
                "missed fires are passed over",
                metadata: ["trigger": "\(trigger.name)", "missed": "\(missedCount)", "rule": "\(rule)"]
            )
        }
        for micros in missed + punctual { try await fire(micros, &progress, schedule) }
        let passed = Timestamp.microseconds(last)
        if passed > progress.firedMicros {
            progress.firedMicros = passed
            try await save(progress)
        }
    }

    private func fire(_ micros: Int64, _ progress: inout Progress, _ schedule: CronSchedule) async throws {
        let seen = context.clock.nowMicros()
        let event = Self.event(
            micros,
            trigger: trigger,
            schedule: schedule,
            settings: context.settings,
            nowMicros: seen
        )
        let record = Record(event: event, key: Array(event.id.utf8), timestamp: seen / 1000)
        guard let position = try await context.producer.send([record], topic: trigger.topic).first else { return }
        context.metrics.counter(EngineMetrics.eventsSent, ["trigger": trigger.name]).add()
        progress.firedMicros = micros
        progress.offsets[String(position.partition)] = position.offset + 1
        context.telemetry.record(spans: [
            SpanRecord(
                traceId: TraceContext(triggerOf: event.id).traceID,
                spanId: TraceContext(triggerOf: event.id).spanText,
                name: "trigger",
                kind: "PRODUCER",
                startMicros: seen,
                durationMicros: max(0, context.clock.nowMicros() - seen),
                status: "OK",
                eventId: event.id,
                eventType: event.type,
                attributes: [
                    "trigger": trigger.name, "topic": trigger.topic, "partition": String(position.partition),
                    "offset": String(position.offset), "fire.time": Timestamp.format(microseconds: micros),
                ]
            )
        ])
        try await save(progress)
    }

    static func event(
        _ micros: Int64,
        trigger: ActiveTrigger,
        schedule: CronSchedule,
        settings: TriggerSettings,
        nowMicros: Int64
    ) -> CloudEvent {
        var hash = StableHash()
        hash.add(trigger.guid)
        hash.add(UInt64(bitPattern: micros))
        let id = String(hash.value.low >> 1)
        var extensions = [
            CloudEvent.Extension("cronschedule", schedule.expression.normalized),
            CloudEvent.Extension("timerelapsedtimestamp", Timestamp.format(microseconds: micros)),
            CloudEvent.Extension("partitionkey", id),
            CloudEvent.Extension("traceparent", TraceContext(triggerOf: id).traceparent),
        ]
        for (name, value) in trigger.extensions { extensions.append(CloudEvent.Extension(name, value)) }
        return CloudEvent(
            id: id,
            source: ElementEvent.source(trigger, authority: settings.authority),
            type: "\(settings.authority):Schedule.TimerElapsed",
            subject: "\(settings.broker).\(trigger.topic)",
            time: Timestamp.format(microseconds: nowMicros),
            dataContentType: "application/json",
            extensions: extensions,
            data: Array(#"{"message":"Activating trigger by cron"}"#.utf8)
        )
    }

    // MARK: Progress

    /// Finds out how far the schedule has come; an event written just before a crash is found in the topic.
    private func start(_ schedule: CronSchedule) async throws -> Progress {
        let name = "\(schedule.expression.normalized) \(schedule.timeZone.identifier)"
        let stored = try await context.catalog.state.get(stateKey).flatMap { text in
            // What cannot be read is as good as absent: the schedule starts at its last change.
            try? JSONDecoder().decode(Progress.self, from: Data(text.utf8))
        }
        var progress: Progress
        guard let stored, stored.schedule == name, stored.topic == trigger.topic else {
            let ends = try await context.tail.ends(trigger.topic)
            progress = Progress(
                firedMicros: stored?.schedule == name ? stored?.firedMicros ?? 0 : trigger.updatedMicros,
                schedule: name,
                topic: trigger.topic,
                offsets: Dictionary(ends.map { (String($0.key), $0.value) }) { $1 }
            )
            try await save(progress)
            return progress
        }
        progress = stored
        let from = Dictionary(progress.offsets.compactMap { key, value in Int32(key).map { ($0, value) } }) { $1 }
        var newest = progress.firedMicros
        let ends = try await context.tail.forEach(trigger.topic, trigger: trigger.guid, from: from) { event in
            guard let text = event[extension: "timerelapsedtimestamp"], let micros = Timestamp.parseMicroseconds(text)
            else { return }
            newest = max(newest, micros)
        }
        progress.firedMicros = newest
        progress.offsets = Dictionary(ends.map { (String($0.key), $0.value) }) { $1 }
        try await save(progress)
        return progress
    }

    private func save(_ progress: Progress) async throws {
        let text = String(decoding: try JSONEncoder().encode(progress), as: UTF8.self)
        try await context.catalog.state.set(stateKey, text)
    }

    private static func date(_ micros: Int64) -> Date {
        Date(timeIntervalSince1970: Double(micros) / 1_000_000)
    }
}

extension Duration {
    var micros: Int64 {
        components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
    }
}
