// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import OTLP
import SwiftProtobuf
import Testing

private typealias Value = Opentelemetry_Proto_Common_V1_AnyValue
private typealias Pair = Opentelemetry_Proto_Common_V1_KeyValue
private typealias Span = Opentelemetry_Proto_Trace_V1_Span
private typealias Log = Opentelemetry_Proto_Logs_V1_LogRecord
private typealias Metric = Opentelemetry_Proto_Metrics_V1_Metric

private func pair(_ key: String, _ text: String) -> Pair {
    .with {
        $0.key = key
        $0.value.stringValue = text
    }
}

private let resource = Opentelemetry_Proto_Resource_V1_Resource.with {
    $0.attributes = [pair("service.name", "checkout"), pair("service.namespace", "shop"), pair("host.name", "h1")]
    $0.droppedAttributesCount = 4
}
private let scope = Opentelemetry_Proto_Common_V1_InstrumentationScope.with {
    $0.name = "lib"
    $0.version = "2"
    $0.attributes = [pair("kind", "test")]
    $0.droppedAttributesCount = 5
}
/// What resource and scope add to the attributes of each entry.
private let added = [
    "service.name": "checkout", "service.namespace": "shop", "host.name": "h1", "otel.scope.name": "lib",
    "otel.scope.version": "2", "otel.scope.kind": "test", "otel.resource.dropped_attributes_count": "4",
    "otel.scope.dropped_attributes_count": "5",
]
private let trace = Data((1...16).map { UInt8($0) })
private let span = Data((0xF1...0xF8).map { UInt8($0) })

private func decode(_ spans: [Span], _ origin: RecordDecoder.Origin = .outside) -> RecordDecoder {
    var decoder = RecordDecoder(origin: origin)
    decoder.add(
        .with {
            $0.resourceSpans = [
                .with {
                    $0.resource = resource
                    $0.scopeSpans = [
                        .with {
                            $0.scope = scope
                            $0.spans = spans
                        }
                    ]
                }
            ]
        }
    )
    return decoder
}

private func decode(_ logs: [Log], _ origin: RecordDecoder.Origin = .outside) -> [LogRecord] {
    var decoder = RecordDecoder(origin: origin)
    decoder.add(
        .with {
            $0.resourceLogs = [
                .with {
                    $0.resource = resource
                    $0.scopeLogs = [
                        .with {
                            $0.scope = scope
                            $0.logRecords = logs
                        }
                    ]
                }
            ]
        }
    )
    return decoder.records.logs
}

private func decode(_ metric: Metric) -> RecordDecoder {
    var decoder = RecordDecoder(origin: .outside)
    decoder.add(
        .with {
            $0.resourceMetrics = [
                .with {
                    $0.resource = resource
                    $0.scopeMetrics = [
                        .with {
                            $0.scope = scope
                            $0.metrics = [metric]
                        }
                    ]
                }
            ]
        }
    )
    return decoder
}

@Suite struct SpanDecodingTests {
    private static let whole = Span.with {
        $0.traceID = trace
        $0.spanID = span
        $0.parentSpanID = Data(repeating: 0xAB, count: 8)
        $0.name = "pay"
        $0.kind = .producer
        $0.startTimeUnixNano = 1_700_000_000_123_456_789
        $0.endTimeUnixNano = 1_700_000_001_123_999_789
        $0.traceState = "a=b"
        $0.status = .with {
            $0.code = .error
            $0.message = "declined"
        }
        $0.attributes = [
            pair("host.name", "own"), pair("cloudevents.event_id", "e1"), pair("cloudevents.event_type", "t1"),
        ]
        $0.events = [
            .with {
                $0.name = "retry"
                $0.timeUnixNano = 1_700_000_000_500_000_000
                $0.attributes = [pair("n", "1")]
                $0.droppedAttributesCount = 9
            }
        ]
        $0.links = [
            .with {
                $0.traceID = trace
                $0.spanID = span
                $0.traceState = "c=d"
                $0.attributes = [pair("why", "batch")]
                $0.droppedAttributesCount = 3
            }
        ]
        $0.droppedAttributesCount = 6
        $0.droppedEventsCount = 7
        $0.droppedLinksCount = 8
    }

    @Test func everyFieldHasItsPlace() throws {
        let record = try #require(decode([Self.whole]).records.spans.first)
        #expect(record.traceId == "0102030405060708090a0b0c0d0e0f10")
        #expect(record.spanId == "f1f2f3f4f5f6f7f8")
        #expect(record.parentSpanId == "abababababababab")
        #expect(record.name == "pay")
        #expect(record.kind == "PRODUCER")
        #expect(record.startMicros == 1_700_000_000_123_456)
        #expect(record.durationMicros == 1_000_543)
        #expect(record.status == "ERROR")
        #expect(record.statusMessage == "declined")
        #expect(record.pipeline == "shop")
        #expect(record.function == "checkout")
        #expect(record.eventId == "e1")
        #expect(record.eventType == "t1")
        let own = [
            "host.name": "own", "resource.host.name": "h1", "cloudevents.event_id": "e1",
            "cloudevents.event_type": "t1", "otel.trace_state": "a=b", "otel.dropped_attributes_count": "6",
            "otel.dropped_events_count": "7", "otel.dropped_links_count": "8",
            "otel.links":
                #"[{"trace_id":"0102030405060708090a0b0c0d0e0f10","span_id":"f1f2f3f4f5f6f7f8","trace_state":"c=d","#
                + #""attributes":{"why":"batch"},"dropped_attributes_count":3}]"#,
        ]
        #expect(record.attributes == added.merging(own) { $1 })
        let event = try #require(record.events.first)
        #expect(event.name == "retry")
        #expect(Timestamp.microseconds(event.time) == 1_700_000_000_500_000)
        #expect(event.attributes == ["n": "1", "otel.dropped_attributes_count": "9"])
    }

    @Test func whatIsDecodedCanBeEncodedAgain() throws {
        let record = try #require(decode([Self.whole]).records.spans.first)
        let request = RecordEncoder(serviceName: "martlet", serviceVersion: "1").request(spans: [record])
        let found = try #require(request.resourceSpans.first?.scopeSpans.first?.spans.first)
        var wanted = Self.whole
        wanted.startTimeUnixNano = 1_700_000_000_123_456_000
        wanted.endTimeUnixNano = 1_700_000_001_123_999_000
        wanted.attributes = found.attributes
        #expect(found == wanted)
        let resource = request.resourceSpans.first?.resource.attributes ?? []
        #expect(resource.contains(pair("service.name", "checkout")))
        #expect(resource.contains(pair("service.namespace", "shop")))
    }

    @Test(arguments: [
        (Span.SpanKind.unspecified, "INTERNAL"), (.internal, "INTERNAL"), (.server, "SERVER"), (.client, "CLIENT"),
        (.producer, "PRODUCER"), (.consumer, "CONSUMER"), (.UNRECOGNIZED(77), "INTERNAL"),
    ])
    func kindsHaveNames(_ kind: Opentelemetry_Proto_Trace_V1_Span.SpanKind, _ name: String) {
        var one = Self.whole
        one.kind = kind
        #expect(decode([one]).records.spans.map(\.kind) == [name])
    }

    @Test func spansWithoutIdsOrTimeAreRejectedAndCounted() {
        let faults: [(inout Span) -> Void] = [
            { $0.traceID = Data(repeating: 0, count: 16) }, { $0.traceID = Data() }, { $0.spanID = trace },
            { $0.spanID = Data(repeating: 0, count: 8) }, { $0.startTimeUnixNano = 0 },
        ]
        let decoder = decode(
            faults.map { fault in
                var one = Self.whole
                fault(&one)
                return one
            } + [Self.whole]
        )
        #expect(decoder.rejected == faults.count)
        #expect(decoder.reason?.contains("'pay'") == true)
        #expect(decoder.records.spans.count == 1)
    }

    @Test func endsBeforeTheStartAndEndlessTimesAreTaken() {
        var one = Self.whole
        one.endTimeUnixNano = 5
        #expect(decode([one]).records.spans.map(\.durationMicros) == [0])
        one.startTimeUnixNano = .max
        one.endTimeUnixNano = .max
        #expect(decode([one]).records.spans.map(\.startMicros) == [Int64(UInt64.max / 1000)])
    }

    @Test func ofAWorkerResourceAndScopeAddNothing() throws {
        let record = try #require(decode([Self.whole], .worker(pipeline: "p", function: "f")).records.spans.first)
        #expect(record.pipeline == "p")
        #expect(record.function == "f")
        #expect(record.attributes["host.name"] == "own")
        #expect(record.attributes["service.name"] == nil)
        #expect(record.attributes["otel.links"] != nil)
    }

    @Test func attributesOfAResourceMayNotGrowWithoutBound() {
        var decoder = RecordDecoder(origin: .outside)
        decoder.add(
            .with {
                $0.resourceSpans = [
                    .with {
                        $0.resource.attributes = [pair("k", String(repeating: "x", count: 1 << 20))]
                        $0.scopeSpans = [.with { $0.spans = Array(repeating: Self.whole, count: 100) }]
                    }
                ]
            }
        )
        #expect(!decoder.isWithinLimit)
        #expect(decoder.records.spans.isEmpty)
    }
}

@Suite struct LogDecodingTests {
    @Test func everyFieldHasItsPlace() throws {
        let record = try #require(
            decode([
                Log.with {
                    $0.timeUnixNano = 1_700_000_000_123_456_789
                    $0.observedTimeUnixNano = 5_000
                    $0.severityNumber = .warn2
                    $0.severityText = "achtung"
                    $0.body.stringValue = "hé"
                    $0.attributes = [pair("n", "1"), pair("scope", "vast-runtime")]
                    $0.droppedAttributesCount = 2
                    $0.traceID = trace
                    $0.spanID = span
                    $0.eventName = "login"
                }
            ]).first
        )
        #expect(Timestamp.microseconds(record.time) == 1_700_000_000_123_456)
        #expect(record.severity == "WARN")
        #expect(record.scope == "user")
        #expect(record.pipeline == "shop")
        #expect(record.function == "checkout")
        #expect(record.message == "hé")
        #expect(record.traceId == "0102030405060708090a0b0c0d0e0f10")
        #expect(record.spanId == "f1f2f3f4f5f6f7f8")
        let own = [
            "n": "1", "scope": "vast-runtime", "otel.severity_number": "14", "otel.severity_text": "achtung",
            "otel.dropped_attributes_count": "2", "event.name": "login",
        ]
        #expect(record.attributes == added.merging(own) { $1 })
    }

    @Test(arguments: 0...25)
    func severityNumbersHaveNames(_ number: Int) throws {
        let log = Log.with { $0.severityNumber = .init(rawValue: number) ?? .unspecified }
        let record = try #require(decode([log]).first)
        let names = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
        let isKnown = (1...24).contains(number)
        #expect(record.severity == (isKnown ? names[(number - 1) / 4] : "INFO"))
        let isFirst = (number - 1) % 4 == 0
        #expect(record.attributes["otel.severity_number"] == (isKnown && !isFirst ? String(number) : nil))
    }

    @Test func theTextCountsWhereThereIsNoNumber() {
        let logs = ["critical", "NOTICE", "loud"].map { text in Log.with { $0.severityText = text } }
        #expect(decode(logs).map(\.severity) == ["FATAL", "INFO", "INFO"])
        #expect(decode(logs).map { $0.attributes["otel.severity_text"] } == [nil, nil, "loud"])
    }

    @Test func theObservedTimeStandsInForNone() {
        let log = Log.with { $0.observedTimeUnixNano = 5_000_000 }
        #expect(decode([log]).map { Timestamp.microseconds($0.time) } == [5000])
    }

    @Test func workersNameTheirScope() {
        let logs = ["user", "vast-runtime"].map { name in
            Log.with {
                $0.severityNumber = .info
                $0.attributes = [pair("scope", name), pair("n", "1")]
            }
        }
        let records = decode(logs, .worker(pipeline: "p", function: nil))
        #expect(records.map(\.scope) == ["user", "vast-runtime"])
        #expect(records.map(\.attributes) == [["n": "1"], ["n": "1"]])
    }

    @Test func valuesOfAllKindsAreText() {
        let values: [(Value, String)] = [
            (.with { $0.stringValue = "a\"b" }, "a\"b"), (.with { $0.boolValue = true }, "true"),
            (.with { $0.intValue = .min }, "-9223372036854775808"), (.with { $0.doubleValue = 1.5 }, "1.5"),
            (.with { $0.doubleValue = .nan }, "NaN"), (.with { $0.doubleValue = -.infinity }, "-Infinity"),
            (.with { $0.bytesValue = Data([255, 0]) }, "/wA="), (Value(), ""),
            (
                .with {
                    $0.kvlistValue.values = [
                        pair("k", "v"),
                        .with {
                            $0.key = "l"
                            $0.value.arrayValue.values = [
                                .with { $0.intValue = 1 }, .with { $0.doubleValue = .infinity }, Value(),
                            ]
                        },
                    ]
                }, #"{"k":"v","l":[1,"Infinity",null]}"#
            ),
        ]
        let logs = values.map { value, _ in Log.with { $0.body = value } }
        #expect(decode(logs).map(\.message) == values.map(\.1))
    }
}

@Suite struct MetricDecodingTests {
    private static func metric(_ change: (inout Metric) -> Void) -> Metric {
        .with {
            $0.name = "m"
            $0.unit = "ms"
            change(&$0)
        }
    }

    @Test func sumsAndGaugesHaveTypes() throws {
        let points: [Opentelemetry_Proto_Metrics_V1_NumberDataPoint] = [
            .with {
                $0.timeUnixNano = 7_000_999
                $0.asInt = -3
                $0.attributes = [pair("a", "b")]
            }, .with { $0.asDouble = 0.5 },
        ]
        let counter = decode(
            Self.metric {
                $0.sum.isMonotonic = true
                $0.sum.aggregationTemporality = .delta
                $0.sum.dataPoints = points
            }
        ).records.metrics
        let first = try #require(counter.first)
        #expect(first.type == "Counter")
        #expect(first.timeMicros == 7000)
        #expect((first.name, first.unit, first.value, first.count) == ("m", "ms", -3, 1))
        #expect((first.pipeline, first.function) == ("shop", "checkout"))
        #expect(first.attributes == added.merging(["a": "b"]) { $1 })
        #expect(first.buckets == nil)
        #expect(counter.map(\.value) == [-3, 0.5])
        let sum = decode(
            Self.metric {
                $0.sum.aggregationTemporality = .cumulative
                $0.sum.dataPoints = points
            }
        )
        #expect(sum.records.metrics.map(\.type) == ["UpDownCounter", "UpDownCounter"])
        #expect(decode(Self.metric { $0.gauge.dataPoints = points }).records.metrics.map(\.type) == ["Gauge", "Gauge"])
    }

    @Test func histogramsKeepBuckets() throws {
        let point = try #require(
            decode(
                Self.metric {
                    $0.histogram.dataPoints = [
                        .with {
                            $0.count = 6
                            $0.sum = 20.5
                            $0.explicitBounds = [1, 2.5]
                            $0.bucketCounts = [1, 2, 3]
                            $0.min = 0.25
                            $0.max = 9
                        }
                    ]
                }
            ).records.metrics.first
        )
        #expect((point.type, point.value, point.count) == ("Histogram", 20.5, 6))
        #expect(point.buckets == #"{"bounds":[1,2.5],"counts":[1,2,3],"min":0.25,"max":9}"#)
        let request = RecordEncoder(serviceName: "s", serviceVersion: "1").request(metrics: [point])
        let again = try #require(
            request.resourceMetrics.first?.scopeMetrics.first?.metrics.first?.histogram.dataPoints.first
        )
        #expect(again.explicitBounds == [1, 2.5])
        #expect(again.bucketCounts == [1, 2, 3])
        #expect((again.min, again.max, again.sum, again.count) == (0.25, 9, 20.5, 6))
    }

    @Test func exponentialHistogramsGetBounds() throws {
        let point = try #require(
            decode(
                Self.metric {
                    $0.exponentialHistogram.dataPoints = [
                        .with {
                            $0.count = 10
                            $0.sum = 3
                            $0.scale = 0
                            $0.zeroCount = 4
                            $0.positive.offset = 1
                            $0.positive.bucketCounts = [1, 2]
                            $0.negative.offset = -1
                            $0.negative.bucketCounts = [3]
                        }
                    ]
                }
            ).records.metrics.first
        )
        #expect((point.type, point.value, point.count) == ("ExponentialHistogram", 3, 10))
        // Negative values between -1 and -1/2, zeros, then (2, 4] and (4, 8].
        #expect(point.buckets == #"{"bounds":[-1,-0.5,0,2,4,8],"counts":[0,3,4,0,1,2,0],"scale":0}"#)
    }

    @Test func summariesKeepQuantiles() throws {
        let point = try #require(
            decode(
                Self.metric {
                    $0.summary.dataPoints = [
                        .with {
                            $0.count = 2
                            $0.sum = 7
                            $0.quantileValues = [
                                .with {
                                    $0.quantile = 0.99
                                    $0.value = 5
                                }
                            ]
                        }
                    ]
                }
            ).records.metrics.first
        )
        #expect((point.type, point.value, point.count) == ("Summary", 7, 2))
        #expect(point.buckets == #"{"quantiles":[{"quantile":0.99,"value":5}]}"#)
    }

    @Test func pointsThatAreNoneAreLeftOut() {
        let none = decode(
            Self.metric {
                $0.gauge.dataPoints = [
                    .with {
                        $0.flags = 1
                        $0.asDouble = 1
                    }
                ]
            }
        )
        #expect(none.records.metrics.isEmpty && none.rejected == 0)
        #expect(decode(Self.metric { $0.gauge.dataPoints = [.init()] }).rejected == 1)
        let odd = decode(
            Self.metric {
                $0.histogram.dataPoints = [
                    .with {
                        $0.explicitBounds = [1]
                        $0.bucketCounts = [1]
                    }
                ]
            }
        )
        #expect(odd.rejected == 1)
        let many = decode(
            Self.metric {
                $0.exponentialHistogram.dataPoints = [
                    .with { $0.positive.bucketCounts = Array(repeating: 0, count: 3000) }
                ]
            }
        )
        #expect(many.rejected == 1)
        #expect(decode(Self.metric { _ in }).records.metrics.isEmpty)
    }
}
