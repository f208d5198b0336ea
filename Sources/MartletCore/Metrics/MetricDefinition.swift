// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What a metric is: its name, type, unit and meaning.
package struct MetricDefinition: Sendable, Hashable {
    /// How values of a metric are to be read.
    package enum Kind: String, Sendable, CaseIterable {
        /// Only grows; a point is what was added since the one before.
        case counter = "Counter"
        /// Grows and shrinks; a point is the present value.
        case upDownCounter = "UpDownCounter"
        /// A point is the present value.
        case gauge = "Gauge"
        /// A point is the spread of the values recorded since the one before.
        case histogram = "Histogram"
    }

    /// Dotted, for example `dataengine.event.total`.
    package let name: String
    package let kind: Kind
    /// In UCUM as OpenTelemetry writes it: `ms`, `s`, `By`, or a noun in braces.
    package let unit: String
    /// A sentence.
    package let description: String
    /// What an instrument counts in, as a share of the unit: 1000 where a metric in ms is recorded in µs.
    package let scale: Double
    /// Upper bounds of a histogram's buckets in the unit, ascending; empty for others.
    package let bounds: [Double]

    /// Describes a metric; a histogram without bounds gets those of durations in milliseconds.
    package init(
        _ name: String,
        _ kind: Kind,
        unit: String,
        _ description: String,
        scale: Double = 1,
        bounds: [Double] = []
    ) {
        self.name = name
        self.kind = kind
        self.unit = unit
        self.description = description
        self.scale = scale
        self.bounds = kind == .histogram && bounds.isEmpty ? Self.durationBounds : bounds
    }

    /// 0.1 ms to 5 min.
    package static let durationBounds: [Double] = [
        0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 10_000, 30_000,
        60_000, 300_000,
    ]
}
