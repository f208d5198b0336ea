// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A number that only grows; adding is one atomic instruction.
package final class MetricCounter: Sendable {
    private let value = Atomic<Int64>(0)

    init() {}

    /// Adds an amount of 0 or more, in units of the definition's scale.
    package func add(_ amount: Int64 = 1) { value.wrappingAdd(amount, ordering: .relaxed) }

    /// All that was added.
    package var total: Int64 { value.load(ordering: .relaxed) }
}

/// A number that is set, or moved up and down.
package final class MetricGauge: Sendable {
    private let value = Atomic<Int64>(0)

    init() {}

    /// Replaces the value, in units of the definition's scale.
    package func set(_ new: Int64) { value.store(new, ordering: .relaxed) }

    /// Moves the value.
    package func add(_ amount: Int64) { value.wrappingAdd(amount, ordering: .relaxed) }

    /// The value as it is.
    package var current: Int64 { value.load(ordering: .relaxed) }
}

/// Counts values by size, in fixed buckets; recording is a search among the bounds and two atomic additions.
// SAFETY: `bounds` and `cells` are set in init, point to memory freed in deinit, and hold constants and atomics.
package final class MetricHistogram: @unchecked Sendable {
    private let boundCount: Int
    private let bounds: UnsafeMutablePointer<Int64>
    /// A count for each bucket, then the sum, the smallest and the largest value.
    private let cells: UnsafeMutablePointer<Atomic<Int64>>
    private let scale: Double
    private var sum: Int { boundCount + 1 }
    private var smallest: Int { boundCount + 2 }
    private var largest: Int { boundCount + 3 }

    init(_ definition: MetricDefinition) {
        scale = definition.scale
        boundCount = definition.bounds.count
        bounds = .allocate(capacity: max(1, boundCount))
        cells = .allocate(capacity: boundCount + 4)
        for (index, bound) in definition.bounds.enumerated() {
            (bounds + index).initialize(to: Int64((bound * definition.scale).rounded()))
        }
        for index in 0..<boundCount + 4 { (cells + index).initialize(to: Atomic(0)) }
        resetExtremes()
    }

    deinit {
        bounds.deallocate()
        cells.deinitialize(count: boundCount + 4)
        cells.deallocate()
    }

    /// Values are cut to this; twelve days of microseconds, and a million times that fits a sum.
    private static let magnitudeMax: Int64 = 1_000_000_000_000

    /// Counts a value, in units of the definition's scale.
    package func record(_ value: Int64) {
        // An event can bear a time of any century: neither it nor the sum of many may overflow.
        let value = min(max(value, -Self.magnitudeMax), Self.magnitudeMax)
        var index = 0
        while index < boundCount, bounds[index] < value { index += 1 }
        cells[index].wrappingAdd(1, ordering: .relaxed)
        cells[sum].wrappingAdd(value, ordering: .relaxed)
        if value < cells[smallest].load(ordering: .relaxed) { cells[smallest].min(value, ordering: .relaxed) }
        if value > cells[largest].load(ordering: .relaxed) { cells[largest].max(value, ordering: .relaxed) }
    }

    /// What was recorded so far, in the definition's unit.
    ///
    /// - Parameter takingExtremes: Begins a new interval for the smallest and the largest value.
    /// - Returns: Counts and sum since the start, extremes of the interval.
    package func snapshot(takingExtremes: Bool = false) -> HistogramSnapshot {
        let counts = (0...boundCount).map { cells[$0].load(ordering: .relaxed) }
        let (low, high) = (cells[smallest].load(ordering: .relaxed), cells[largest].load(ordering: .relaxed))
        let total = cells[sum].load(ordering: .relaxed)
        if takingExtremes { resetExtremes() }
        return HistogramSnapshot(
            counts: counts,
            sum: Double(total) / scale,
            min: low == .max ? nil : Double(low) / scale,
            max: high == .min ? nil : Double(high) / scale
        )
    }

    private func resetExtremes() {
        cells[smallest].store(.max, ordering: .relaxed)
        cells[largest].store(.min, ordering: .relaxed)
    }
}

/// What a histogram holds.
package struct HistogramSnapshot: Sendable, Equatable {
    /// One more than there are bounds; the last counts what is above all of them.
    package var counts: [Int64]
    package var sum: Double
    /// The smallest value of the present interval, or nil.
    package var min: Double?
    /// The largest value of the present interval, or nil.
    package var max: Double?

    package init(counts: [Int64], sum: Double, min: Double? = nil, max: Double? = nil) {
        self.counts = counts
        self.sum = sum
        self.min = min
        self.max = max
    }

    /// How many values were recorded.
    package var count: Int64 { counts.reduce(0, +) }
}
