// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// The last offset of each key in a stretch of a partition, in bounded memory.
///
/// Keys are kept as hashes of 128 bits, as Kafka's offset map does: 24 bytes a key.
struct KeyOffsets: Sendable {
    private struct Slot {
        var high: UInt64 = 0
        var low: UInt64 = 0
        var offset: Int64 = -1
    }

    private static let capacityMin = 1024

    private let hasher = KeyHasher()
    private let countMax: Int
    private var slots: [Slot]
    private(set) var count = 0

    /// Makes a map of at most about `bytesMax` bytes.
    init(bytesMax: Int) {
        let most = max(Self.capacityMin, bytesMax / MemoryLayout<Slot>.stride)
        // The largest power of two that fits, three quarters full.
        let capacityMax = 1 << (Int.bitWidth - 1 - most.leadingZeroBitCount)
        countMax = capacityMax / 4 * 3
        slots = Array(repeating: Slot(), count: Self.capacityMin)
    }

    /// Whether so many more keys fit; an empty map takes any number, so that every batch fits at last.
    func fits(_ more: Int) -> Bool { count == 0 || count + more <= countMax }

    mutating func set(_ key: ArraySlice<UInt8>, to offset: Int64) {
        if (count + 1) * 4 > slots.count * 3 { grow() }
        let hash = hasher.hash(key)
        let place = place(of: hash)
        if slots[place].offset < 0 { count += 1 }
        slots[place] = Slot(high: hash.high, low: hash.low, offset: offset)
    }

    /// The last offset of the key; `nil` where it does not occur.
    func offset(of key: ArraySlice<UInt8>) -> Int64? {
        if count == 0 { return nil }
        let found = slots[place(of: hasher.hash(key))].offset
        return found < 0 ? nil : found
    }

    private func place(of hash: KeyHash) -> Int {
        let mask = slots.count - 1
        var place = Int(truncatingIfNeeded: hash.high) & mask
        while slots[place].offset >= 0, slots[place].high != hash.high || slots[place].low != hash.low {
            place = (place + 1) & mask
        }
        return place
    }

    private mutating func grow() {
        let old = slots
        slots = Array(repeating: Slot(), count: old.count * 2)
        for slot in old where slot.offset >= 0 {
            slots[place(of: KeyHash(high: slot.high, low: slot.low))] = slot
        }
    }
}
