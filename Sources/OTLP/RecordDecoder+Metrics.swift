// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

extension RecordDecoder {
    mutating func add(_ metric: OTLPMetric, _ surroundings: Surroundings) {
        let base = PointBase(metric, surroundings)
        switch metric.data {
        case .gauge(let gauge):
            for point in gauge.dataPoints { add(point, base, "Gauge", nil) }
        case .sum(let sum):
            let type = sum.isMonotonic ? "Counter" : "UpDownCounter"
            for point in sum.dataPoints { add(point, base, type, sum.aggregationTemporality) }
        case .histogram(let histogram):
            for point in histogram.dataPoints { add(point, base, histogram.aggregationTemporality) }
        case .exponentialHistogram(let histogram):
            for point in histogram.dataPoints { add(point, base, histogram.aggregationTemporality) }
        case .summary(let summary):
            for point in summary.dataPoints { add(point, base) }
        case nil: break
        }
    }

    private mutating func add(
        _ point: Opentelemetry_Proto_Metrics_V1_NumberDataPoint,
        _ base: PointBase,
        _ type: String,
        _ temporality: Opentelemetry_Proto_Metrics_V1_AggregationTemporality?
    ) {
        guard Self.hasValue(point.flags) else { return }
        let value: Double
        switch point.value {
        case .asDouble(let number): value = number
        case .asInt(let number): value = Double(number)
        case nil:
            reject("a point of metric '\(base.name.prefix(100))' has no value")
            return
        }
        let isTotal = type == "Counter" && temporality == .cumulative
        append(
            base.point(
                point.timeUnixNano,
                type,
                value,
                1,
                point.attributes,
                nil,
                since: isTotal ? point.startTimeUnixNano : nil
            ),
            base.surroundings
        )
    }

    private mutating func add(
        _ point: Opentelemetry_Proto_Metrics_V1_HistogramDataPoint,
        _ base: PointBase,
        _ temporality: Opentelemetry_Proto_Metrics_V1_AggregationTemporality
    ) {
        guard Self.hasValue(point.flags) else { return }
        let bounds = point.explicitBounds
        let counts = point.bucketCounts
        guard counts.isEmpty || counts.count == bounds.count + 1, counts.count <= OTLPLimits.bucketsMax else {
            reject(
                "a point of metric '\(base.name.prefix(100))' has \(counts.count) buckets for \(bounds.count) bounds"
            )
            return
        }
        var buckets = BucketText()
        if !counts.isEmpty { buckets.add(bounds: bounds, counts: counts) }
        if point.hasMin { buckets.add("min", point.min) }
        if point.hasMax { buckets.add("max", point.max) }
        append(
            base.point(
                point.timeUnixNano,
                "Histogram",
                point.sum,
                point.count,
                point.attributes,
                buckets.text,
                since: temporality == .cumulative ? point.startTimeUnixNano : nil
            ),
            base.surroundings
        )
    }

    private mutating func add(
        _ point: Opentelemetry_Proto_Metrics_V1_ExponentialHistogramDataPoint,
        _ base: PointBase,
        _ temporality: Opentelemetry_Proto_Metrics_V1_AggregationTemporality
    ) {
        guard Self.hasValue(point.flags) else { return }
        let count = point.positive.bucketCounts.count + point.negative.bucketCounts.count
        guard count <= OTLPLimits.bucketsMax, (-30...30).contains(point.scale) else {
            reject("a point of metric '\(base.name.prefix(100))' has \(count) buckets of scale \(point.scale)")
            return
        }
        var buckets = BucketText()
        let explicit = ExplicitBuckets(point)
        buckets.add(bounds: explicit.bounds, counts: explicit.counts)
        buckets.add("scale", Double(point.scale))
        if point.hasMin { buckets.add("min", point.min) }
        if point.hasMax { buckets.add("max", point.max) }
        append(
            base.point(
                point.timeUnixNano,
                "ExponentialHistogram",
                point.sum,
                point.count,
                point.attributes,
                buckets.text,
                since: temporality == .cumulative ? point.startTimeUnixNano : nil
            ),
            base.surroundings
        )
    }

    private mutating func add(_ point: Opentelemetry_Proto_Metrics_V1_SummaryDataPoint, _ base: PointBase) {
        guard Self.hasValue(point.flags) else { return }
        guard point.quantileValues.count <= OTLPLimits.bucketsMax else {
            reject("a point of metric '\(base.name.prefix(100))' has \(point.quantileValues.count) quantiles")
            return
        }
        var buckets = BucketText()
        buckets.add(quantiles: point.quantileValues.map { ($0.quantile, $0.value) })
        append(
            base.point(point.timeUnixNano, "Summary", point.sum, point.count, point.attributes, buckets.text),
            base.surroundings
        )
    }

    /// Whether a point says more than that there is no value any longer.
    private static func hasValue(_ flags: UInt32) -> Bool {
        flags & UInt32(Opentelemetry_Proto_Metrics_V1_DataPointFlags.noRecordedValueMask.rawValue) == 0
    }
}

/// What all points of a metric share.
private struct PointBase {
    let name: String
    private let unit: String
    let surroundings: Surroundings

    init(_ metric: OTLPMetric, _ surroundings: Surroundings) {
        name = metric.name
        unit = metric.unit
        self.surroundings = surroundings
    }

    func point(
        _ nanoseconds: UInt64,
        _ type: String,
        _ value: Double,
        _ count: some BinaryInteger,
        _ pairs: [OTLPKeyValue],
        _ buckets: String?,
        since start: UInt64? = nil
    ) -> MetricPoint {
        MetricPoint(
            timeMicros: nanoseconds > 0 ? RecordDecoder.micros(nanoseconds) : Timestamp.nowMicroseconds(),
            name: name,
            type: type,
            unit: unit,
            pipeline: surroundings.pipeline,
            function: surroundings.function,
            value: value,
            count: Int64(clamping: count),
            attributes: surroundings.around(pairs.texts),
            buckets: buckets,
            totalSince: start.map(String.init)
        )
    }
}

/// An exponential histogram's buckets as bounds and counts, as other histograms have them.
struct ExplicitBuckets {
    /// Upper bounds in rising order; the last bucket has none.
    private(set) var bounds: [Double] = []
    /// One more than bounds.
    private(set) var counts: [UInt64] = []

    init(_ point: Opentelemetry_Proto_Metrics_V1_ExponentialHistogramDataPoint) {
        // Bucket i holds what is above base^i and at most base^(i+1), where base is 2^(2^-scale).
        func power(_ index: Int) -> Double { exp2(Double(index) * exp2(-Double(point.scale))) }
        let negative = point.negative
        for (place, count) in negative.bucketCounts.enumerated().reversed() {
            let index = Int(negative.offset) + place
            add(upTo: -power(index + 1), 0)
            add(upTo: -power(index), count)
        }
        let threshold = point.zeroThreshold.isFinite ? max(0, point.zeroThreshold) : 0
        if threshold > 0 { add(upTo: -threshold, 0) }
        add(upTo: threshold, point.zeroCount)
        let positive = point.positive
        for (place, count) in positive.bucketCounts.enumerated() {
            let index = Int(positive.offset) + place
            add(upTo: power(index), 0)
            add(upTo: power(index + 1), count)
        }
        counts.append(0)
    }

    /// Adds a bucket; one whose bound is not above the last widens that one.
    private mutating func add(upTo bound: Double, _ count: UInt64) {
        guard bound.isFinite else {
            if count > 0, !counts.isEmpty { counts[counts.count - 1] += count }
            return
        }
        if let last = bounds.last, bound <= last {
            counts[counts.count - 1] += count
        } else {
            bounds.append(bound)
            counts.append(count)
        }
    }
}

/// Writes the JSON object that goes with a metric point; numbers that JSON does not have are left out or null.
private struct BucketText {
    private var members: [JSONObject.Member] = []

    mutating func add(bounds: [Double], counts: [UInt64]) {
        members.append(.init(key: "bounds", value: .array(bounds.map(Self.number))))
        members.append(.init(key: "counts", value: .array(counts.map { .int(Int64(clamping: $0)) })))
    }

    mutating func add(quantiles: [(Double, Double)]) {
        let items = quantiles.map { quantile, value in
            JSONValue.object(
                JSONObject(members: [
                    .init(key: "quantile", value: Self.number(quantile)),
                    .init(key: "value", value: Self.number(value)),
                ])
            )
        }
        members.append(.init(key: "quantiles", value: .array(items)))
    }

    mutating func add(_ key: String, _ value: Double) {
        if value.isFinite { members.append(.init(key: key, value: Self.number(value))) }
    }

    var text: String? { members.isEmpty ? nil : JSONValue.object(JSONObject(members: members)).text }

    private static func number(_ value: Double) -> JSONValue {
        guard value.isFinite else { return .null }
        if let whole = Int64(exactly: value) { return .int(whole) }
        return .double(value)
    }
}
