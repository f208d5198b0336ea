// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// One spelling of a name as it stands in records, quotes and colon included.
struct KeyEntry {
    /// The first 16 bytes of the text and which bits of them count.
    var first: UInt64
    var firstMask: UInt64
    var second: UInt64
    var secondMask: UInt64
    var text: UnsafeMutablePointer<UInt8>
    var count: Int
    /// The state's index.
    var column: Int
    /// The entry that followed in the last record.
    var next: Int
}

/// Finds the columns of names: at best the one that followed last time, else by hash.
///
/// Entry 0 matches nothing. Freed by its owner.
struct KeyTable {
    private(set) var entries: UnsafeMutablePointer<KeyEntry>
    private(set) var count = 1
    private var capacity = 64
    /// Indexes of entries, 0 for none; a power of two.
    private var buckets: UnsafeMutablePointer<Int32>
    private var bucketMask = 255
    /// The entry the last record began with.
    var start = 0

    init() {
        entries = UnsafeMutablePointer.allocate(capacity: capacity)
        buckets = UnsafeMutablePointer.allocate(capacity: bucketMask + 1)
        buckets.initialize(repeating: 0, count: bucketMask + 1)
        entries[0] = KeyEntry(
            first: 1,
            firstMask: 0,
            second: 0,
            secondMask: 0,
            text: UnsafeMutablePointer.allocate(capacity: 1),
            count: 0,
            column: 0,
            next: 0
        )
    }

    func free() {
        for index in 0..<count { entries[index].text.deallocate() }
        entries.deallocate()
        buckets.deallocate()
    }

    /// Whether the text of an entry stands at `p`, of which 16 bytes can be read.
    @inline(__always)
    func matches(_ index: Int, _ p: Bytes, _ end: Bytes) -> Bool {
        let entry = entries + index
        let second = UnsafeRawPointer(p).loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        guard JSONText.load(p) & entry.pointee.firstMask == entry.pointee.first,
            second & entry.pointee.secondMask == entry.pointee.second
        else { return false }
        let count = entry.pointee.count
        return count <= 16 || (count <= end - p && memcmp(p + 16, entry.pointee.text + 16, count &- 16) == 0)
    }

    /// The entry of a name, quotes included, or 0.
    func find(_ name: Bytes, _ nameCount: Int) -> Int {
        var bucket = Self.hash(name, nameCount) & bucketMask
        while buckets[bucket] != 0 {
            let entry = entries + Int(buckets[bucket])
            if entry.pointee.count == nameCount + 1, memcmp(entry.pointee.text, name, nameCount) == 0 {
                return Int(buckets[bucket])
            }
            bucket = (bucket + 1) & bucketMask
        }
        return 0
    }

    mutating func link(_ previous: Int, to index: Int) {
        if previous == 0 { start = index } else { entries[previous].next = index }
    }

    /// Adds a name, quotes included.
    mutating func add(_ name: Bytes, _ nameCount: Int, column: Int) {
        if count == capacity {
            let grown = UnsafeMutablePointer<KeyEntry>.allocate(capacity: capacity * 2)
            grown.moveInitialize(from: entries, count: count)
            entries.deallocate()
            entries = grown
            capacity *= 2
        }
        let text = UnsafeMutablePointer<UInt8>.allocate(capacity: max(nameCount + 1, 16))
        text.initialize(repeating: 0, count: max(nameCount + 1, 16))
        memcpy(text, name, nameCount)
        text[nameCount] = 0x3A
        func mask(_ bytes: Int) -> UInt64 { bytes >= 8 ? .max : bytes <= 0 ? 0 : (1 << UInt64(bytes * 8)) - 1 }
        entries[count] = KeyEntry(
            first: JSONText.load(text),
            firstMask: mask(nameCount + 1),
            second: JSONText.load(UnsafePointer(text) + 8),
            secondMask: mask(nameCount - 7),
            text: text,
            count: nameCount + 1,
            column: column,
            next: 0
        )
        count += 1
        if count * 2 > bucketMask {
            buckets.deallocate()
            bucketMask = bucketMask * 4 + 3
            buckets = UnsafeMutablePointer.allocate(capacity: bucketMask + 1)
            buckets.initialize(repeating: 0, count: bucketMask + 1)
            for index in 1..<count { place(index) }
        } else {
            place(count - 1)
        }
    }

    private func place(_ index: Int) {
        var bucket = Self.hash(entries[index].text, entries[index].count - 1) & bucketMask
        while buckets[bucket] != 0 { bucket = (bucket + 1) & bucketMask }
        buckets[bucket] = Int32(truncatingIfNeeded: index)
    }

    private static func hash(_ p: Bytes, _ count: Int) -> Int {
        var value: UInt64 = 0xCBF2_9CE4_8422_2325
        for index in 0..<count { value = (value ^ UInt64(p[index])) &* 0x100_0000_01B3 }
        return Int(truncatingIfNeeded: value >> 16)
    }
}
