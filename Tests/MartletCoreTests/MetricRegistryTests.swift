// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Testing

@Suite(.timeLimit(.minutes(5)))
struct MetricRegistryTests {
    private static let counter = MetricDefinition("test.counter", .counter, unit: "{thing}", "Things.")
    private static let gauge = MetricDefinition("test.gauge", .gauge, unit: "By", "Bytes.")
    private static let histogram = MetricDefinition(
        "test.histogram",
        .histogram,
        unit: "ms",
        "Times.",
        scale: 1000,
        bounds: [1, 10, 100]
    )

    private struct Source: MetricSource {
        let values: [([String: String], Double)]

        func readings() async -> [MetricReading] {
            values.map { MetricReading(MetricRegistryTests.gauge, $0.0, $0.1) }
        }
    }

    @Test func countsExactlyFromManyThreads() async {
        let registry = MetricRegistry()
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    let counter = registry.counter(Self.counter, ["half": task < 4 ? "a" : "b"])
                    let histogram = registry.histogram(Self.histogram)
                    for value in 0..<20_000 {
                        counter.add()
                        histogram.record(Int64(value))
                    }
                }
            }
        }
        let families = await registry.snapshot()
        #expect(families.map(\.definition.name) == ["test.counter", "test.histogram"])
        #expect(families[0].series.map(\.labels) == [["half": "a"], ["half": "b"]])
        #expect(families[0].series.map(\.value) == [.number(80_000), .number(80_000)])
        guard case .histogram(let found)? = families[1].series.first?.value else {
            Issue.record("no histogram")
            return
        }
        // Bounds are upper bounds and belong to their bucket: 0...1000 µs are within 1 ms.
        #expect(found.counts == [8008, 72_000, 79_992, 0])
        #expect(found.count == 160_000)
        let sum: Double = 8 * 199_990_000 / 1000
        #expect(found.sum == sum)
        #expect(found.min == 0 && found.max == 19.999)
    }

    @Test func extremesBeginAnewWhenTaken() {
        let histogram = MetricRegistry().histogram(Self.histogram)
        #expect(histogram.snapshot() == HistogramSnapshot(counts: [0, 0, 0, 0], sum: 0))
        histogram.record(5000)
        #expect(histogram.snapshot(takingExtremes: true).max == 5)
        histogram.record(2000)
        let after = histogram.snapshot()
        #expect(after.min == 2 && after.max == 2)
        #expect(after.count == 2 && after.sum == 7)
    }

    @Test func labelsBeyondTheBoundShareOne() async {
        let registry = MetricRegistry(seriesMax: 3)
        for number in 0..<10 { registry.counter(Self.counter, ["key": "k\(number)"]).add(Int64(number)) }
        registry.counter(Self.counter, ["key": "k1"]).add(100)
        let series = await registry.snapshot()[0].series
        let values = Dictionary(uniqueKeysWithValues: series.map { ($0.labels["key"] ?? "", $0.value) })
        #expect(values == ["k0": .number(0), "k1": .number(101), "k2": .number(2), "other": .number(42)])
    }

    @Test func readingsAreBoundedOrderedAndJoined() async {
        let registry = MetricRegistry(seriesMax: 2)
        registry.add(Source(values: [(["t": "c"], 4), (["t": "a"], 1), (["t": "b"], 2)]))
        registry.add(Source(values: [(["t": "a"], 10)]))
        let series = await registry.snapshot()[0].series
        #expect(series.map(\.labels) == [["t": "a"], ["t": "b"], ["t": "other"]])
        #expect(series.map(\.value) == [.number(11), .number(2), .number(4)])
    }

    @Test func everyMetricOfTheEngineIsNamedOnce() {
        let names = EngineMetrics.all.map(\.name)
        #expect(Set(names).count == names.count)
        for name in [
            "dataengine.event.reception_latency", "dataengine.event.total", "dataengine.function.invocations",
            "dataengine.function.invoke_duration", "dataengine.function.errors",
        ] { #expect(names.contains(name)) }
        #expect(EngineMetrics.all.allSatisfy { $0.description.hasSuffix(".") })
        #expect(EngineMetrics.receptionLatency.kind == .histogram && EngineMetrics.receptionLatency.unit == "ms")
        #expect(EngineMetrics.invokeDuration.kind == .histogram && EngineMetrics.invokeDuration.unit == "ms")
        #expect(EngineMetrics.events.kind == .counter && EngineMetrics.invocations.kind == .counter)
    }

    /// What an event costs: two counters and two histograms.
    ///
    /// Machines differ, so the bound is wide; the figure is printed.
    @Test func recordingIsCheap() {
        let registry = MetricRegistry()
        let counters = [registry.counter(Self.counter, ["a": "1"]), registry.counter(Self.counter, ["a": "2"])]
        let histograms = [
            registry.histogram(EngineMetrics.receptionLatency), registry.histogram(EngineMetrics.invokeDuration),
        ]
        let rounds: Int64 = 500_000
        let clock = ContinuousClock()
        var best = Duration.seconds(1000)
        for _ in 0..<3 {
            let time = clock.measure {
                for round in 0..<rounds {
                    counters[0].add()
                    counters[1].add()
                    histograms[0].record(round & 0xFFFF)
                    histograms[1].record(round & 0x3FF)
                }
            }
            best = min(best, time)
        }
        let nanoseconds = best / .nanoseconds(1) / Double(rounds)
        print("metrics of one invocation: \(nanoseconds) ns")
        #expect(nanoseconds < 500)
    }
}
