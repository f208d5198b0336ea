// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import MartletCore
import Workers

/// Turns finished attempts into spans: the wait in the topic and the queue, then the handler.
struct SpanWriter {
    /// One for the wait and one for the handler.
    static let spansPerAttempt = 2

    let plan: DeploymentPlan

    func spans(for attempt: FinishedAttempt, trace: TraceContext, dispatchSpan: UInt64) -> [SpanRecord] {
        let event = attempt.event
        // Records carry whole milliseconds: the end of that one is nearer to when the append was over.
        let start = attempt.result.startMicros
        let appended = min(max(event.record.timestamp, 0), start / 1000 + 1) * 1000 + 999
        let id = event.record.header("ce_id").map { String(decoding: $0, as: UTF8.self) }
        let type = event.record.header("ce_type").map { String(decoding: $0, as: UTF8.self) }
        let input = plan.inputs[event.input]
        var dispatch = SpanRecord(
            traceId: trace.traceID,
            spanId: TraceContext.text(dispatchSpan),
            parentSpanId: trace.spanID == 0 ? nil : trace.spanText,
            name: "dispatch \(plan.name)",
            kind: "CONSUMER",
            startMicros: min(appended, start),
            durationMicros: max(0, start - appended),
            pipeline: plan.pipelineName,
            function: plan.functionName,
            eventId: id,
            eventType: type
        )
        dispatch.attributes = [
            "messaging.destination.name": input.topic,
            "messaging.kafka.partition": String(event.partition),
            "messaging.kafka.offset": String(event.record.offset),
            "martlet.attempt": String(event.failures + 1),
            "martlet.worker.wait_us": String(max(0, start - event.sentMicros)),
        ]
        var handler = SpanRecord(
            traceId: trace.traceID,
            spanId: TraceContext.text(event.spanID),
            parentSpanId: TraceContext.text(dispatchSpan),
            name: "function \(plan.name)",
            kind: "SERVER",
            startMicros: start,
            durationMicros: attempt.result.durationMicros,
            status: attempt.result.status == .ok ? "OK" : "ERROR",
            statusMessage: attempt.result.failure.map { "\($0.type): \($0.message)" },
            pipeline: plan.pipelineName,
            function: plan.functionName,
            eventId: id,
            eventType: type
        )
        handler.attributes = ["martlet.revision": String(plan.revision)]
        // Most are the first, which need not be said.
        if event.failures > 0 { handler.attributes["martlet.attempt"] = String(event.failures + 1) }
        if let user = attempt.result.span { apply(user, to: &handler) }
        if let failure = attempt.result.failure {
            handler.events.append(
                SpanRecord.Event(
                    name: "exception",
                    time: .init(timeIntervalSince1970: Double(start + attempt.result.durationMicros) / 1_000_000),
                    attributes: [
                        "exception.type": failure.type, "exception.message": failure.message,
                        "exception.stacktrace": failure.traceback ?? "",
                    ]
                )
            )
        }
        return [dispatch, handler]
    }

    private func apply(_ user: JSONValue, to span: inout SpanRecord) {
        for member in user["attributes"]?.objectValue?.members ?? [] {
            span.attributes[member.key] = member.value.stringValue ?? member.value.text
        }
        for event in user["events"]?.arrayValue ?? [] {
            guard let name = event["name"]?.stringValue else { continue }
            var attributes: [String: String] = [:]
            for member in event["attributes"]?.objectValue?.members ?? [] {
                attributes[member.key] = member.value.stringValue ?? member.value.text
            }
            let micros = event["time"]?.intValue ?? span.startMicros
            span.events.append(
                SpanRecord.Event(
                    name: name,
                    time: .init(timeIntervalSince1970: Double(micros) / 1_000_000),
                    attributes: attributes
                )
            )
        }
        if span.status == "OK", user["status"]?.stringValue == "ERROR" {
            span.status = "ERROR"
            span.statusMessage = user["message"]?.stringValue
        }
    }
}
