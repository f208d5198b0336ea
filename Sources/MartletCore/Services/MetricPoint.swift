// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One measurement a function reported.
package struct MetricPoint: Sendable, Equatable {
    /// Microseconds since 1970.
    package var timeMicros: Int64
    package var name: String
    /// Counter, UpDownCounter, Gauge or Histogram.
    package var type: String
    package var unit: String
    package var pipeline: String?
    package var function: String?
    /// The value, or the sum of a histogram.
    package var value: Double
    /// Samples behind the value; 1 but for histograms.
    package var count: Int64
    package var attributes: [String: String]
    /// Upper bounds and counts of a histogram's buckets as JSON, or nil.
    package var buckets: String?
    /// Where value, count and buckets are totals, what the sender calls their start; nil where they are what was gained since the point
    /// before, as all that is stored is.
    package var totalSince: String?

    package init(
        timeMicros: Int64,
        name: String,
        type: String,
        unit: String,
        pipeline: String? = nil,
        function: String? = nil,
        value: Double,
        count: Int64 = 1,
        attributes: [String: String] = [:],
        buckets: String? = nil,
        totalSince: String? = nil
    ) {
        self.timeMicros = timeMicros
        self.name = name
        self.type = type
        self.unit = unit
        self.pipeline = pipeline
        self.function = function
        self.value = value
        self.count = count
        self.attributes = attributes
        self.buckets = buckets
        self.totalSince = totalSince
    }
}
