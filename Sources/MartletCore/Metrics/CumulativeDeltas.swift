// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Turns counters and histograms that senders report as totals since their start into what was gained since the report before.
///
/// A stream is known by its origin, name, attributes and start; a total below the one before has started over. The first total of a stream is
/// all gain: senders of functions start with the engine. Beyond ``streamsMax`` the streams unheard of longest are forgotten.
package final class CumulativeDeltas: Sendable {
    package static let streamsMax = 50_000

    private struct Key: Hashable {
        let name: String
        let type: String
        let pipeline: String?
        let function: String?
        let attributes: [String: String]
        let start: String
    }

    private struct Total {
        var value: Double
        var count: Int64
        var bounds: JSONValue?
        var counts: [Int64]
        var round: Int
    }

    private struct State {
        var totals: [Key: Total] = [:]
        var round = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// The points with totals turned into gains; streams that gained nothing since the report before are left out.
    package func gains(_ points: [MetricPoint]) -> [MetricPoint] {
        guard points.contains(where: { $0.totalSince != nil }) else { return points }
        return state.withLock { state in
            state.round += 1
            let points = points.compactMap { point in
                point.totalSince.map { Self.gain(point, since: $0, &state) } ?? point
            }
            if state.totals.count > Self.streamsMax {
                let rounds = state.totals.values.map(\.round).sorted()
                let oldest = rounds[rounds.count / 2]
                state.totals = state.totals.filter { $0.value.round > oldest }
            }
            return points
        }
    }

    private static func gain(_ total: MetricPoint, since start: String, _ state: inout State) -> MetricPoint? {
        var point = total
        point.totalSince = nil
        let key = Key(
            name: point.name,
            type: point.type,
            pipeline: point.pipeline,
            function: point.function,
            attributes: point.attributes,
            start: start
        )
        let buckets = point.buckets.flatMap { try? JSONValue(parsing: $0) }
        let counts = (buckets?["counts"]?.arrayValue ?? []).map { $0.intValue ?? 0 }
        let total = Total(
            value: point.value,
            count: point.count,
            bounds: buckets?["bounds"],
            counts: counts,
            round: state.round
        )
        let before = state.totals.updateValue(total, forKey: key)
        let isHistogram = point.type.hasSuffix(MetricDefinition.Kind.histogram.rawValue)
        guard let before, isHistogram ? total.count >= before.count : total.value >= before.value else { return point }
        point.value -= before.value
        if isHistogram {
            point.count -= before.count
            if point.count == 0 { return nil }
            guard let bounds = buckets?["bounds"], !counts.isEmpty, bounds == before.bounds,
                counts.count == before.counts.count
            else {
                // An exponential histogram has rescaled itself: what each bucket gained cannot be told.
                point.buckets = nil
                return point
            }
            let gained = zip(counts, before.counts).map { JSONValue.int($0 - $1) }
            point.buckets =
                JSONValue.object(
                    JSONObject(members: [
                        .init(key: "bounds", value: bounds), .init(key: "counts", value: .array(gained)),
                    ])
                ).text
        } else if point.value == 0 {
            return nil
        }
        return point
    }
}
