// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// What an index file's header says of its segment.
struct SegmentIndexSummary: Sendable, Equatable {
    static let byteCount = 64

    let baseOffset: Int64
    let coveredBytes: Int64
    let nextOffset: Int64
    let maxTimestamp: Int64
    let createdAt: Int64
    let entryCount: UInt32
    let bodyChecksum: UInt32
    let hasGap: Bool

    /// Reads a header; `nil` when it is not one of this kind and version or its checksum is wrong.
    init?(parsing bytes: [UInt8], magic: UInt32) {
        guard bytes.count >= Self.byteCount,
            BigEndian.load(UInt32.self, from: bytes, at: 0) == magic,
            BigEndian.load(UInt16.self, from: bytes, at: 4) == SegmentIndex.formatVersion,
            BigEndian.load(UInt32.self, from: bytes, at: 60) == CRC32C.checksum(bytes, in: 0..<60)
        else { return nil }
        baseOffset = BigEndian.load(Int64.self, from: bytes, at: 8)
        coveredBytes = BigEndian.load(Int64.self, from: bytes, at: 16)
        nextOffset = BigEndian.load(Int64.self, from: bytes, at: 24)
        maxTimestamp = BigEndian.load(Int64.self, from: bytes, at: 32)
        createdAt = BigEndian.load(Int64.self, from: bytes, at: 40)
        entryCount = BigEndian.load(UInt32.self, from: bytes, at: 48)
        bodyChecksum = BigEndian.load(UInt32.self, from: bytes, at: 52)
        hasGap = BigEndian.load(UInt16.self, from: bytes, at: 6) & SegmentIndex.gapFlag != 0
    }
}

extension SegmentIndex {
    static let formatVersion: UInt16 = 1
    static let gapFlag: UInt16 = 1
    /// "MLOX".
    static let offsetMagic: UInt32 = 0x4D4C_4F58
    /// "MLTX".
    static let timeMagic: UInt32 = 0x4D4C_5458

    /// Returns the content of the `.index` file.
    func encodedOffsetIndex() -> [UInt8] {
        var body: [UInt8] = []
        body.reserveCapacity(entries.count * 8)
        for entry in entries {
            BigEndian.append(entry.relativeOffset, to: &body)
            BigEndian.append(entry.position, to: &body)
        }
        return header(magic: Self.offsetMagic, body: body) + body
    }

    /// Returns the content of the `.timeindex` file.
    func encodedTimeIndex() -> [UInt8] {
        var body: [UInt8] = []
        body.reserveCapacity(entries.count * 12)
        for entry in entries {
            BigEndian.append(entry.maxTimestampBefore, to: &body)
            BigEndian.append(entry.relativeOffset, to: &body)
        }
        return header(magic: Self.timeMagic, body: body) + body
    }

    /// Reads the pair of files; `nil` when either is damaged or they disagree.
    init?(offsetIndex: [UInt8], timeIndex: [UInt8]) {
        let size = SegmentIndexSummary.byteCount
        guard let summary = SegmentIndexSummary(parsing: offsetIndex, magic: Self.offsetMagic),
            let times = SegmentIndexSummary(parsing: timeIndex, magic: Self.timeMagic),
            times.entryCount == summary.entryCount, times.coveredBytes == summary.coveredBytes,
            times.baseOffset == summary.baseOffset,
            offsetIndex.count == size + Int(summary.entryCount) * 8,
            timeIndex.count == size + Int(summary.entryCount) * 12,
            CRC32C.checksum(offsetIndex, in: size..<offsetIndex.count) == summary.bodyChecksum,
            CRC32C.checksum(timeIndex, in: size..<timeIndex.count) == times.bodyChecksum
        else { return nil }
        self.init(baseOffset: summary.baseOffset, createdAt: summary.createdAt)
        var loaded: [Entry] = []
        loaded.reserveCapacity(Int(summary.entryCount))
        for number in 0..<Int(summary.entryCount) {
            let offset = BigEndian.load(UInt32.self, from: offsetIndex, at: size + number * 8)
            guard offset == BigEndian.load(UInt32.self, from: timeIndex, at: size + number * 12 + 8) else { return nil }
            loaded.append(
                Entry(
                    relativeOffset: offset,
                    position: BigEndian.load(UInt32.self, from: offsetIndex, at: size + number * 8 + 4),
                    maxTimestampBefore: BigEndian.load(Int64.self, from: timeIndex, at: size + number * 12)
                )
            )
        }
        restore(summary, entries: loaded)
    }

    private func header(magic: UInt32, body: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        BigEndian.append(magic, to: &bytes)
        BigEndian.append(Self.formatVersion, to: &bytes)
        BigEndian.append(hasGap ? Self.gapFlag : 0, to: &bytes)
        for field in [baseOffset, coveredBytes, nextOffset, maxTimestamp, createdAt] {
            BigEndian.append(field, to: &bytes)
        }
        BigEndian.append(UInt32(entries.count), to: &bytes)
        BigEndian.append(CRC32C.checksum(body), to: &bytes)
        BigEndian.append(UInt32(0), to: &bytes)
        BigEndian.append(CRC32C.checksum(bytes), to: &bytes)
        return bytes
    }
}
