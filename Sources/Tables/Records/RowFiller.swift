// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Catalog
internal import Glibc
internal import MartletCore

/// The state behind a ``RowBatch``: everything the loop over records touches, in memory of its own.
///
/// A struct, so that its members are reached without the checks and counts of class members. Freed by its owner.
struct RowFiller {
    let settings: RowBatchSettings
    var columns: [AppendTableSchemaVersion.Column]
    /// One for each column, then for names that are none; `names` finds them by their name in lower case.
    var states: UnsafeMutablePointer<ColumnState>
    var stateCount = 0
    var stateCapacity = 64
    var names: [[UInt8]: Int] = [:]
    var keys = KeyTable()
    var arena = ByteArena()
    var text = JSONText()
    var rows = SystemMemory()
    var rejects = SystemMemory()
    /// Counts records, so that a name seen twice in one is noticed.
    var stamp = 0
    /// Records until the memory is looked at.
    var untilLook = 0
    var hasWidened = false
    var addedCount = 0
    var nextOffset: Int64?
    var maxTimestamp: Int64?
    var partition: Int32 = 0
    /// Where the key's columns stand among ``states``; they are given at the start, and stay in their places.
    let keyPlaces: [Int]
    let isKeyed: Bool

    init(columns: [AppendTableSchemaVersion.Column], settings: RowBatchSettings) throws(RowBatchError) {
        self.settings = settings
        self.columns = columns
        let key = settings.key.map { Self.folded(Array($0.utf8)) }
        let folded = columns.map { Self.folded(Array($0.name.utf8)) }
        keyPlaces = key.compactMap { folded.firstIndex(of: $0) }
        isKeyed = !key.isEmpty
        states = UnsafeMutablePointer.allocate(capacity: stateCapacity)
        guard keyPlaces.count == key.count else {
            free()
            throw RowBatchError(message: "the key columns \(settings.key.joined(separator: ", ")) are not all there")
        }
        for (place, column) in columns.enumerated() {
            guard let state = ColumnState(column, place: place) else {
                free()
                throw RowBatchError(
                    message: "column \(column.name) has the type \(column.type), which tables do not have"
                )
            }
            addState(state, folded: Self.folded(Array(column.name.utf8)))
        }
    }

    func free() {
        for index in 0..<stateCount { states[index].memory.free() }
        states.deallocate()
        keys.free()
        arena.free()
        text.free()
        rows.free()
        rejects.free()
    }

    mutating func addState(_ state: ColumnState, folded: [UInt8]) {
        if stateCount == stateCapacity {
            let grown = UnsafeMutablePointer<ColumnState>.allocate(capacity: stateCapacity * 2)
            grown.moveInitialize(from: states, count: stateCount)
            states.deallocate()
            states = grown
            stateCapacity *= 2
        }
        (states + stateCount).initialize(to: state)
        names[folded] = stateCount
        stateCount += 1
    }

    /// A name in lower case, as DuckDB compares names: ASCII letters only.
    static func folded(_ name: [UInt8]) -> [UInt8] {
        name.map { $0 &- 0x41 < 26 ? $0 | 0x20 : $0 }
    }

    // MARK: Records

    /// Adds a record as a row or as a reject.
    @inline(__always)
    mutating func add(_ record: RawRecord) {
        if isKeyed {
            addKeyed(record)
            return
        }
        if record.headerCount == 0, settings.format == .json, let value = record.value, record.valueCount > 0 {
            if fill(value, value + record.valueCount) {
                commitRow(record)
                if let key = record.key {
                    rows.key.store(arena.entry(key, record.keyCount), at: rows.count)
                }
                rows.count &+= 1
                return
            }
        }
        addSlowly(record)
    }

    @inline(__always)
    mutating func commitRow(_ record: RawRecord) {
        let row = rows.count
        rows.partition.store(partition, at: row)
        rows.offset.store(record.offset, at: row)
        if let micros = Self.micros(record.timestamp) { rows.timestamp.store(micros, at: row) }
    }

    /// A TIMESTAMP of milliseconds, nil beyond what DuckDB has.
    @inline(__always)
    static func micros(_ milliseconds: Int64) -> Int64? {
        guard milliseconds > -9_223_372_022_400_000, milliseconds < 9_223_372_036_854_775 else { return nil }
        return milliseconds &* 1000
    }

    // MARK: Values

    /// Puts the members of the object into the row behind the last; false, and no trace, when it is not as plain as that.
    @inline(__always)
    mutating func fill(_ start: Bytes, _ end: Bytes) -> Bool {
        stamp &+= 1
        if fillMembers(start, end) { return true }
        eraseRow()
        return false
    }

    @inline(never)
    mutating func eraseRow() {
        for index in 0..<stateCount where states[index].stamp == stamp && states[index].place >= 0 {
            states[index].memory.erase(rows.count)
        }
    }

    private mutating func fillMembers(_ start: Bytes, _ end: Bytes) -> Bool {
        var p = JSONText.skipSpace(start, end)
        guard p < end, p.pointee == 0x7B else { return false }
        p = JSONText.skipSpace(p + 1, end)
        guard p < end else { return false }
        if p.pointee == 0x7D { return JSONText.skipSpace(p + 1, end) == end }
        var previous = 0
        var key = keys.start
        while true {
            if keys.matches(key, p, end) {
                p += keys.entries[key].count
            } else {
                guard let next = findKey(p, end, &key) else { return false }
                p = next
                keys.link(previous, to: key)
            }
            previous = key
            let state = states + keys.entries[key].column
            guard state.pointee.stamp != stamp else { return false }
            state.pointee.stamp = stamp
            p = JSONText.skipSpace(p, end)
            guard let next = storeValue(state, p, end) else { return false }
            p = JSONText.skipSpace(next, end)
            guard p < end else { return false }
            let byte = p.pointee
            p += 1
            if byte == 0x2C {
                p = JSONText.skipSpace(p, end)
                key = keys.entries[key].next
                continue
            }
            return byte == 0x7D && JSONText.skipSpace(p, end) == end
        }
    }

    @inline(never)
    private mutating func findKey(_ start: Bytes, _ end: Bytes, _ key: inout Int) -> Bytes? {
        guard start < end, start.pointee == 0x22 else { return nil }
        var hasEscapes = false
        guard let quote = text.stringEnd(start + 1, end, &hasEscapes) else { return nil }
        key = keys.find(start, quote + 1 - start)
        guard key != 0 else { return nil }
        let colon = JSONText.skipSpace(quote + 1, end)
        guard colon < end, colon.pointee == 0x3A else { return nil }
        return colon + 1
    }

    /// Stores the value at `p` and returns its end, or nil when the column does not take it just so.
    @inline(__always)
    private mutating func storeValue(
        _ state: UnsafeMutablePointer<ColumnState>,
        _ p: Bytes,
        _ end: Bytes
    ) -> Bytes? {
        guard p < end else { return nil }
        switch state.pointee.kind {
        case .varchar where p.pointee == 0x22: return storeString(state, p + 1, end)
        case .bigint:
            if let next = storeShortInteger(state, p, end) { return next }
        case .double:
            if let next = storeShortDouble(state, p, end) { return next }
        case .boolean:
            if p.pointee == 0x74 || p.pointee == 0x66 {
                state.pointee.memory.store(p.pointee == 0x74 ? 1 as UInt8 : 0, at: rows.count)
                return text.literalEnd(p, end)
            }
        default: break
        }
        return storeOther(state, p, end)
    }

    @inline(__always)
    private mutating func storeString(
        _ state: UnsafeMutablePointer<ColumnState>,
        _ p: Bytes,
        _ end: Bytes
    ) -> Bytes? {
        var hasEscapes = false
        guard let quote = text.stringEnd(p, end, &hasEscapes) else { return nil }
        let value = hasEscapes ? arena.unescaped(p, quote) : arena.entry(p, quote - p)
        state.pointee.memory.store(value, at: rows.count)
        return quote + 1
    }

    /// Integers of at most 18 digits that are exact as doubles, or whose column knows of larger ones.
    @inline(__always)
    private mutating func storeShortInteger(
        _ state: UnsafeMutablePointer<ColumnState>,
        _ start: Bytes,
        _ end: Bytes
    ) -> Bytes? {
        var p = start
        let isNegative = p.pointee == 0x2D
        if isNegative { p += 1 }
        let first = p
        var value: Int64 = 0
        while p < end {
            let digit = p.pointee &- 0x30
            if digit > 9 { break }
            value = value &* 10 &+ Int64(digit)
            p += 1
        }
        let count = p - first
        guard count > 0, count <= 18, count == 1 || first.pointee != 0x30, p < end else { return nil }
        let byte = p.pointee
        if byte == 0x2E || byte | 0x20 == 0x65 { return nil }
        if value > 1 << 53, !state.pointee.hasLargeIntegers, !state.pointee.isDeclared { return nil }
        state.pointee.memory.store(isNegative ? 0 &- value : value, at: rows.count)
        return p
    }

    /// Numbers whose digits are exact as a double and whose power of ten is too: one rounding is right (Clinger).
    @inline(__always)
    private mutating func storeShortDouble(
        _ state: UnsafeMutablePointer<ColumnState>,
        _ start: Bytes,
        _ end: Bytes
    ) -> Bytes? {
        var p = start
        let isNegative = p.pointee == 0x2D
        if isNegative { p += 1 }
        let first = p
        var mantissa: UInt64 = 0
        while p < end {
            let digit = p.pointee &- 0x30
            if digit > 9 { break }
            mantissa = mantissa &* 10 &+ UInt64(digit)
            p += 1
        }
        let count = p - first
        guard count > 0, count <= 18, count == 1 || first.pointee != 0x30, p < end else { return nil }
        var fractionCount = 0
        if p.pointee == 0x2E {
            p += 1
            let point = p
            while p < end {
                let digit = p.pointee &- 0x30
                if digit > 9 { break }
                mantissa = mantissa &* 10 &+ UInt64(digit)
                p += 1
            }
            fractionCount = p - point
            guard fractionCount > 0, count &+ fractionCount <= 18 else { return nil }
        } else if isNegative, mantissa == 0 {
            return nil
        }
        guard p < end, p.pointee | 0x20 != 0x65, mantissa <= 1 << 53 else { return nil }
        let magnitude = Double(mantissa) / powersOfTen[fractionCount]
        state.pointee.memory.store(isNegative ? -magnitude : magnitude, at: rows.count)
        return p
    }

    private let powersOfTen = RowFiller.makePowersOfTen()

    /// Never freed: the same for all.
    private static let sharedPowers: UInt = {
        let powers = UnsafeMutablePointer<Double>.allocate(capacity: 23)
        var power = 1.0
        for index in 0...22 {
            powers[index] = power
            power *= 10
        }
        return UInt(bitPattern: powers)
    }()

    private static func makePowersOfTen() -> UnsafePointer<Double> {
        UnsafePointer(bitPattern: sharedPowers).unsafelyUnwrapped
    }
}
