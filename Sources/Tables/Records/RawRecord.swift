// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One record of a batch, pointing into it.
struct RawRecord {
    var offset: Int64
    /// Milliseconds since 1970.
    var timestamp: Int64
    /// Nil for null.
    var key: Bytes?
    var keyCount: Int
    /// Nil for null.
    var value: Bytes?
    var valueCount: Int
    var headerCount: Int
    var headers: Bytes
    var headersEnd: Bytes
}

/// One header of a record, pointing into it.
struct RawHeader {
    var name: Bytes
    var nameCount: Int
    /// Nil for null.
    var value: Bytes?
    var valueCount: Int
}

/// Walks the records of one uncompressed batch in place (Kafka protocol guide, "Record").
struct RawRecordCursor {
    private(set) var position: Bytes
    private let end: Bytes
    private let baseOffset: Int64
    private let baseTimestamp: Int64
    private let lastOffsetDelta: Int64
    /// The timestamp of all records, where the log gives it.
    private let appendTime: Int64?

    init(
        _ start: Bytes,
        _ end: Bytes,
        baseOffset: Int64,
        lastOffsetDelta: Int64,
        baseTimestamp: Int64,
        appendTime: Int64?
    ) {
        position = start
        self.end = end
        self.baseOffset = baseOffset
        self.lastOffsetDelta = lastOffsetDelta
        self.baseTimestamp = baseTimestamp
        self.appendTime = appendTime
    }

    var isAtEnd: Bool { position == end }

    /// Reads the next record; nil when what stands here is none.
    @inline(__always)
    mutating func next() -> RawRecord? {
        var p = position
        var isBad = false
        let length = Self.varInt(&p, end, &isBad)
        guard !isBad, length >= 0, length <= end - p else { return nil }
        let recordEnd = p + Int(length)
        guard p < recordEnd else { return nil }
        p += 1
        let timestampDelta = Self.varInt(&p, recordEnd, &isBad)
        let offsetDelta = Self.varInt(&p, recordEnd, &isBad)
        let keyCount = Self.varInt(&p, recordEnd, &isBad)
        guard !isBad, offsetDelta >= 0, offsetDelta <= lastOffsetDelta, keyCount <= recordEnd - p else { return nil }
        let key = keyCount < 0 ? nil : p
        p += max(Int(keyCount), 0)
        let valueCount = Self.varInt(&p, recordEnd, &isBad)
        guard !isBad, valueCount <= recordEnd - p else { return nil }
        let value = valueCount < 0 ? nil : p
        p += max(Int(valueCount), 0)
        let headerCount = Self.varInt(&p, recordEnd, &isBad)
        guard !isBad, headerCount >= 0, headerCount <= recordEnd - p else { return nil }
        let headers = p
        if headerCount > 0 {
            for _ in 0..<headerCount {
                guard Self.header(&p, recordEnd) != nil else { return nil }
            }
        }
        guard p == recordEnd else { return nil }
        position = recordEnd
        return RawRecord(
            offset: baseOffset &+ offsetDelta,
            timestamp: appendTime ?? baseTimestamp &+ timestampDelta,
            key: key,
            keyCount: max(Int(keyCount), 0),
            value: value,
            valueCount: max(Int(valueCount), 0),
            headerCount: Int(headerCount),
            headers: headers,
            headersEnd: recordEnd
        )
    }

    /// Reads the header at `p`; nil when what stands there is none.
    static func header(_ p: inout Bytes, _ end: Bytes) -> RawHeader? {
        var isBad = false
        let nameCount = varInt(&p, end, &isBad)
        guard !isBad, nameCount >= 0, nameCount <= end - p else { return nil }
        let name = p
        p += Int(nameCount)
        let valueCount = varInt(&p, end, &isBad)
        guard !isBad, valueCount <= end - p else { return nil }
        let value = valueCount < 0 ? nil : p
        p += max(Int(valueCount), 0)
        return RawHeader(name: name, nameCount: Int(nameCount), value: value, valueCount: max(Int(valueCount), 0))
    }

    @inline(__always)
    private static func varInt(_ p: inout Bytes, _ end: Bytes, _ isBad: inout Bool) -> Int64 {
        guard p < end else {
            isBad = true
            return 0
        }
        var raw = UInt64(p.pointee)
        p += 1
        if raw >= 0x80 {
            raw &= 0x7F
            var shift: UInt64 = 7
            while true {
                guard p < end, shift < 64 else {
                    isBad = true
                    return 0
                }
                let byte = p.pointee
                p += 1
                raw |= UInt64(byte & 0x7F) &<< shift
                if byte < 0x80 { break }
                shift &+= 7
            }
        }
        return Int64(bitPattern: raw &>> 1) ^ -Int64(bitPattern: raw & 1)
    }
}
