// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import MartletCore

/// Turns what instruments hold into points: what counters and histograms gained since the last time, what gauges show.
///
/// One collection at a time; whoever asks during one waits for it.
package actor MetricCollector {
    /// Time between collections.
    package static let interval = Duration.seconds(10)
    /// A question waits for a new collection where the last is older.
    private static let freshness = Duration.seconds(1)

    private struct Key: Hashable {
        let name: String
        let labels: [String: String]
    }

    private let registry: MetricRegistry
    private let sink: any TelemetrySink
    private var last: [Key: MetricFamily.Series.Value] = [:]
    private var collected: ContinuousClock.Instant?
    private var isCollecting = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    /// Makes a collector; nothing is collected before it is asked to.
    package init(registry: MetricRegistry, sink: any TelemetrySink) {
        self.registry = registry
        self.sink = sink
    }

    /// Collects every ``interval`` until cancelled.
    package func run() async {
        while !Task.isCancelled {
            await collect()
            try? await Task.sleep(for: Self.interval)
        }
    }

    /// Collects where the last collection is older than a second, so that answers are about now.
    package func refresh() async {
        if let collected, ContinuousClock.now - collected < Self.freshness { return }
        await collect()
    }

    /// Collects once and leaves the points with the sink.
    package func collect() async {
        guard sink.wants(.metrics) else { return }
        if isCollecting {
            await withCheckedContinuation { waiters.append($0) }
            return
        }
        isCollecting = true
        let families = await registry.snapshot(takingExtremes: true)
        let now = Timestamp.nowMicroseconds()
        var seen: [Key: MetricFamily.Series.Value] = [:]
        var points: [MetricPoint] = []
        for family in families {
            for series in family.series {
                let key = Key(name: family.definition.name, labels: series.labels)
                seen[key] = series.value
                let point = Self.point(family.definition, series, since: last[key], at: now)
                if let point { points.append(point) }
            }
        }
        last = seen
        collected = .now
        sink.record(metrics: points)
        isCollecting = false
        for waiter in waiters { waiter.resume() }
        waiters = []
    }

    /// A point of a series, or nil where nothing was counted since the last one.
    private static func point(
        _ definition: MetricDefinition,
        _ series: MetricFamily.Series,
        since last: MetricFamily.Series.Value?,
        at now: Int64
    ) -> MetricPoint? {
        var attributes = series.labels
        var point = MetricPoint(
            timeMicros: now,
            name: definition.name,
            type: definition.kind.rawValue,
            unit: definition.unit,
            pipeline: attributes.removeValue(forKey: "pipeline_name"),
            function: attributes.removeValue(forKey: "function_name"),
            value: 0
        )
        point.attributes = attributes
        switch series.value {
        case .number(let value):
            guard definition.kind == .counter else {
                point.value = value
                return point
            }
            guard case .number(let before)? = last else {
                point.value = value
                return point
            }
            // A smaller number has started over: all of it is new.
            point.value = value < before ? value : value - before
            return point.value == 0 ? nil : point
        case .histogram(let now):
            var gained = now
            if case .histogram(let before)? = last {
                gained.sum -= before.sum
                for index in gained.counts.indices { gained.counts[index] -= before.counts[index] }
            }
            guard gained.count > 0 else { return nil }
            point.value = gained.sum
            point.count = gained.count
            point.buckets = BucketText.text(bounds: definition.bounds, gained)
            return point
        }
    }
}

/// How a histogram's buckets are stored: `{"bounds":[…],"counts":[…],"min":…,"max":…}`.
enum BucketText {
    static func text(bounds: [Double], _ snapshot: HistogramSnapshot) -> String {
        var members: [JSONObject.Member] = [
            .init(key: "bounds", value: .array(bounds.map { .double($0) })),
            .init(key: "counts", value: .array(snapshot.counts.map { .int($0) })),
        ]
        if let min = snapshot.min { members.append(.init(key: "min", value: .double(min))) }
        if let max = snapshot.max { members.append(.init(key: "max", value: .double(max))) }
        return JSONValue.object(JSONObject(members: members)).text
    }
}
