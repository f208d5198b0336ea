// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A 128-bit hash that is the same in every run and version; not meant to resist an adversary.
///
/// Ids of events and traces are made with it, so it must never change.
package struct StableHash: Sendable {
    private var low: UInt64 = 0x9E37_79B9_7F4A_7C15
    private var high: UInt64 = 0xC2B2_AE3D_27D4_EB4F

    package init() {}

    /// Adds eight bytes.
    package mutating func add(_ word: UInt64) {
        low = Self.mix(low ^ word, 0xA076_1D64_78BD_642F)
        high = Self.mix(high ^ word.byteSwapped, 0xE703_7ED1_A0B4_28DB) &+ low
    }

    /// Adds a text, and where it ends.
    package mutating func add(_ text: String) {
        add(Array(text.utf8))
    }

    /// Adds bytes, and where they end.
    package mutating func add(_ bytes: [UInt8]) {
        var word: UInt64 = 0
        var count: UInt64 = 0
        for byte in bytes {
            word = word << 8 | UInt64(byte)
            count += 1
            if count % 8 == 0 {
                add(word)
                word = 0
            }
        }
        add(word)
        add(count)
    }

    /// Both halves of the hash.
    package var value: (high: UInt64, low: UInt64) {
        let first = Self.mix(low ^ 0x8EBC_6AF0_9C88_C6E3, high ^ 0x5899_65CC_7537_4CC3)
        return (first, Self.mix(first ^ high, low ^ 0x1D8E_4E27_C47D_124F))
    }

    private static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }
}
