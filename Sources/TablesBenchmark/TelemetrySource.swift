// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Traces of events that go through pipelines, evenly over some days: four spans each, as the engine makes them, and log records.
struct TelemetrySource {
    /// What some traces are made of.
    struct Chunk {
        var spans: [SpanRecord] = []
        var logs: [LogRecord] = []
        var samples: [TelemetryLoad.Report.Sample] = []
        var endMicros: Int64 = 0
    }

    private static let spansPerTrace = 4
    private static let pipelines = 40
    private static let sampleEvery = 1_009

    /// Traces made so far.
    private(set) var made = 0
    private let traces: Int
    private let spans: Int
    private let logs: Int
    private let from: Int64
    private let length: Int64
    private var random = SplitMix(state: 0x6d61_7274_6c65_7401)

    init(spans: Int, logs: Int, from: Int64, to: Int64) {
        self.spans = spans
        self.logs = logs
        self.from = from
        length = to - from
        traces = max(1, (spans + Self.spansPerTrace - 1) / Self.spansPerTrace)
    }

    /// The next traces; nil after the last.
    mutating func next(_ count: Int) -> Chunk? {
        guard made < traces else { return nil }
        var chunk = Chunk()
        chunk.spans.reserveCapacity(count * Self.spansPerTrace)
        for number in made..<min(traces, made + count) { add(number, to: &chunk) }
        made = min(traces, made + count)
        chunk.endMicros = from + Int64(Double(length) * Double(made) / Double(traces))
        return chunk
    }

    private mutating func add(_ number: Int, to chunk: inout Chunk) {
        let trace = Self.hexadecimal(random.next()) + Self.hexadecimal(random.next())
        let start = from + Int64(Double(length) * Double(number) / Double(traces))
        let pipeline = "pipeline-\(random.next() % UInt64(Self.pipelines))"
        let function = "function-\(random.next() % 3)"
        let event = Self.hexadecimal(random.next())
        let hasFailed = random.next() % 100 == 0
        let handler = Int64(2_000 + random.next() % 40_000)
        let wait = Int64(200 + random.next() % 3_000)
        let ids = (0..<Self.spansPerTrace).map { _ in Self.hexadecimal(random.next() | 1) }
        let count = min(Self.spansPerTrace, spans - number * Self.spansPerTrace)
        let offset = String(number)
        let names = ["element created", "dispatch \(function)", "function \(function)", "table \(pipeline)"]
        let kinds = ["PRODUCER", "CONSUMER", "SERVER", "CONSUMER"]
        let starts = [start, start + 900, start + 900 + wait, start + 900 + wait + handler]
        let lengths: [Int64] = [900, wait, handler, 12_000]
        let attributes: [[String: String]] = [
            ["vast.element.path": "/data/\(pipeline)/\(number).exr", "messaging.destination.name": "events"],
            [
                "messaging.destination.name": "events", "messaging.kafka.partition": "0",
                "messaging.kafka.offset": offset, "martlet.attempt": "1", "martlet.worker.wait_us": String(wait / 2),
            ],
            ["martlet.revision": "3"],
            ["table": pipeline, "topic": "results", "commit": String(number / 500), "rows": "1", "offset": offset],
        ]
        for index in 0..<count {
            chunk.spans.append(
                SpanRecord(
                    traceId: trace,
                    spanId: ids[index],
                    parentSpanId: index == 0 ? nil : ids[index - 1],
                    name: names[index],
                    kind: kinds[index],
                    startMicros: starts[index],
                    durationMicros: lengths[index],
                    status: index == 2 && hasFailed ? "ERROR" : "OK",
                    statusMessage: index == 2 && hasFailed ? "ValueError: the header ends early" : nil,
                    pipeline: index == 0 ? nil : pipeline,
                    function: index == 0 ? nil : function,
                    eventId: event,
                    eventType: "vastdata.com:Element.ObjectCreated",
                    attributes: attributes[index]
                )
            )
        }
        let made = addLogs(number, of: chunk.spans[chunk.spans.count - 1], from: starts[2], hasFailed, to: &chunk)
        if number % Self.sampleEvery == 0 {
            chunk.samples.append(
                .init(traceId: trace, spans: count, logs: made, start: start, pipeline: pipeline)
            )
        }
    }

    /// Adds a trace's share of the log records; returns how many.
    private mutating func addLogs(
        _ number: Int,
        of span: SpanRecord,
        from start: Int64,
        _ hasFailed: Bool,
        to chunk: inout Chunk
    ) -> Int {
        let firstLog = Int(Double(logs) * Double(number) / Double(traces))
        let lastLog = number + 1 == traces ? logs : Int(Double(logs) * Double(number + 1) / Double(traces))
        for index in firstLog..<max(firstLog, lastLog) {
            let isError = hasFailed && index + 1 == lastLog
            chunk.logs.append(
                LogRecord(
                    time: Date(timeIntervalSince1970: Double(start + Int64(index - firstLog) * 500) / 1_000_000),
                    severity: isError ? "ERROR" : index % 4 == 0 ? "DEBUG" : "INFO",
                    scope: "user",
                    pipeline: span.pipeline,
                    function: span.function,
                    message: isError
                        ? "ValueError: the header of /data/\(number).exr ends early"
                        : "read \(random.next() % 90_000) of /data/\(number).exr, step \(index - firstLog)",
                    traceId: span.traceId,
                    spanId: span.spanId,
                    attributes: ["code.lineno": String(index % 80), "martlet.revision": "3"]
                )
            )
        }
        return max(0, lastLog - firstLog)
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}

/// A small generator with a seed, so that every run has the same traces.
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
