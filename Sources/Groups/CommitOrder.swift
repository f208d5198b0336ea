// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The commits of a group that are being written.
///
/// A member that takes a partition over must not read an offset while its predecessor's commit is on the way to disk:
/// it would begin too early, and its own commits would set the group back.
struct CommitOrder {
    private var next: UInt64 = 0
    private var open: Set<UInt64> = []
    private var waiting: [(before: UInt64, promise: Promise<Void>)] = []

    var isEmpty: Bool { open.isEmpty && waiting.isEmpty }

    mutating func begin() -> UInt64 {
        defer { next += 1 }
        open.insert(next)
        return next
    }

    /// Returns who waited for this commit as the last one.
    mutating func end(_ ticket: UInt64) -> [Promise<Void>] {
        open.remove(ticket)
        let oldest = open.min() ?? next
        let ready = waiting.filter { $0.before <= oldest }
        waiting.removeAll { $0.before <= oldest }
        return ready.map(\.promise)
    }

    /// Returns a promise to be fulfilled when the commits begun so far have ended; nil when they have.
    mutating func barrier() -> Promise<Void>? {
        guard !open.isEmpty else { return nil }
        let promise = Promise<Void>()
        waiting.append((next, promise))
        return promise
    }
}
