// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import Glibc

typealias Bytes = UnsafePointer<UInt8>

/// The values of one column in DuckDB's layout, with a bit for each row that is not NULL.
///
/// Rows behind `capacity`, and rows nobody wrote, are NULL and all zero. Freed by its owner.
struct ColumnMemory {
    private(set) var data: UnsafeMutableRawPointer
    private(set) var validity: UnsafeMutablePointer<UInt64>
    /// Rows there is memory for, a multiple of 64.
    private(set) var capacity = 0
    /// Bytes a value takes.
    private(set) var stride: Int

    init(stride: Int) {
        self.stride = stride
        data = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 16)
        validity = UnsafeMutablePointer.allocate(capacity: 1)
    }

    func free() {
        data.deallocate()
        validity.deallocate()
    }

    /// Where a row's value goes, which from now on is not NULL.
    @inline(__always)
    mutating func place(_ row: Int) -> UnsafeMutableRawPointer {
        if row >= capacity { grow(to: row + 1) }
        let word = validity + (row &>> 6)
        word.pointee |= 1 &<< UInt64(truncatingIfNeeded: row & 63)
        return data + row &* stride
    }

    @inline(__always)
    mutating func store<Value: BitwiseCopyable>(_ value: Value, at row: Int) {
        place(row).storeBytes(of: value, as: Value.self)
    }

    /// Makes a row NULL and zero again.
    mutating func erase(_ row: Int) {
        guard row < capacity else { return }
        validity[row >> 6] &= ~(1 << UInt64(row & 63))
        memset(data + row * stride, 0, stride)
    }

    /// Makes the first rows NULL and zero, keeping the memory.
    mutating func erase(first rows: Int) {
        let count = min(rows, capacity)
        memset(data, 0, count * stride)
        memset(validity, 0, ((count + 63) >> 6) * 8)
    }

    func isValid(_ row: Int) -> Bool {
        row < capacity && validity[row >> 6] >> UInt64(row & 63) & 1 == 1
    }

    @inline(never)
    private mutating func grow(to rows: Int) {
        // By half once there are many: what is too much by then is memory that nobody uses.
        let more = capacity < 4096 ? capacity * 2 : capacity + capacity / 2
        let wanted = (max(rows, 64, more) + 63) & ~63
        let values = UnsafeMutableRawPointer.allocate(byteCount: wanted * stride, alignment: 16)
        memcpy(values, data, capacity * stride)
        memset(values + capacity * stride, 0, (wanted - capacity) * stride)
        let words = UnsafeMutablePointer<UInt64>.allocate(capacity: wanted >> 6)
        memcpy(words, validity, capacity >> 3)
        memset(words + (capacity >> 6), 0, (wanted - capacity) >> 3)
        free()
        data = values
        validity = words
        capacity = wanted
    }

    /// Bytes of memory it holds.
    var memoryBytes: Int { capacity * stride + capacity >> 3 }

    /// Gives every value another form; `convert` reads the old place and writes the new one.
    mutating func restride(
        _ newStride: Int,
        rows: Int,
        _ convert: (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> Void
    ) {
        let values = UnsafeMutableRawPointer.allocate(byteCount: max(capacity * newStride, 16), alignment: 16)
        memset(values, 0, capacity * newStride)
        for row in 0..<min(rows, capacity) where isValid(row) {
            convert(data + row * stride, values + row * newStride)
        }
        data.deallocate()
        data = values
        stride = newStride
    }
}

/// Memory for strings that do not fit their entries; pointers stay valid until it is reset or freed.
struct ByteArena {
    /// Blocks of growing size, of which the first `used` hold strings.
    private var blocks: [UnsafeMutableRawBufferPointer] = []
    private var used = 0
    /// Blocks for one huge string each.
    private var large: [UnsafeMutableRawBufferPointer] = []
    private var next: UnsafeMutablePointer<UInt8>?
    private var left = 0
    /// Bytes handed out.
    private(set) var byteCount = 0

    private static let firstBlockSize = 1 << 13
    private static let blockSizeMax = 1 << 18

    /// Bytes of memory it holds.
    private(set) var memoryBytes = 0

    @inline(__always)
    mutating func allocate(_ count: Int) -> UnsafeMutablePointer<UInt8> {
        if let next, count <= left {
            self.next = next + count
            left &-= count
            byteCount &+= count
            return next
        }
        return allocateBlock(count)
    }

    @inline(never)
    private mutating func allocateBlock(_ count: Int) -> UnsafeMutablePointer<UInt8> {
        byteCount += count
        let wanted = max(Self.firstBlockSize << min(used, 8), min(count, Self.blockSizeMax) * 4)
        let size = used < blocks.count ? blocks[used].count : min(Self.blockSizeMax, wanted)
        // A block of its own for one huge string must not throw away what is left of the current one.
        if count > size / 4 {
            let block = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
            memoryBytes += count
            large.append(block)
            return block.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
        }
        if used == blocks.count {
            blocks.append(UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16))
            memoryBytes += size
        }
        let start = blocks[used].baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
        used += 1
        next = start + count
        left = size - count
        return start
    }

    @inline(__always)
    mutating func copy(_ start: Bytes, _ count: Int) -> UnsafeMutablePointer<UInt8> {
        let place = allocate(count)
        memcpy(place, start, count)
        return place
    }

    /// Gives back the end of what was handed out last.
    private mutating func shrink(_ place: UnsafeMutablePointer<UInt8>, from count: Int, to kept: Int) {
        guard let next, place + count == next else { return }
        self.next = place + kept
        left += count - kept
        byteCount -= count - kept
    }

    /// The entry of bytes, of which 16 can be read.
    @inline(__always)
    mutating func entry(_ start: Bytes, _ count: Int) -> StringEntry {
        if count <= StringEntry.inlineMax { return StringEntry(short: start, count: count) }
        return StringEntry(long: copy(start, count), count: count)
    }

    /// The entry of bytes as text: what is no UTF-8 is replaced.
    mutating func text(_ start: Bytes, _ count: Int) -> StringEntry {
        if JSONText.isUTF8(start, count) { return entry(start, count) }
        return text(String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self))
    }

    /// The entry of a text.
    mutating func text(_ text: String) -> StringEntry {
        let bytes = Array(text.utf8) + [UInt8](repeating: 0, count: 16)
        return bytes.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return StringEntry() }
            return entry(start, buffer.count - 16)
        }
    }

    /// The entry of a checked string, whose escapes are resolved.
    @inline(never)
    mutating func unescaped(_ start: Bytes, _ end: Bytes) -> StringEntry {
        let room = end - start + 16
        let place = allocate(room)
        let count = JSONText.unescape(start, end, into: place)
        if count > StringEntry.inlineMax {
            shrink(place, from: room, to: count)
            return StringEntry(long: place, count: count)
        }
        let entry = StringEntry(short: place, count: count)
        shrink(place, from: room, to: 0)
        return entry
    }

    /// Forgets everything handed out and keeps the memory, but for huge strings.
    mutating func reset() {
        for block in large {
            memoryBytes -= block.count
            block.deallocate()
        }
        large = []
        used = 0
        next = nil
        left = 0
        byteCount = 0
    }

    func free() {
        for block in blocks + large { block.deallocate() }
    }
}

/// A string as DuckDB keeps it: its length, then up to 12 bytes in place, or the first four and a pointer to all.
struct StringEntry: BitwiseCopyable {
    static let inlineMax = 12
    var first: UInt64 = 0
    var second: UInt64 = 0

    init() {}

    /// Makes the entry of at most 12 bytes, of which 16 can be read.
    @inline(__always)
    init(short start: Bytes, count: Int) {
        let low = UnsafeRawPointer(start).loadUnaligned(as: UInt64.self)
        let high = UInt64(UnsafeRawPointer(start).loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        let bits = UInt64(truncatingIfNeeded: count &* 8)
        let kept = low & (bits >= 64 ? .max : (1 &<< bits) &- 1)
        let rest = bits <= 64 ? 0 : high & ((1 &<< (bits &- 64)) &- 1)
        first = UInt64(truncatingIfNeeded: count) | kept &<< 32
        second = kept &>> 32 | rest &<< 32
    }

    /// Makes the entry of more than 12 bytes, which stay where they are.
    @inline(__always)
    init(long start: UnsafeMutablePointer<UInt8>, count: Int) {
        let prefix = UInt64(UnsafeRawPointer(start).loadUnaligned(as: UInt32.self))
        first = UInt64(UInt32(truncatingIfNeeded: count)) | prefix &<< 32
        second = UInt64(UInt(bitPattern: start))
    }
}
