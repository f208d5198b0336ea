// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Where the engine's parts get their instruments, and where all of them are read.
///
/// Instruments are looked up once and kept by whoever records. Each metric has at most `seriesMax` sets of labels; further ones share
/// one in which every label is ``otherLabel``, so that a flood of names cannot fill the memory.
package final class MetricRegistry: Sendable {
    /// Stands for the labels that found no room.
    package static let otherLabel = "other"

    private enum Instrument: Sendable {
        case counter(MetricCounter)
        case gauge(MetricGauge)
        case histogram(MetricHistogram)
    }

    private struct Family: Sendable {
        let definition: MetricDefinition
        var series: [[String: String]: Instrument] = [:]
    }

    private struct State: Sendable {
        var families: [String: Family] = [:]
        var sources: [any MetricSource] = []
    }

    private let seriesMax: Int
    private let state = Mutex(State())

    /// Makes a registry without instruments.
    package init(seriesMax: Int = 500) {
        self.seriesMax = seriesMax
    }

    /// The counter of these labels.
    package func counter(_ definition: MetricDefinition, _ labels: [String: String] = [:]) -> MetricCounter {
        if case .counter(let found) = instrument(definition, labels, { .counter(MetricCounter()) }) { return found }
        preconditionFailure("\(definition.name) is no counter")
    }

    /// The gauge of these labels.
    package func gauge(_ definition: MetricDefinition, _ labels: [String: String] = [:]) -> MetricGauge {
        if case .gauge(let found) = instrument(definition, labels, { .gauge(MetricGauge()) }) { return found }
        preconditionFailure("\(definition.name) is no gauge")
    }

    /// The histogram of these labels.
    package func histogram(_ definition: MetricDefinition, _ labels: [String: String] = [:]) -> MetricHistogram {
        let found = instrument(definition, labels) { .histogram(MetricHistogram(definition)) }
        if case .histogram(let found) = found { return found }
        preconditionFailure("\(definition.name) is no histogram")
    }

    /// Adds somebody to ask at each ``snapshot(takingExtremes:)``.
    package func add(_ source: any MetricSource) { state.withLock { $0.sources.append(source) } }

    private func instrument(
        _ definition: MetricDefinition,
        _ labels: [String: String],
        _ make: () -> Instrument
    ) -> Instrument {
        state.withLock { state in
            var family = state.families[definition.name] ?? Family(definition: definition)
            if let found = family.series[labels] { return found }
            let key = family.series.count < seriesMax ? labels : labels.mapValues { _ in Self.otherLabel }
            if let found = family.series[key] { return found }
            let made = make()
            family.series[key] = made
            state.families[definition.name] = family
            return made
        }
    }

    /// Everything as it is now, ordered by name and labels.
    ///
    /// - Parameter takingExtremes: Begins a new interval for the smallest and largest values of histograms.
    /// - Returns: A family for each metric that has series.
    package func snapshot(takingExtremes: Bool = false) async -> [MetricFamily] {
        let (families, sources) = state.withLock { ($0.families, $0.sources) }
        var all = families.mapValues { family in
            let series = family.series.map { labels, instrument in
                MetricFamily.Series(labels: labels, value: Self.value(instrument, family.definition, takingExtremes))
            }
            return MetricFamily(definition: family.definition, series: series)
        }
        for source in sources {
            for reading in await source.readings() {
                let name = reading.definition.name
                all[name, default: MetricFamily(definition: reading.definition, series: [])].series
                    .append(.init(labels: reading.labels, value: .number(reading.value)))
            }
        }
        return all.values.map(bounded).sorted { $0.definition.name < $1.definition.name }
    }

    private static func value(
        _ instrument: Instrument,
        _ definition: MetricDefinition,
        _ takingExtremes: Bool
    ) -> MetricFamily.Series.Value {
        switch instrument {
        case .counter(let counter): .number(Double(counter.total) / definition.scale)
        case .gauge(let gauge): .number(Double(gauge.current) / definition.scale)
        case .histogram(let histogram): .histogram(histogram.snapshot(takingExtremes: takingExtremes))
        }
    }

    /// Orders series, joins those of the same labels and puts what is beyond the bound into one.
    private func bounded(_ family: MetricFamily) -> MetricFamily {
        var joined: [[String: String]: MetricFamily.Series.Value] = [:]
        for series in family.series.sorted(by: { Self.key($0.labels) < Self.key($1.labels) }) {
            let hasRoom = joined.count < seriesMax || joined[series.labels] != nil
            let labels = hasRoom ? series.labels : series.labels.mapValues { _ in Self.otherLabel }
            if case .number(let sum)? = joined[labels], case .number(let value) = series.value {
                joined[labels] = .number(sum + value)
            } else {
                joined[labels] = series.value
            }
        }
        let series = joined.map { MetricFamily.Series(labels: $0.key, value: $0.value) }
        return MetricFamily(
            definition: family.definition,
            series: series.sorted { Self.key($0.labels) < Self.key($1.labels) }
        )
    }

    private static func key(_ labels: [String: String]) -> String {
        labels.sorted { $0.key < $1.key }.map { "\($0.key)\u{0}\($0.value)" }.joined(separator: "\u{0}")
    }
}
