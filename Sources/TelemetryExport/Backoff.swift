// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// How long to wait before the next try.
struct Backoff {
    private static let first = 0.5
    private static let last = 30.0
    /// Longest wait an endpoint may ask for.
    private static let askedMax = 300.0

    private var seconds = Backoff.first

    /// The time until the next try: what the endpoint asks for, or twice as long as before, shortened by chance so that many senders
    /// do not come back at once.
    mutating func next(asked: Double?, chance: Double = .random(in: 0...1)) -> Duration {
        if let asked, asked >= 0 { return .seconds(min(asked, Self.askedMax)) }
        defer { seconds = min(seconds * 2, Self.last) }
        return .seconds(seconds * (1 - chance / 2))
    }

    mutating func reset() { seconds = Self.first }
}
