// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Gives out producer ids, none of them twice, whatever crashes.
///
/// Ids are reserved on disk in blocks before the first of a block is given out; what is left of a block at a crash is
/// never used.
final class ProducerIDs: Sendable {
    private struct State {
        var free: Range<Int64>
        /// The end of what this process has claimed, on disk or on its way there.
        var claimed: Int64
    }

    static let blockSize: Int64 = 1000
    /// Ids begin above 0, so that no field that was left at zero names a producer.
    private static let first: Int64 = 1

    private let state: Mutex<State>

    /// Goes on above every id below `reserved`.
    init(reserved: Int64) {
        let start = max(reserved, Self.first)
        state = Mutex(State(free: start..<start, claimed: start))
    }

    /// Never gives out an id up to this one: it was seen in use.
    func skip(to used: Int64) {
        state.withLock { state in
            // A number a client made up must not use up the others.
            guard used >= state.claimed, used < 1 << 62 else { return }
            state.claimed = used + 1
            state.free = state.claimed..<state.claimed
        }
    }

    /// Returns the next id, having the end of its block stored where it begins one.
    func next(storing: (Int64) async throws -> Void) async throws -> Int64 {
        let (ready, block) = state.withLock { state -> (Int64?, Range<Int64>) in
            if let id = state.free.popFirst() { return (id, 0..<0) }
            let block = state.claimed..<state.claimed + Self.blockSize
            state.claimed = block.upperBound
            return (nil, block)
        }
        if let ready { return ready }
        try await storing(block.upperBound)
        let rest = block.dropFirst()
        // Who asked at the same time has claimed a block too; one of them is enough.
        state.withLock { if $0.free.isEmpty { $0.free = rest } }
        return block.lowerBound
    }
}
