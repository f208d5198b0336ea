// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import MartletCore
import Workers

/// Makes the records a deployment writes: results for the next links, and dead letters.
struct OutputRecord {
    let plan: DeploymentPlan
    let authority: String
    let broker: String

    /// A handler's output as a record of the deployment's output topic.
    func result(_ output: InvocationResult.Output, of event: PendingEvent, trace: TraceContext) -> Record {
        var attributes: [(name: String, value: String)] = []
        var contentType: String?
        for (name, value) in output.attributes {
            if name == "datacontenttype" { contentType = value } else { attributes.append((name, value)) }
        }
        func fill(_ name: String, _ value: @autoclosure () -> String?) {
            guard !attributes.contains(where: { $0.name == name }), let value = value() else { return }
            attributes.append((name, value))
        }
        fill(
            "id",
            text(event.record.header("ce_id"))
                ?? "\(plan.inputs[event.input].topic)-\(event.partition)-\(event.record.offset)"
        )
        fill("source", "\(authority):\(plan.functionName)")
        fill("type", "\(authority):Function")
        fill("specversion", "1.0")
        fill("time", Timestamp.format(microseconds: Timestamp.nowMicroseconds()))
        fill(
            "partitionkey",
            event.record.key.map { String(decoding: $0, as: UTF8.self) } ?? text(event.record.header("ce_partitionkey"))
        )
        for name in ["elementpath", "elementurl"] { fill(name, text(event.record.header("ce_" + name))) }
        attributes.removeAll { $0.name == "subject" || $0.name == "traceparent" }
        attributes.append(("subject", "\(broker).\(plan.outputTopic ?? "")"))
        attributes.append(("traceparent", trace.traceparent(span: event.spanID)))
        var headers = attributes.map { RecordHeader(key: "ce_" + $0.name, string: $0.value) }
        headers.append(
            RecordHeader(
                key: "content-type",
                string: contentType ?? (output.isJSON ? "application/json" : "application/octet-stream")
            )
        )
        headers += output.labels.map { RecordHeader(key: LabelHeaders.prefix + $0.name, string: $0.value) }
        return Record(
            timestamp: Timestamp.nowMicroseconds() / 1000,
            key: event.record.key.map { Array($0) },
            value: output.data,
            headers: headers
        )
    }

    /// A failed event with why it failed and where it came from.
    ///
    /// A bare one leaves out the event's own bytes and headers; topic, partition and offset say where it is.
    func deadLetter(
        _ event: PendingEvent,
        _ failure: InvocationResult.Failure,
        trace: TraceContext,
        isBare: Bool = false
    ) -> Record {
        var record = isBare ? Record(timestamp: event.record.timestamp, value: nil) : event.record.record()
        record.headers.removeAll { $0.key.hasPrefix(DeadLetterHeaders.prefix) || $0.key == DeadLetterHeaders.redriveTo }
        let input = plan.inputs[event.input]
        let facts: [(String, String?)] = [
            (DeadLetterHeaders.pipeline, plan.pipelineName),
            (DeadLetterHeaders.pipelineGuid, plan.pipelineGuid),
            (DeadLetterHeaders.deployment, plan.name),
            (DeadLetterHeaders.error, String(failure.message.prefix(4096))),
            (DeadLetterHeaders.errorType, failure.type),
            (DeadLetterHeaders.traceback, failure.traceback.map { String($0.suffix(16 << 10)) }),
            (DeadLetterHeaders.attempts, String(event.failures)),
            (DeadLetterHeaders.topic, input.topic),
            (DeadLetterHeaders.partition, String(event.partition)),
            (DeadLetterHeaders.offset, String(event.record.offset)),
            (DeadLetterHeaders.trace, trace.traceID),
        ]
        for case (let key, let value?) in facts { record.headers.append(RecordHeader(key: key, string: value)) }
        record.timestamp = Timestamp.nowMicroseconds() / 1000
        return record
    }

    private func text(_ bytes: ArraySlice<UInt8>?) -> String? {
        bytes.map { String(decoding: $0, as: UTF8.self) }
    }
}
