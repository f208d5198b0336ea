// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Foundation

/// What `metrics names` may ask.
package struct MetricNameQuery: Sendable, Equatable {
    package var pipeline: String?
    /// A function or a function deployment.
    package var function: String?
    /// Part of the name or of the description.
    package var search: String?
    /// Counter, UpDownCounter, Gauge or Histogram, in any case.
    package var type: String?

    package init() {}
}

/// One metric there is.
package struct MetricName: Sendable, Codable, Equatable {
    package var name: String
    /// Counter, UpDownCounter, Gauge or Histogram.
    package var type: String
    package var unit: String
    /// Empty for metrics of functions.
    package var description: String
    /// Sets of attributes that have points.
    package var series: Int
    /// Newest point, or nil where there is none yet.
    package var lastSeen: Date?

    package init(name: String, type: String, unit: String, description: String, series: Int, lastSeen: Date?) {
        self.name = name
        self.type = type
        self.unit = unit
        self.description = description
        self.series = series
        self.lastSeen = lastSeen
    }
}

/// How the points of a bucket become one value.
package enum MetricAggregation: String, Sendable, Codable, CaseIterable {
    case sum
    case avg
    case min
    case max
    case p50
    case p95
    case p99
    /// A second.
    case rate
    /// Samples.
    case count

    /// The share of values at or below a percentile, or nil for others.
    package var quantile: Double? {
        switch self {
        case .p50: 0.5
        case .p95: 0.95
        case .p99: 0.99
        default: nil
        }
    }
}

/// What `metrics get` may ask.
package struct MetricQuery: Sendable, Equatable {
    /// 1...10.
    package var names: [String]
    /// nil chooses by type: sum for counters, avg for gauges, p95 for histograms.
    package var aggregation: MetricAggregation?
    /// `function_name`, `pipeline_name` or names of attributes; at most four.
    package var groupBy: [String] = []
    /// Keeps the groups with the largest values.
    package var topK: Int?
    /// Keeps the groups with the smallest values.
    package var bottomK: Int?
    package var pipeline: String?
    /// A function or a function deployment.
    package var function: String?
    /// nil is an hour before the end.
    package var since: Date?
    /// nil is now.
    package var end: Date?
    /// 1...100.
    package var maxPoints = 60

    package init(names: [String]) {
        self.names = names
    }
}

/// Values of metrics over time.
package struct MetricAnswer: Sendable, Codable, Equatable {
    /// One metric of one group.
    package struct Series: Sendable, Codable, Equatable {
        package var name: String
        package var type: String
        package var unit: String
        package var aggregation: String
        /// The values grouped by; "" where a point has none.
        package var group: [String: String]
        /// The aggregation over the whole time; nil without points.
        package var total: Double?
        /// Samples over the whole time.
        package var count: Int64
        package var points: [Point]

        package init(
            name: String,
            type: String,
            unit: String,
            aggregation: String,
            group: [String: String],
            total: Double?,
            count: Int64,
            points: [Point]
        ) {
            self.name = name
            self.type = type
            self.unit = unit
            self.aggregation = aggregation
            self.group = group
            self.total = total
            self.count = count
            self.points = points
        }
    }

    /// One bucket.
    package struct Point: Sendable, Codable, Equatable {
        /// Start of the bucket.
        package var time: Date
        /// nil where nothing was measured.
        package var value: Double?
        /// Samples in the bucket.
        package var count: Int64

        package init(time: Date, value: Double?, count: Int64) {
            self.time = time
            self.value = value
            self.count = count
        }
    }

    package var since: Date
    package var end: Date
    /// Width of a bucket; buckets begin at multiples of it since 1970.
    package var stepSeconds: Int
    package var groupBy: [String]
    package var series: [Series]
    /// Names asked for of which there are no points.
    package var missing: [String]
    /// Groups left out because there were more than asked for or than an answer holds.
    package var groupsLeftOut: Int

    package init(
        since: Date,
        end: Date,
        stepSeconds: Int,
        groupBy: [String],
        series: [Series],
        missing: [String],
        groupsLeftOut: Int
    ) {
        self.since = since
        self.end = end
        self.stepSeconds = stepSeconds
        self.groupBy = groupBy
        self.series = series
        self.missing = missing
        self.groupsLeftOut = groupsLeftOut
    }
}

/// A text form that monitoring systems read.
package enum MetricExposition: Sendable {
    /// Prometheus text 0.0.4.
    case prometheus
    /// OpenMetrics 1.0.
    case openMetrics
}

/// Questions about measurements.
package protocol MetricServices: Sendable {
    /// Metrics there are, by name.
    func metricNames(_ query: MetricNameQuery) async throws -> [MetricName]
    func metrics(_ query: MetricQuery) async throws -> MetricAnswer
    /// What the engine measures of itself, as it is now.
    func exposition(_ form: MetricExposition) async throws -> [UInt8]
}
