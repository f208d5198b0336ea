// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import OTLP
import Synchronization
import Testing

/// Keeps what it is offered, as long as it is told to.
private final class Intake: TelemetryIntake {
    let isOpen: Bool
    let taken = Mutex<[TelemetryRecords]>([])

    init(isOpen: Bool = true) {
        self.isOpen = isOpen
    }

    func record(spans: [SpanRecord]) {}
    func record(logs: [LogRecord]) {}
    func record(metrics: [MetricPoint]) {}

    func offer(_ records: TelemetryRecords) -> Bool {
        if isOpen { taken.withLock { $0.append(records) } }
        return isOpen
    }
}

@Suite struct OTLPReceiverTests {
    private static let trace = "0af7651916cd43dd8448eb211c80319c"

    private static func spans(_ fields: String) -> [UInt8] {
        Array(#"{"resourceSpans":[{"scopeSpans":[{"spans":[{\#(fields)}]}]}]}"#.utf8)
    }

    @Test(arguments: [trace, trace.uppercased()])
    func idsOfJSONAreHex(_ id: String) throws {
        let intake = Intake()
        let body = Self.spans(
            #""traceId":"\#(id)","spanId":"b7ad6b7169203331","parentSpanId":"","name":"n","startTimeUnixNano":"2000","#
                + #""endTimeUnixNano":5000,"kind":3,"status":{"code":2},"links":[{"traceId":"\#(id)","spanId":"00f067aa0ba902b7"}],"later":{}"#
        )
        let answer = OTLPReceiver(intake: intake).receive(.traces, body, format: .json, contentEncoding: nil)
        #expect(answer == OTLPAnswer(status: 200, body: Array("{}".utf8)))
        let span = try #require(intake.taken.withLock { $0.first?.spans.first })
        #expect(span.traceId == Self.trace)
        #expect(span.spanId == "b7ad6b7169203331")
        #expect(span.parentSpanId == nil)
        #expect((span.startMicros, span.durationMicros, span.kind, span.status) == (2, 3, "CLIENT", "ERROR"))
        #expect(span.attributes["otel.links"]?.contains(Self.trace) == true)
        #expect(span.attributes["otel.links"]?.contains("00f067aa0ba902b7") == true)
    }

    @Test(arguments: ["zz", "0af7", "not hex, not hex", "0af7651916cd43dd8448eb211c8031zz"])
    func idsThatAreNoneAreRefused(_ id: String) {
        let intake = Intake()
        let body = Self.spans(#""traceId":"\#(id)","spanId":"b7ad6b7169203331","startTimeUnixNano":"2000""#)
        let answer = OTLPReceiver(intake: intake).receive(.traces, body, format: .json, contentEncoding: nil)
        let isPartial = String(decoding: answer.body, as: UTF8.self).contains("rejectedSpans")
        #expect(answer.status == 400 || isPartial)
        #expect(intake.taken.withLock { $0.isEmpty })
    }

    @Test func aFullQueueIsSaidWithATimeToComeBack() {
        let receiver = OTLPReceiver(intake: Intake(isOpen: false))
        let body = Array(#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#.utf8)
        let answer = receiver.receive(.logs, body, format: .json, contentEncoding: nil)
        #expect(answer.status == 503)
        #expect(answer.retryAfter == 1)
        #expect(String(decoding: answer.body, as: UTF8.self).contains(#""code":14"#))
        // Nothing to keep needs no room.
        #expect(receiver.receive(.logs, [], format: .protobuf, contentEncoding: nil).status == 200)
    }

    @Test func tooManyRecordsAreRefusedWhole() {
        let intake = Intake()
        let logs = Array(repeating: "{}", count: OTLPLimits.recordsMax + 1).joined(separator: ",")
        let body = Array(#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[\#(logs)]}]}]}"#.utf8)
        let answer = OTLPReceiver(intake: intake).receive(.logs, body, format: .json, contentEncoding: nil)
        #expect(answer.status == 413)
        #expect(intake.taken.withLock { $0.isEmpty })
    }

    @Test(arguments: ["1", "[]", #"{"resourceLogs":[null]}"#, "{", ""])
    func whatAWorkerSendsMustBeOTLP(_ text: String) {
        #expect(throws: ServiceError.self) {
            try OTLPReceiver.records(.logs, fromWorker: Array(text.utf8), pipeline: nil, function: nil)
        }
    }

    @Test func aWorkersRecordsBelongToItsFunction() throws {
        let body = Array(
            """
            {"resourceMetrics":[{"resource":{"attributes":[]},"scopeMetrics":[{"scope":{"name":"user"},"metrics":[{"name":"n","unit":"1",
            "histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"5000","count":"2","sum":3,"bucketCounts":["1","1"],
            "explicitBounds":[2],"attributes":[{"key":"k","value":{"intValue":"7"}}]}]}}]}]}]}
            """.utf8
        )
        let records = try OTLPReceiver.records(.metrics, fromWorker: body, pipeline: "p", function: "f")
        #expect(
            records.metrics == [
                MetricPoint(
                    timeMicros: 5,
                    name: "n",
                    type: "Histogram",
                    unit: "1",
                    pipeline: "p",
                    function: "f",
                    value: 3,
                    count: 2,
                    attributes: ["k": "7"],
                    buckets: #"{"bounds":[2],"counts":[1,1]}"#,
                    totalSince: "0"
                )
            ]
        )
    }

    @Test func inflatingHasALimit() throws {
        // gzip of 100,000 zeros, made by zlib at level 9.
        let bomb: [UInt8] = Self.gzipOfZeros
        #expect(try Inflater.inflate(bomb, limit: 100_000).count == 100_000)
        #expect(throws: OTLPFault.self) { try Inflater.inflate(bomb, limit: 99_999) }
        #expect(try Inflater.inflate(bomb + bomb, limit: 200_000).count == 200_000)
        for end in 0..<bomb.count {
            #expect(throws: OTLPFault.self) { try Inflater.inflate(Array(bomb[..<end]), limit: 1 << 20) }
        }
        #expect(throws: OTLPFault.self) { try Inflater.inflate(Array("not gzip".utf8), limit: 1 << 20) }
    }

    private static let gzipOfZeros: [UInt8] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 237, 193, 49, 1, 0, 0, 0, 194, 160, 245, 79, 109, 13, 15, 160, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 87, 3, 125, 149, 17, 212, 160, 134, 1, 0,
    ]
}
