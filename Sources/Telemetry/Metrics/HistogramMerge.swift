// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Buckets of several histograms, whose bounds may differ, and what can be told of the values in them.
struct HistogramMerge {
    private struct Piece: Hashable {
        let low: Double
        let high: Double
    }

    private var pieces: [Piece: Double] = [:]
    private(set) var sum = 0.0
    private(set) var count: Int64 = 0
    /// Smallest value reported, or the lower edge of the lowest bucket where none was.
    private var reportedMin: Double?
    private var reportedMax: Double?
    private var hasAllExtremes = true

    /// Adds totals; `min` and `max` are nil where the sender did not say them.
    mutating func add(sum: Double, count: Int64, min: Double?, max: Double?) {
        self.sum += sum
        self.count += count
        if let min { reportedMin = Swift.min(reportedMin ?? min, min) }
        if let max { reportedMax = Swift.max(reportedMax ?? max, max) }
        if min == nil || max == nil { hasAllExtremes = false }
    }

    /// Adds the values of bucket `index` of a histogram with these bounds.
    mutating func add(_ values: Int64, bucket index: Int, bounds: [Double]) {
        guard values > 0, index >= 0, index <= bounds.count else { return }
        let low = index == 0 ? -Double.infinity : bounds[index - 1]
        let high = index == bounds.count ? Double.infinity : bounds[index]
        pieces[Piece(low: low, high: high), default: 0] += Double(values)
    }

    mutating func merge(_ other: HistogramMerge) {
        sum += other.sum
        count += other.count
        pieces.merge(other.pieces) { $0 + $1 }
        if let min = other.reportedMin { reportedMin = Swift.min(reportedMin ?? min, min) }
        if let max = other.reportedMax { reportedMax = Swift.max(reportedMax ?? max, max) }
        hasAllExtremes = hasAllExtremes && other.hasAllExtremes
    }

    /// Exact where all senders reported theirs, else the edge of the lowest bucket that has values.
    var min: Double? {
        if hasAllExtremes, let reportedMin { return reportedMin }
        guard let piece = pieces.keys.min(by: { ($0.low, $0.high) < ($1.low, $1.high) }) else { return reportedMin }
        let edge = piece.low.isFinite ? piece.low : Swift.min(0, piece.high)
        return reportedMin.map { Swift.min($0, edge) } ?? edge
    }

    /// Exact where all senders reported theirs, else the edge of the highest bucket that has values.
    var max: Double? {
        if hasAllExtremes, let reportedMax { return reportedMax }
        guard let piece = pieces.keys.max(by: { ($0.high, $0.low) < ($1.high, $1.low) }) else { return reportedMax }
        let edge = piece.high.isFinite ? piece.high : piece.low
        return reportedMax.map { Swift.max($0, edge) } ?? edge
    }

    var average: Double? { count > 0 ? sum / Double(count) : nil }

    /// The value below which a share of the values lies, taking the values of a bucket as spread evenly over it.
    func quantile(_ share: Double) -> Double? {
        guard let least = min, let most = max else { return nil }
        // Buckets end where values do, so a single value in a wide bucket is not smeared over it.
        let clipped = pieces.map { piece, values in
            (low: Swift.max(piece.low, least), high: Swift.max(Swift.min(piece.high, most), least), values: values)
        }
        let total = clipped.reduce(0) { $0 + $1.values }
        guard total > 0 else { return average }
        let wanted = share * total
        let edges = Set(clipped.flatMap { [$0.low, $0.high] }).sorted()
        var below = 0.0
        var previous = edges.first ?? least
        for edge in edges {
            // Values of pieces without width lie on their edge; all others rise evenly from edge to edge.
            let rise = clipped.reduce(0.0) { sum, piece in
                guard piece.high > piece.low, piece.low <= previous, piece.high >= edge else { return sum }
                return sum + piece.values * (edge - previous) / (piece.high - piece.low)
            }
            if rise > 0, below + rise >= wanted { return previous + (edge - previous) * (wanted - below) / rise }
            below += rise
            below += clipped.reduce(0.0) { $1.high == $1.low && $1.low == edge ? $0 + $1.values : $0 }
            if below >= wanted { return edge }
            previous = edge
        }
        return most
    }
}
