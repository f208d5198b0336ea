// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import DuckDB
internal import Glibc

// Values that are not of the few plain forms.
extension RowFiller {
    /// Stores any value at `p`, which is before `end`, and returns its end, or nil when the column does not take it.
    @inline(never)
    mutating func storeOther(
        _ state: UnsafeMutablePointer<ColumnState>,
        _ p: Bytes,
        _ end: Bytes
    ) -> Bytes? {
        let kind = state.pointee.kind
        if p.pointee == 0x6E { return text.literalEnd(p, end) }
        if kind == .unused { return nil }
        guard let next = text.valueEnd(p, end, outer: 1) else { return nil }
        if kind == .ignored { return next }
        return store(state, p, next) ? next : nil
    }

    /// Stores a value, not null, that a scan has checked; the byte behind it can be read and continues no number.
    private mutating func store(_ state: UnsafeMutablePointer<ColumnState>, _ p: Bytes, _ end: Bytes) -> Bool {
        let row = rows.count
        let isString = p.pointee == 0x22
        switch state.pointee.kind {
        case .json:
            state.pointee.memory.store(arena.entry(p, end - p), at: row)
            return true
        case .varchar:
            if isString {
                state.pointee.memory.store(string(p, end), at: row)
            } else {
                guard state.pointee.isDeclared else { return false }
                state.pointee.memory.store(arena.entry(p, end - p), at: row)
            }
            return true
        case .date, .timestamp:
            guard isString, let micros = calendar(state.pointee.kind, p, end) else { return false }
            if state.pointee.kind == .date {
                state.pointee.memory.store(Int32(truncatingIfNeeded: micros), at: row)
            } else {
                state.pointee.memory.store(micros, at: row)
            }
            return true
        case .decimal, .hugeint, .bigint, .double: return storeNumber(state, p, end)
        case .boolean, .unused, .ignored: return false
        }
    }

    private mutating func storeNumber(_ state: UnsafeMutablePointer<ColumnState>, _ p: Bytes, _ end: Bytes) -> Bool {
        let row = rows.count
        let number = NumberToken(p, end, takesStrings: state.pointee.kind == .decimal && state.pointee.isDeclared)
        guard let number else { return false }
        switch state.pointee.kind {
        case .bigint:
            guard number.isInteger || state.pointee.isDeclared, let wide = number.scaled(0),
                let value = Int64(exactly: wide)
            else { return false }
            if !state.pointee.isDeclared, !state.pointee.hasLargeIntegers, value.magnitude > 1 << 53 { return false }
            state.pointee.memory.store(value, at: row)
        case .double:
            guard let value = number.double(after: end) else { return false }
            state.pointee.memory.store(value, at: row)
        case .hugeint:
            guard let value = number.scaled(0) else { return false }
            state.pointee.memory.store(value, at: row)
        default:
            let limit = NumberText.limit(width: Int(state.pointee.width))
            guard let value = number.scaled(Int(state.pointee.scale), limit: limit) else { return false }
            switch state.pointee.memory.stride {
            case 2: state.pointee.memory.store(Int16(truncatingIfNeeded: value), at: row)
            case 4: state.pointee.memory.store(Int32(truncatingIfNeeded: value), at: row)
            case 8: state.pointee.memory.store(Int64(truncatingIfNeeded: value), at: row)
            default: state.pointee.memory.store(value, at: row)
            }
        }
        return true
    }

    /// The entry of a string, from its opening to behind its closing quote.
    mutating func string(_ p: Bytes, _ end: Bytes) -> StringEntry {
        let start = p + 1
        let count = end - p - 2
        return memchr(start, 0x5C, count) == nil ? arena.entry(start, count) : arena.unescaped(start, end - 1)
    }

    /// Days or microseconds of a string, nil when it is no such text.
    func calendar(_ kind: ColumnKind, _ p: Bytes, _ end: Bytes) -> Int64? {
        if kind == .timestamp, let micros = TimestampText.micros(p + 1, end - p - 2) { return micros }
        let text = String(decoding: UnsafeBufferPointer(start: p + 1, count: end - p - 2), as: UTF8.self)
        return kind == .date ? CalendarText.parseDate(text).map { Int64($0) } : CalendarText.parseTimestamp(text)
    }
}

/// A number as it stands in a record.
struct NumberToken {
    let start: Bytes
    let end: Bytes
    /// Neither fraction nor exponent.
    let isInteger: Bool

    /// Nil when the checked value is no number nor, where `takesStrings`, a string that is one.
    init?(_ p: Bytes, _ end: Bytes, takesStrings: Bool = false) {
        var (start, stop) = (p, end)
        if p.pointee == 0x22 {
            guard takesStrings else { return nil }
            (start, stop) = (p + 1, end - 1)
            guard NumberText.end(start, stop) == stop else { return nil }
        }
        guard start < stop, start.pointee == 0x2D || start.pointee &- 0x30 <= 9 else { return nil }
        var isInteger = true
        var q = start
        while q < stop {
            let byte = q.pointee
            if byte == 0x2E || byte | 0x20 == 0x65 { isInteger = false }
            q += 1
        }
        self.start = start
        self.end = stop
        self.isInteger = isInteger
    }

    /// The value times ten to the power of `scale` where that is a whole number below `limit`.
    func scaled(_ scale: Int, limit: UInt128 = 1 << 127) -> Int128? {
        NumberText.scaled(start, end, scale: scale, limit: limit)
    }

    /// The nearest double of a fraction, the equal one of an integer; nil when there is none that is finite.
    func double(after: Bytes) -> Double? {
        if isInteger { return scaled(0).flatMap { NumberText.exactDouble($0) } }
        let value = NumberText.double(start)
        return value.isFinite ? value : nil
    }
}
