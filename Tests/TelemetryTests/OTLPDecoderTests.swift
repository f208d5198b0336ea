// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore
import Telemetry
import Testing

@Suite struct OTLPDecoderTests {
    private static let origin = OTLPDecoder.Origin(pipeline: "p", function: "f")
    private static let trace = "0af7651916cd43dd8448eb211c80319c"

    @Test func readsLogRecordsOfTheSDK() throws {
        let body = try JSONValue(
            parsing: """
                {"resourceLogs":[{"resource":{"attributes":[]},"scopeLogs":[{"scope":{"name":"user"},"logRecords":[
                {"timeUnixNano":"1700000000123456789","severityText":"WARN","severityNumber":13,"body":{"stringValue":"hé"},
                 "traceId":"\(Self.trace)","spanId":"b7ad6b7169203331",
                 "attributes":[{"key":"scope","value":{"stringValue":"vast-runtime"}},{"key":"code.lineno","value":{"intValue":"7"}}]}]}]}]}
                """
        )
        let log = try #require(OTLPDecoder.logs(body, from: Self.origin).first)
        #expect(log.severity == "WARN")
        #expect(log.scope == "vast-runtime")
        #expect(log.message == "hé")
        #expect(log.traceId == Self.trace)
        #expect(log.attributes == ["code.lineno": "7"])
        #expect(log.pipeline == "p")
    }

    @Test func readsSpansAndLeavesOutThoseWithoutIds() throws {
        let body = try JSONValue(
            parsing: """
                {"resourceSpans":[{"scopeSpans":[{"spans":[
                {"traceId":"\(Self.trace.uppercased())","spanId":"b7ad6b7169203331","name":"read","kind":3,"startTimeUnixNano":"2000000",
                 "endTimeUnixNano":5000000,"status":{"code":2,"message":"no"},"events":[{"name":"e","timeUnixNano":"3000000"}]},
                {"traceId":"00000000000000000000000000000000","spanId":"b7ad6b7169203331","startTimeUnixNano":"1","endTimeUnixNano":"1"},
                {"name":"nothing"}, 5, null]}]}]}
                """
        )
        let spans = OTLPDecoder.spans(body, from: Self.origin)
        #expect(spans.map(\.traceId) == [Self.trace])
        #expect(spans.map(\.kind) == ["CLIENT"])
        #expect(spans.map(\.startMicros) == [2000])
        #expect(spans.map(\.durationMicros) == [3000])
        #expect(spans.map(\.status) == ["ERROR"])
        #expect(spans.first?.events.map(\.name) == ["e"])
    }

    @Test(arguments: [
        "1", "[]", "{}", #"{"resourceSpans":7,"resourceLogs":[null],"resourceMetrics":[{"scopeMetrics":"x"}]}"#,
    ])
    func oddInputIsNothing(_ text: String) throws {
        let body = try JSONValue(parsing: text)
        #expect(OTLPDecoder.spans(body, from: Self.origin).isEmpty)
        #expect(OTLPDecoder.logs(body, from: Self.origin).isEmpty)
        #expect(OTLPDecoder.metrics(body, from: Self.origin).isEmpty)
    }
}
