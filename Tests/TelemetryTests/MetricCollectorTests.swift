// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Synchronization
import Telemetry
import Testing

@Suite(.timeLimit(.minutes(5)))
struct MetricCollectorTests {
    private final class Points: TelemetrySink {
        private let list = Mutex<[MetricPoint]>([])

        func record(spans: [SpanRecord]) {}
        func record(logs: [LogRecord]) {}
        func record(metrics: [MetricPoint]) { list.withLock { $0 += metrics } }

        func take() -> [MetricPoint] {
            list.withLock { list in
                defer { list = [] }
                return list
            }
        }
    }

    private final class Meter: MetricSource {
        let value = Mutex(5.0)

        func readings() async -> [MetricReading] {
            [MetricReading(EngineMetrics.topicRecords, ["topic": "t"], value.withLock { $0 })]
        }
    }

    private static let labels = [
        "pipeline_name": "p", "function_name": "f", "function_deployment_name": "d",
    ]

    @Test func pointsAreWhatWasGained() async throws {
        let registry = MetricRegistry()
        let sink = Points()
        let collector = MetricCollector(registry: registry, sink: sink)
        let counter = registry.counter(EngineMetrics.invocations, Self.labels)
        let histogram = registry.histogram(EngineMetrics.invokeDuration, Self.labels)
        counter.add(3)
        histogram.record(1500)
        await collector.collect()
        let first = sink.take()
        #expect(first.map(\.name) == ["dataengine.function.invocations", "dataengine.function.invoke_duration"])
        #expect(first[0].value == 3 && first[0].pipeline == "p" && first[0].function == "f")
        #expect(first[0].attributes == ["function_deployment_name": "d"])
        #expect(first[1].value == 1.5 && first[1].count == 1)
        let buckets = try JSONValue(parsing: try #require(first[1].buckets))
        #expect(buckets["min"] == 1.5 && buckets["max"] == 1.5)
        #expect(buckets["counts"]?.arrayValue?.count == (buckets["bounds"]?.arrayValue?.count ?? 0) + 1)
        await collector.collect()
        #expect(sink.take().isEmpty)
        counter.add(2)
        await collector.collect()
        #expect(sink.take().map(\.value) == [2])
    }

    @Test func aLookedUpCounterThatStartsOverCountsFromZero() async {
        let registry = MetricRegistry()
        let sink = Points()
        let meter = Meter()
        registry.add(meter)
        let collector = MetricCollector(registry: registry, sink: sink)
        for (value, gain) in [(5.0, 5.0), (9, 4), (2, 2), (2, nil)] {
            meter.value.withLock { $0 = value }
            await collector.collect()
            #expect(sink.take().first?.value == gain)
        }
    }

    @Test func nothingIsCountedTwiceWhenManyAsk() async {
        let registry = MetricRegistry()
        let sink = Points()
        let collector = MetricCollector(registry: registry, sink: sink)
        let counter = registry.counter(EngineMetrics.events)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    counter.add()
                    await collector.collect()
                }
            }
        }
        await collector.collect()
        #expect(sink.take().reduce(0) { $0 + $1.value } == 50)
    }

    @Test func timesOfAnyCenturyDoNotOverflow() {
        let registry = MetricRegistry()
        let histogram = registry.histogram(EngineMetrics.receptionLatency, [:])
        for _ in 0..<1000 {
            histogram.record(.max)
            histogram.record(1_700_000_000_000_000)
            histogram.record(.min)
        }
        #expect(histogram.snapshot().counts.reduce(0, +) == 3000)
    }

    @Test func totalsOfSendersBecomeGains() {
        let deltas = CumulativeDeltas()
        func gains(_ value: Double, start: String = "1", counts: String? = nil, count: Int64 = 1) -> [MetricPoint] {
            let point = MetricPoint(
                timeMicros: 0,
                name: "n",
                type: counts == nil ? "Counter" : "Histogram",
                unit: "",
                value: value,
                count: count,
                buckets: counts.map { #"{"bounds":[1],"counts":\#($0),"min":0,"max":9}"# },
                totalSince: start
            )
            return deltas.gains([point])
        }
        #expect(gains(5).map(\.value) == [5])
        #expect(gains(8).map(\.value) == [3])
        #expect(gains(8).isEmpty)
        #expect(gains(4, start: "2").map(\.value) == [4])
        #expect(gains(1).map(\.value) == [1])
        #expect(
            gains(10, counts: "[1,2]", count: 3).first?.buckets == #"{"bounds":[1],"counts":[1,2],"min":0,"max":9}"#
        )
        let gained = gains(15, counts: "[1,4]", count: 5)
        #expect(gained.map(\.value) == [5] && gained.map(\.count) == [2])
        #expect(gained.first?.buckets == #"{"bounds":[1],"counts":[0,2]}"#)
    }

    @Test func expositionIsAsPrometheusReadsIt() {
        let definition = MetricDefinition(
            "a.latency",
            .histogram,
            unit: "ms",
            "Says \"how\" long\nit takes \\ took.",
            bounds: [0.3, 300]
        )
        let families = [
            MetricFamily(
                definition: definition,
                series: [
                    .init(
                        labels: ["path": "a\"b\\c\nd"],
                        value: .histogram(HistogramSnapshot(counts: [1, 2, 3], sum: 1234.5))
                    )
                ]
            ),
            MetricFamily(
                definition: MetricDefinition("b.event.total", .counter, unit: "{event}", "Events."),
                series: [.init(labels: [:], value: .number(7))]
            ),
            MetricFamily(
                definition: MetricDefinition("c.size", .gauge, unit: "By", "Bytes."),
                series: [.init(labels: ["b": "2", "a": "1"], value: .number(1.5))]
            ), MetricFamily(definition: MetricDefinition("d", .gauge, unit: "", "Empty."), series: []),
        ]
        let buckets = #"""
            a_latency_seconds_bucket{path="a\"b\\c\nd",le="0.0003"} 1
            a_latency_seconds_bucket{path="a\"b\\c\nd",le="0.3"} 3
            a_latency_seconds_bucket{path="a\"b\\c\nd",le="+Inf"} 6
            a_latency_seconds_sum{path="a\"b\\c\nd"} 1.2345
            a_latency_seconds_count{path="a\"b\\c\nd"} 6

            """#
        #expect(
            String(decoding: PrometheusText.bytes(families, .prometheus), as: UTF8.self) == #"""
                # HELP a_latency_seconds Says "how" long\nit takes \\ took.
                # TYPE a_latency_seconds histogram

                """# + buckets + #"""
                    # HELP b_event_total Events.
                    # TYPE b_event_total counter
                    b_event_total 7
                    # HELP c_size_bytes Bytes.
                    # TYPE c_size_bytes gauge
                    c_size_bytes{a="1",b="2"} 1.5

                    """#
        )
        #expect(
            String(decoding: PrometheusText.bytes(families, .openMetrics), as: UTF8.self) == #"""
                # HELP a_latency_seconds Says \"how\" long\nit takes \\ took.
                # TYPE a_latency_seconds histogram
                # UNIT a_latency_seconds seconds

                """# + buckets + #"""
                    # HELP b_event Events.
                    # TYPE b_event counter
                    b_event_total 7
                    # HELP c_size_bytes Bytes.
                    # TYPE c_size_bytes gauge
                    # UNIT c_size_bytes bytes
                    c_size_bytes{a="1",b="2"} 1.5
                    # EOF

                    """#
        )
    }
}
