// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One segment file as the partition knows it.
struct Segment {
    let baseOffset: Int64
    /// The offset after the segment's last record; the next segment's base offset.
    var nextOffset: Int64
    /// The bytes that may be read.
    var byteCount: Int64
    var maxTimestamp: Int64
    var createdAt: Int64
    /// The open file; `nil` where nobody has read or written lately.
    var file: DiskFile?
    /// `nil` for a sealed segment nobody has read lately.
    var index: SegmentIndex?
    /// Whether somebody has used the file since ``OpenFiles`` came by.
    var wasUsed = false
    /// Tells a file from the one it replaced under the same name.
    var generation: UInt64 = 0
    /// The bytes whose checksums this process knows to be right, because it wrote or read them; one stretch of them.
    var verified: Range<Int64> = 0..<0

    /// Adds what was verified, or takes it in place of what does not touch it.
    mutating func noteVerified(_ bytes: Range<Int64>) {
        guard !bytes.isEmpty else { return }
        let touches = bytes.lowerBound <= verified.upperBound && verified.lowerBound <= bytes.upperBound
        verified =
            touches
            ? min(bytes.lowerBound, verified.lowerBound)..<max(bytes.upperBound, verified.upperBound) : bytes
    }

    static func stem(_ baseOffset: Int64) -> String {
        let digits = String(baseOffset)
        return String(repeating: "0", count: max(0, 20 - digits.count)) + digits
    }

    /// Returns the base offset in a segment's file name, or `nil` for other files.
    static func baseOffset(ofFileNamed name: String) -> Int64? {
        guard name.utf8.count == 24, name.hasSuffix(".log"), let offset = Int64(name.dropLast(4)),
            stem(offset) + ".log" == name
        else { return nil }
        return offset
    }
}

/// The three files of a segment.
struct SegmentPaths {
    let log: String
    let index: String
    let timeIndex: String

    init(directory: String, baseOffset: Int64) {
        let stem = "\(directory)/\(Segment.stem(baseOffset))"
        log = stem + ".log"
        index = stem + ".index"
        timeIndex = stem + ".timeindex"
    }

    /// Loads the index; `nil` when either file is missing or damaged.
    func loadIndex() -> SegmentIndex? {
        // An unreadable index is as good as none: it is rebuilt from the segment.
        guard Disk.exists(index), Disk.exists(timeIndex), let offsets = try? Disk.readWhole(index),
            let times = try? Disk.readWhole(timeIndex)
        else { return nil }
        return SegmentIndex(offsetIndex: offsets, timeIndex: times)
    }

    /// Loads only the header of the index; `nil` when it is missing or damaged.
    func loadSummary() -> SegmentIndexSummary? {
        // As above.
        guard Disk.exists(index), Disk.exists(timeIndex), let file = try? DiskFile(path: index, flags: 0),
            let bytes = try? file.read(at: 0, count: SegmentIndexSummary.byteCount)
        else { return nil }
        return SegmentIndexSummary(parsing: bytes, magic: SegmentIndex.offsetMagic)
    }

    func store(_ content: SegmentIndex) throws(EventLogError) {
        try Disk.replaceUnflushed(index, with: content.encodedOffsetIndex())
        try Disk.replaceUnflushed(timeIndex, with: content.encodedTimeIndex())
    }

    func remove() throws(EventLogError) {
        try Disk.remove(log)
        try Disk.remove(index)
        try Disk.remove(timeIndex)
    }
}
