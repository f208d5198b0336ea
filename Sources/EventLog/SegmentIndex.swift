// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// Where batches stand in one segment: one entry about every 4 KiB, for offsets and for timestamps.
///
/// Everything here can be rebuilt by reading the segment. File format: docs/formats/segment.md.
struct SegmentIndex: Sendable, Equatable {
    /// A batch that a search may begin at.
    struct Entry: Sendable, Equatable {
        /// The batch's base offset minus the segment's.
        let relativeOffset: UInt32
        /// The batch's first byte in the segment.
        let position: UInt32
        /// The largest timestamp of all batches in front of it; `Int64.min` for the first.
        let maxTimestampBefore: Int64
    }

    static let intervalBytes: Int64 = 4096

    let baseOffset: Int64
    var createdAt: Int64
    private(set) var coveredBytes: Int64 = 0
    private(set) var nextOffset: Int64
    private(set) var maxTimestamp = Int64.min
    private(set) var entries: [Entry] = []
    /// Whether bytes or offsets are covered that no batch is known for: whoever opens the segment looks for them again.
    private(set) var hasGap = false

    init(baseOffset: Int64, createdAt: Int64) {
        self.baseOffset = baseOffset
        self.createdAt = createdAt
        nextOffset = baseOffset
    }

    /// Takes in the batch at `position`; batches come in order.
    mutating func add(_ header: RecordBatchHeader, at position: Int64) {
        let isDue = entries.last.map { position - Int64($0.position) >= Self.intervalBytes } ?? true
        if isDue, let place = UInt32(exactly: position), let offset = UInt32(exactly: header.baseOffset - baseOffset) {
            entries.append(Entry(relativeOffset: offset, position: place, maxTimestampBefore: maxTimestamp))
        }
        maxTimestamp = max(maxTimestamp, header.maxTimestamp)
        nextOffset = header.nextOffset
        coveredBytes = position + Int64(header.batchByteCount)
    }

    /// Steps over bytes and offsets that no batch is known for.
    mutating func skip(toPosition position: Int64, nextOffset: Int64) {
        if position > coveredBytes || nextOffset > self.nextOffset { hasGap = true }
        coveredBytes = max(coveredBytes, position)
        self.nextOffset = max(self.nextOffset, nextOffset)
    }

    /// Takes over what an index file holds.
    mutating func restore(_ summary: SegmentIndexSummary, entries: [Entry]) {
        coveredBytes = summary.coveredBytes
        nextOffset = summary.nextOffset
        maxTimestamp = summary.maxTimestamp
        hasGap = summary.hasGap
        self.entries = entries
    }

    /// Returns the last indexed batch at or before `offset`.
    func start(forOffset offset: Int64) -> (position: Int64, offset: Int64) {
        let relative = offset - baseOffset
        let after = firstEntry { Int64($0.relativeOffset) > relative }
        return place(before: after)
    }

    /// Returns the last indexed batch at or before this position and this offset.
    func start(atOrBefore position: Int64, offset: Int64) -> (position: Int64, offset: Int64)? {
        let relative = offset - baseOffset
        let after = firstEntry { Int64($0.position) > position || Int64($0.relativeOffset) > relative }
        return after == 0 ? nil : place(before: after)
    }

    /// Returns an indexed batch with only older records in front of it.
    func start(forTimestamp timestamp: Int64) -> (position: Int64, offset: Int64) {
        place(before: firstEntry { $0.maxTimestampBefore >= timestamp })
    }

    private func place(before index: Int) -> (position: Int64, offset: Int64) {
        guard index > 0 else { return (0, baseOffset) }
        let entry = entries[index - 1]
        return (Int64(entry.position), baseOffset + Int64(entry.relativeOffset))
    }

    private func firstEntry(where isBeyond: (Entry) -> Bool) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if isBeyond(entries[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
