// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Telemetry
import Testing

@Suite(.timeLimit(.minutes(5)))
struct MetricQueryTests {
    /// A full hour, so that buckets are easy to see.
    private static let start: Int64 = 1_700_002_800

    private func point(
        _ second: Int64,
        _ name: String,
        _ type: String,
        _ value: Double,
        function: String = "f",
        pipeline: String = "p",
        attributes: [String: String] = [:]
    ) -> MetricPoint {
        MetricPoint(
            timeMicros: (Self.start + second) * 1_000_000,
            name: name,
            type: type,
            unit: "{x}",
            pipeline: pipeline,
            function: function,
            value: value,
            attributes: attributes
        )
    }

    private func query(_ names: [String], _ aggregation: MetricAggregation? = nil, minutes: Int = 10) -> MetricQuery {
        var query = MetricQuery(names: names)
        query.aggregation = aggregation
        query.since = Date(timeIntervalSince1970: Double(Self.start))
        query.end = Date(timeIntervalSince1970: Double(Self.start) + Double(minutes) * 60)
        query.maxPoints = 10
        return query
    }

    @Test func countersAreSummedByAlignedBuckets() async throws {
        try await withTelemetryStore { store in
            store.record(metrics: [
                point(0, "c", "Counter", 5), point(59, "c", "Counter", 7), point(60, "c", "Counter", 1),
                point(130, "c", "Counter", 2, function: "g"), point(600, "c", "Counter", 99),
            ])
            let sums = try await store.metrics(query(["c"]))
            #expect(sums.stepSeconds == 60 && sums.groupsLeftOut == 0 && sums.missing.isEmpty)
            let series = try #require(sums.series.first)
            #expect(sums.series.count == 1)
            #expect(series.aggregation == "sum" && series.type == "Counter" && series.unit == "{x}")
            #expect(series.points.map(\.value) == [12, 1, 2, 0, 0, 0, 0, 0, 0, 0])
            #expect(series.points[1].time == Date(timeIntervalSince1970: Double(Self.start) + 60))
            #expect(series.total == 15 && series.count == 4)
            let rate = try #require(try await store.metrics(query(["c"], .rate)).series.first)
            #expect(rate.points[0].value == 0.2 && rate.total == 15.0 / 600)
            let largest = try #require(try await store.metrics(query(["c"], .max)).series.first)
            #expect(largest.points[0].value == 7 && largest.points[5].value == nil && largest.total == 7)
        }
    }

    @Test func bucketsAtTheEndsAreCutToTheTimeAskedFor() async throws {
        try await withTelemetryStore { store in
            store.record(metrics: [
                point(20, "c", "Counter", 4), point(40, "c", "Counter", 6), point(70, "c", "Counter", 8),
            ])
            var query = query(["c"], .rate)
            query.since = Date(timeIntervalSince1970: Double(Self.start) + 20)
            query.end = Date(timeIntervalSince1970: Double(Self.start) + 80)
            query.maxPoints = 2
            let answer = try await store.metrics(query)
            #expect(answer.stepSeconds == 60)
            #expect(answer.series.first?.points.map(\.value) == [10.0 / 40, 8.0 / 20])
            #expect(answer.series.first?.points.first?.time == Date(timeIntervalSince1970: Double(Self.start)))
        }
    }

    @Test func gaugesAreAveragedAndSummedOverSeries() async throws {
        try await withTelemetryStore { store in
            store.record(metrics: [
                point(0, "g", "Gauge", 10, attributes: ["t": "a"]), point(10, "g", "Gauge", 20, attributes: ["t": "a"]),
                point(0, "g", "Gauge", 100, attributes: ["t": "b"]),
            ])
            func values(_ aggregation: MetricAggregation?) async throws -> Double? {
                try await store.metrics(query(["g"], aggregation)).series.first?.points.first?.value
            }
            #expect(try await values(nil) == 130.0 / 3)
            #expect(try await values(.sum) == 115)
            #expect(try await values(.min) == 10)
            #expect(try await values(.max) == 100)
            #expect(try await values(.count) == 3)
            #expect(try await values(.p50) == 20)
            #expect(try await values(.rate) == 1)
            let answer = try await store.metrics(query(["g"], .sum))
            #expect(answer.series.first?.points[1].value == nil)
        }
    }

    private func distribution(_ values: [Double], bounds: [Double], at second: Int64, function: String) -> MetricPoint {
        var counts = [Int](repeating: 0, count: bounds.count + 1)
        for value in values { counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1 }
        return MetricPoint(
            timeMicros: (Self.start + second) * 1_000_000,
            name: "h",
            type: "Histogram",
            unit: "ms",
            pipeline: "p",
            function: function,
            value: values.reduce(0, +),
            count: Int64(values.count),
            buckets:
                #"{"bounds":\#(bounds),"counts":\#(counts),"min":\#(values.min() ?? 0),"max":\#(values.max() ?? 0)}"#
        )
    }

    @Test func percentilesOfMergedHistogramsAreWithinABucketOfTheTruth() async throws {
        var random = SystemRandomNumberGenerator()
        let bounds = MetricDefinition.durationBounds
        var all: [Double] = []
        var points: [MetricPoint] = []
        for second in stride(from: Int64(0), to: 60, by: 10) {
            let values = (0..<500).map { _ -> Double in
                let base = Double.random(in: 0.2...1, using: &random)
                return base * Double.random(in: 1...400, using: &random)
            }
            all += values
            points.append(distribution(values, bounds: bounds, at: second, function: second < 30 ? "f" : "g"))
        }
        all.sort()
        try await withTelemetryStore { store in
            store.record(metrics: points)
            for aggregation in [MetricAggregation.p50, .p95, .p99] {
                let share = try #require(aggregation.quantile)
                let truth = all[Int((share * Double(all.count)).rounded(.up)) - 1]
                let found = try #require(try await store.metrics(query(["h"], aggregation)).series.first)
                let value = try #require(found.points[0].value)
                let low = bounds.last { $0 < truth } ?? 0
                let high = bounds.first { $0 >= truth } ?? .infinity
                #expect(value >= low && value <= min(high, all[all.count - 1]), "\(aggregation) \(value) for \(truth)")
                #expect(abs(value - truth) / truth < 0.12, "\(aggregation) \(value) for \(truth)")
                #expect(found.total == value)
            }
            func exact(_ aggregation: MetricAggregation) async throws -> Double? {
                try await store.metrics(query(["h"], aggregation)).series.first?.points.first?.value
            }
            #expect(try await exact(.min) == all.first)
            #expect(try await exact(.max) == all.last)
            #expect(try await exact(.count) == 3000)
            #expect(abs((try await exact(.avg) ?? 0) - all.reduce(0, +) / 3000) < 1e-6)
        }
    }

    @Test func percentilesInterpolateWithinABucket() async throws {
        try await withTelemetryStore { store in
            // 100 values spread evenly over 10...20, none beside: the median is where half of them lie.
            store.record(metrics: [
                distribution((1...100).map { 10 + Double($0) / 10 }, bounds: [10, 20, 30], at: 0, function: "f"),
                distribution([500], bounds: [1], at: 60, function: "f"),
            ])
            var query = query(["h"], .p50)
            let found = try #require(try await store.metrics(query).series.first)
            #expect(abs((found.points[0].value ?? 0) - 15.05) < 0.1)
            #expect(found.points[1].value == 500)
            #expect(found.points[2].value == nil)
            query.aggregation = .p99
            #expect(abs((try await store.metrics(query).series.first?.points[0].value ?? 0) - 19.9) < 0.1)
        }
    }

    @Test func groupsAreChosenFromTheTopAndTheBottom() async throws {
        try await withTelemetryStore { store in
            store.record(
                metrics: (1...6).map {
                    point(
                        0,
                        "c",
                        "Counter",
                        Double($0),
                        function: "f\($0)",
                        attributes: ["function_deployment_name": "d\($0 % 2)"]
                    )
                }
            )
            var query = query(["c", "none"])
            query.groupBy = ["function_name"]
            query.topK = 2
            query.bottomK = 1
            let chosen = try await store.metrics(query)
            #expect(chosen.series.map { $0.group["function_name"] } == ["f6", "f5", "f1"])
            #expect(chosen.groupsLeftOut == 3 && chosen.missing == ["none"])
            query.topK = nil
            query.bottomK = nil
            query.groupBy = ["function_deployment_name", "pipeline_name", "absent"]
            let pairs = try await store.metrics(query)
            #expect(pairs.series.map(\.total) == [12, 9])
            #expect(pairs.series[0].group == ["function_deployment_name": "d0", "pipeline_name": "p", "absent": ""])
            query.groupBy = []
            query.function = "d1"
            #expect(try await store.metrics(query).series.first?.total == 9)
            query.function = "f6"
            #expect(try await store.metrics(query).series.first?.total == 6)
            query.pipeline = "other"
            #expect(try await store.metrics(query).series.isEmpty)
        }
    }

    @Test func metricsOfDifferentTypesAreAnsweredTogether() async throws {
        try await withTelemetryStore { store in
            store.record(metrics: [
                point(0, "c", "Counter", 3), point(0, "g", "Gauge", 7),
                distribution([1, 2], bounds: [5], at: 0, function: "f"),
            ])
            for aggregation in MetricAggregation.allCases {
                let answer = try await store.metrics(query(["h", "c", "g"], aggregation))
                #expect(answer.series.map(\.name) == ["h", "c", "g"], "\(aggregation)")
            }
            let answer = try await store.metrics(query(["g", "h", "c"]))
            #expect(answer.series.map(\.aggregation) == ["avg", "p95", "sum"])
        }
    }

    @Test func refusesWhatCannotBeAnswered() async throws {
        try await withTelemetryStore { store in
            func field(_ change: (inout MetricQuery) -> Void) async -> String? {
                var query = query(["c"])
                change(&query)
                do {
                    _ = try await store.metrics(query)
                    return nil
                } catch {
                    return (error as? ServiceError)?.fields.first?.field
                }
            }
            #expect(await field { $0.names = [] } == "name")
            #expect(await field { $0.names = (0...10).map(String.init) } == "name")
            #expect(await field { $0.maxPoints = 101 } == "max_points")
            #expect(await field { $0.topK = 3 } == "top_k")
            #expect(await field { $0.groupBy = ["a'; DROP TABLE metrics; --"] } == "group_by")
            #expect(await field { $0.groupBy = ["a\"b"] } == "group_by")
            #expect(await field { $0.end = $0.since } == "since")
        }
    }

    @Test func namesAreListedWithTypeUnitAndSeries() async throws {
        try await withTelemetryStore { store in
            store.record(metrics: [
                point(0, "user.files", "Counter", 3, attributes: ["kind": "exr", "a": "1"]),
                point(9, "user.files", "Counter", 3, attributes: ["a": "1", "kind": "exr"]),
                point(0, "user.files", "Counter", 3, function: "g"),
                point(5, "dataengine.event.total", "Counter", 1),
            ])
            let all = try await store.metricNames(MetricNameQuery())
            #expect(all.count == EngineMetrics.all.count + 1)
            let user = try #require(all.last)
            #expect(user.name == "user.files" && user.type == "Counter" && user.unit == "{x}" && user.series == 2)
            #expect(user.lastSeen == Date(timeIntervalSince1970: Double(Self.start) + 9))
            let built = try #require(all.first { $0.name == "dataengine.event.total" })
            #expect(built.series == 1 && !built.description.isEmpty)
            var query = MetricNameQuery()
            query.function = "g"
            #expect(try await store.metricNames(query).map(\.name) == ["user.files"])
            query = MetricNameQuery()
            query.type = "histogram"
            query.search = "LATENCY"
            #expect(
                try await store.metricNames(query).map(\.name) == [
                    "dataengine.event.reception_latency", "martlet.log.append_latency", "martlet.log.fsync_latency",
                ]
            )
            query.type = "nonsense"
            await #expect(throws: ServiceError.self) { try await store.metricNames(query) }
        }
    }
}
