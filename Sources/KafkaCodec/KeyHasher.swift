// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// 128 bits that stand for a key.
package struct KeyHash: Hashable, Sendable {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

/// SipHash-2-4 with 128 bits of output and a secret of its own: nobody can make two keys that fall together.
///
/// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", and the authors' reference for 128 bits.
package struct KeyHasher: Sendable {
    private let secret: (UInt64, UInt64)

    /// Makes a hasher with a random secret.
    package init() {
        self.init(.random(in: 0...UInt64.max), .random(in: 0...UInt64.max))
    }

    package init(_ first: UInt64, _ second: UInt64) {
        secret = (first, second)
    }

    /// Returns what stands for the key.
    package func hash(_ key: ArraySlice<UInt8>) -> KeyHash {
        var state = State(secret)
        key.withUnsafeBytes { bytes in
            let whole = bytes.count & ~7
            var position = 0
            while position < whole {
                state.add(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)))
                position += 8
            }
            var last = UInt64(truncatingIfNeeded: bytes.count) << 56
            for index in position..<bytes.count { last |= UInt64(bytes[index]) << UInt64((index - position) * 8) }
            state.add(last)
        }
        return state.finish()
    }

    private struct State {
        var v0: UInt64
        var v1: UInt64
        var v2: UInt64
        var v3: UInt64

        init(_ secret: (UInt64, UInt64)) {
            v0 = 0x736f_6d65_7073_6575 ^ secret.0
            v1 = 0x646f_7261_6e64_6f6d ^ secret.1 ^ 0xee
            v2 = 0x6c79_6765_6e65_7261 ^ secret.0
            v3 = 0x7465_6462_7974_6573 ^ secret.1
        }

        mutating func add(_ word: UInt64) {
            v3 ^= word
            round()
            round()
            v0 ^= word
        }

        mutating func finish() -> KeyHash {
            v2 ^= 0xee
            for _ in 0..<4 { round() }
            let first = v0 ^ v1 ^ v2 ^ v3
            v1 ^= 0xdd
            for _ in 0..<4 { round() }
            return KeyHash(high: first, low: v0 ^ v1 ^ v2 ^ v3)
        }

        private mutating func round() {
            v0 &+= v1
            v1 = Self.rotated(v1, 13) ^ v0
            v0 = Self.rotated(v0, 32)
            v2 &+= v3
            v3 = Self.rotated(v3, 16) ^ v2
            v0 &+= v3
            v3 = Self.rotated(v3, 21) ^ v0
            v2 &+= v1
            v1 = Self.rotated(v1, 17) ^ v2
            v2 = Self.rotated(v2, 32)
        }

        private static func rotated(_ word: UInt64, _ count: UInt64) -> UInt64 { word << count | word >> (64 - count) }
    }
}
