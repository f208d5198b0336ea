// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import SwiftProtobuf

extension RecordEncoder {
    /// One metric of points that share name, type and unit; nil where the type is none that is known.
    static func metric(_ points: [MetricPoint]) -> OTLPMetric? {
        guard let first = points.first else { return nil }
        var metric = OTLPMetric()
        metric.name = first.name
        metric.unit = first.unit
        switch first.type {
        case "Gauge": metric.gauge.dataPoints = points.map(number)
        case "Counter", "UpDownCounter":
            metric.sum.isMonotonic = first.type == "Counter"
            metric.sum.aggregationTemporality = first.type == "Counter" ? .delta : .cumulative
            metric.sum.dataPoints = points.map(number)
        case "Histogram", "ExponentialHistogram":
            metric.histogram.aggregationTemporality = .delta
            metric.histogram.dataPoints = points.map(histogram)
        case "Summary": metric.summary.dataPoints = points.map(summary)
        default: return nil
        }
        return metric
    }

    private static func number(_ point: MetricPoint) -> Opentelemetry_Proto_Metrics_V1_NumberDataPoint {
        .with {
            $0.timeUnixNano = nanoseconds(point.timeMicros)
            $0.asDouble = point.value
            $0.attributes = attributes(point)
        }
    }

    private static func histogram(_ point: MetricPoint) -> Opentelemetry_Proto_Metrics_V1_HistogramDataPoint {
        // Written by the decoder; without it sum and count stay.
        let buckets = point.buckets.flatMap { try? JSONValue(parsing: $0) }
        return .with {
            $0.timeUnixNano = nanoseconds(point.timeMicros)
            $0.count = UInt64(clamping: point.count)
            $0.sum = point.value
            $0.explicitBounds = buckets?["bounds"]?.arrayValue?.compactMap(\.doubleValue) ?? []
            $0.bucketCounts =
                buckets?["counts"]?.arrayValue?.compactMap { $0.intValue.map { UInt64(clamping: $0) } } ?? []
            if let min = buckets?["min"]?.doubleValue { $0.min = min }
            if let max = buckets?["max"]?.doubleValue { $0.max = max }
            $0.attributes = attributes(point)
        }
    }

    private static func summary(_ point: MetricPoint) -> Opentelemetry_Proto_Metrics_V1_SummaryDataPoint {
        let buckets = point.buckets.flatMap { try? JSONValue(parsing: $0) }  // As above.
        return .with {
            $0.timeUnixNano = nanoseconds(point.timeMicros)
            $0.count = UInt64(clamping: point.count)
            $0.sum = point.value
            $0.quantileValues = (buckets?["quantiles"]?.arrayValue ?? []).compactMap { item in
                guard let quantile = item["quantile"]?.doubleValue, let value = item["value"]?.doubleValue else {
                    return nil
                }
                return .with {
                    $0.quantile = quantile
                    $0.value = value
                }
            }
            $0.attributes = attributes(point)
        }
    }

    private static func attributes(_ point: MetricPoint) -> [OTLPKeyValue] {
        point.attributes.keyValues
    }
}
