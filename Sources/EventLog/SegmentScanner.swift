// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// Reads a segment batch by batch, checking structure, checksum and that offsets follow one another.
struct SegmentScanner {
    enum Step {
        case batch(RecordBatchHeader, position: Int64)
        /// Bytes that are no batch, or not the expected one; the scanner stays in front of them.
        case invalid(position: Int64, reason: String)
        case end
    }

    private static let windowBytes = 1 << 20

    private let file: DiskFile
    private let end: Int64
    private(set) var position: Int64
    private(set) var expectedOffset: Int64
    private var window: [UInt8] = []
    private var windowStart: Int64 = 0

    /// Scans `file` from a batch's first byte to `end`.
    init(file: DiskFile, from position: Int64, expecting offset: Int64, end: Int64) {
        self.file = file
        self.position = position
        self.end = end
        expectedOffset = offset
    }

    /// Returns the next batch.
    mutating func next() throws(EventLogError) -> Step {
        if position == end { return .end }
        let header: RecordBatchHeader
        switch try parse(at: position) {
        case .success(let parsed): header = parsed
        case .failure(let error): return .invalid(position: position, reason: error.message)
        }
        guard header.baseOffset == expectedOffset else {
            return .invalid(
                position: position,
                reason: "a batch with base offset \(header.baseOffset) stands where \(expectedOffset) belongs"
            )
        }
        let start = position
        position += Int64(header.batchByteCount)
        expectedOffset = header.nextOffset
        return .batch(header, position: start)
    }

    /// Returns the bytes of the batch that ``next()`` has just returned.
    func bytes(of header: RecordBatchHeader, at start: Int64) -> [UInt8] {
        let from = Int(start - windowStart)
        return Array(window[from..<from + header.batchByteCount])
    }

    /// Moves on to the next whole batch with a higher base offset; false when there is none before the end.
    ///
    /// The batch's own length is tried first, then every byte.
    mutating func resynchronize() throws(EventLogError) -> Bool {
        let from = position
        try load(from, RecordBatchHeader.byteCount)
        if available(from) >= RecordBatchHeader.byteCount {
            let length = BigEndian.load(Int32.self, from: window, at: Int(from - windowStart) + 8)
            if length >= RecordBatchHeader.lengthMin, try isBatch(at: from + 12 + Int64(length)) { return true }
        }
        var candidate = from + 1
        while end - candidate >= Int64(RecordBatchHeader.byteCount) {
            try load(candidate, RecordBatchHeader.byteCount)
            if available(candidate) < RecordBatchHeader.byteCount { return false }
            let local = Int(candidate - windowStart)
            let searchEnd = window.count - (RecordBatchHeader.byteCount - 17)
            // The magic byte is 16 bytes into a batch.
            guard let magic = window[(local + 16)..<max(local + 17, searchEnd)].firstIndex(of: 2) else {
                candidate = windowStart + Int64(max(local + 1, searchEnd - 16))
                continue
            }
            candidate = windowStart + Int64(magic - 16)
            if try isBatch(at: candidate) { return true }
            candidate += 1
        }
        return false
    }

    private mutating func isBatch(at candidate: Int64) throws(EventLogError) -> Bool {
        guard candidate > position, end - candidate >= Int64(RecordBatchHeader.byteCount),
            case .success(let header) = try parse(at: candidate),
            header.partitionLeaderEpoch == PartitionLog.leaderEpoch,
            header.baseOffset > expectedOffset, header.baseOffset - expectedOffset <= Int64(Int32.max)
        else { return false }
        position = candidate
        expectedOffset = header.baseOffset
        return true
    }

    private mutating func parse(at start: Int64) throws(EventLogError) -> Result<RecordBatchHeader, RecordBatchError> {
        try load(start, RecordBatchHeader.byteCount)
        var local = Int(start - windowStart)
        let header: RecordBatchHeader
        do {
            header = try RecordBatchHeader(parsing: window, at: local)
        } catch {
            return .failure(error)
        }
        guard Int64(header.batchByteCount) <= end - start else {
            return .failure(RecordBatchError(.truncated, "the batch continues beyond the end of the file"))
        }
        try load(start, header.batchByteCount)
        local = Int(start - windowStart)
        guard header.hasValidChecksum(in: window, at: local) else {
            return .failure(RecordBatchError(.checksumMismatch, "the checksum does not match"))
        }
        return .success(header)
    }

    private func available(_ start: Int64) -> Int {
        start < windowStart ? 0 : max(0, window.count - Int(start - windowStart))
    }

    private mutating func load(_ start: Int64, _ count: Int) throws(EventLogError) {
        if start >= windowStart, available(start) >= count { return }
        window = try file.read(at: start, count: Int(min(end - start, Int64(max(count, Self.windowBytes)))))
        windowStart = start
    }
}
