// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DequeModule

/// Which offsets of one partition are done, so that the lowest unfinished one can be committed whatever order they finish in.
struct OffsetTracker {
    /// The lowest offset not known to be done.
    private(set) var committable: Int64
    /// One flag an offset from ``committable`` on; grows with what was read, shrinks as the front finishes.
    private var done: Deque<Bool> = []

    /// Starts at a committed offset; `finished` are ranges beyond it that were done before.
    init(committed: Int64, finished: [Range<Int64>] = []) {
        committable = committed
        for range in finished {
            for offset in range { complete(offset) }
        }
    }

    /// The offset after the last one seen.
    var end: Int64 { committable + Int64(done.count) }

    /// Whether `offset` is done.
    func isDone(_ offset: Int64) -> Bool {
        if offset < committable { return true }
        let index = Int(offset - committable)
        return index < done.count && done[index]
    }

    mutating func complete(_ offset: Int64) {
        guard offset >= committable else { return }
        let index = Int(offset - committable)
        while done.count <= index { done.append(false) }
        done[index] = true
        while done.first == true {
            done.removeFirst()
            committable += 1
        }
    }

    /// Marks everything in `range` done: offsets that hold no record, or none for this deployment.
    mutating func complete(_ range: Range<Int64>) {
        if done.isEmpty, range.lowerBound <= committable {
            committable = max(committable, range.upperBound)
            return
        }
        for offset in range { complete(offset) }
    }

    /// Finished ranges beyond ``committable``, at most `count`.
    func finishedRanges(limit count: Int) -> [Range<Int64>] {
        var ranges = [Range<Int64>]()
        var start: Int64?
        for (index, isDone) in done.enumerated() {
            let offset = committable + Int64(index)
            if isDone {
                if start == nil { start = offset }
            } else if let first = start {
                ranges.append(first..<offset)
                start = nil
                if ranges.count == count { return ranges }
            }
        }
        if let first = start { ranges.append(first..<end) }
        return ranges
    }
}
