// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// All series of one metric at one moment.
package struct MetricFamily: Sendable {
    /// One set of labels with what was measured.
    package struct Series: Sendable {
        /// What a series holds: counters hold all that was ever added.
        package enum Value: Sendable, Equatable {
            case number(Double)
            case histogram(HistogramSnapshot)
        }

        package var labels: [String: String]
        package var value: Value

        package init(labels: [String: String], value: Value) {
            self.labels = labels
            self.value = value
        }
    }

    package var definition: MetricDefinition
    package var series: [Series]

    package init(definition: MetricDefinition, series: [Series]) {
        self.definition = definition
        self.series = series
    }
}

/// A value somebody looks up when it is asked for.
package struct MetricReading: Sendable {
    package var definition: MetricDefinition
    package var labels: [String: String]
    /// In the definition's unit; of a counter, all that was ever added.
    package var value: Double

    package init(_ definition: MetricDefinition, _ labels: [String: String] = [:], _ value: Double) {
        self.definition = definition
        self.labels = labels
        self.value = value
    }
}

/// Knows values that are cheaper to look up than to keep, such as the end of a topic.
package protocol MetricSource: Sendable {
    /// The values as they are now.
    func readings() async -> [MetricReading]
}
