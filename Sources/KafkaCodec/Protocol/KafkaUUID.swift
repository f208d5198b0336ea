// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The id of a topic: 16 bytes, most significant first; zero stands for none.
package struct KafkaUUID: Hashable, Sendable, CustomStringConvertible {
    /// The id that stands for none.
    package static let zero = KafkaUUID(high: 0, low: 0)

    /// The first eight bytes.
    package var high: UInt64
    /// The last eight bytes.
    package var low: UInt64

    /// Creates an id from its halves.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Creates a random id of UUID version 4, so never ``zero``.
    package static func random() -> KafkaUUID {
        var high = UInt64.random(in: 0...UInt64.max)
        var low = UInt64.random(in: 0...UInt64.max)
        high = high & ~0xF000 | 0x4000
        low = low & ~(3 << 62) | 2 << 62
        return KafkaUUID(high: high, low: low)
    }

    /// 22 characters, as Kafka's tools write ids: Base64 for addresses, without padding.
    package var base64: String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        var text = ""
        // 128 bits are 21 groups of six, and two bits with four zeros behind them.
        for place in 0..<22 {
            var group = 0
            for bit in place * 6..<place * 6 + 6 {
                let half = bit < 64 ? high : low
                group = group << 1 | (bit < 128 ? Int(half >> UInt64(63 - bit % 64) & 1) : 0)
            }
            text.append(alphabet[group])
        }
        return text
    }

    /// 32 hexadecimal digits in groups of 8-4-4-4-12.
    package var description: String {
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        let groups = [
            hex(high >> 32, 8), hex(high >> 16 & 0xFFFF, 4), hex(high & 0xFFFF, 4),
            hex(low >> 48, 4), hex(low & 0xFFFF_FFFF_FFFF, 12),
        ]
        return groups.joined(separator: "-")
    }
}
