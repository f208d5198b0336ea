// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Kafka's default assignment of keys to partitions.
package enum Partitioner {
    /// Returns the partition of a key: murmur2 (seed 0x9747b28c) without its sign bit, modulo the number of partitions.
    package static func partition(forKey key: [UInt8], of partitions: Int32) -> Int32 {
        partition(forHash: murmur2(key), of: partitions)
    }

    /// Returns the partition of a key with this ``murmur2(_:)``.
    package static func partition(forHash hash: UInt32, of partitions: Int32) -> Int32 {
        precondition(partitions > 0)
        return Int32(bitPattern: hash & 0x7FFF_FFFF) % partitions
    }

    /// Returns the 32-bit murmur2 hash with Kafka's seed.
    package static func murmur2(_ data: [UInt8]) -> UInt32 {
        let multiplier: UInt32 = 0x5bd1_e995
        var hash: UInt32 = 0x9747_b28c ^ UInt32(truncatingIfNeeded: data.count)
        var position = 0
        while data.count - position >= 4 {
            var word = UInt32(data[position])
            word |= UInt32(data[position + 1]) << 8
            word |= UInt32(data[position + 2]) << 16
            word |= UInt32(data[position + 3]) << 24
            word = word &* multiplier
            word ^= word >> 24
            word = word &* multiplier
            hash = (hash &* multiplier) ^ word
            position += 4
        }
        if position < data.count {
            for (index, byte) in data[position...].enumerated() { hash ^= UInt32(byte) << UInt32(8 * index) }
            hash = hash &* multiplier
        }
        hash ^= hash >> 13
        hash = hash &* multiplier
        hash ^= hash >> 15
        return hash
    }
}
