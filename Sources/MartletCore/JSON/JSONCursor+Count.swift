// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension JSONCursor {
    /// How many values a text of JSON has at the most, found without reading it: what a tree of them will take can be known before it grows.
    ///
    /// Of a text that is not JSON, as many as stand in front of the fault.
    package static func valueCountMax(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { buffer in
            var count = 1
            var index = 0
            while index < buffer.count {
                switch buffer[index] {
                case 0x22: index = endOfString(from: index + 1, in: buffer)
                case 0x2C, 0x5B, 0x7B: count += 1
                default: break
                }
                index += 1
            }
            return count
        }
    }

    /// Where the quote stands that ends a string.
    private static func endOfString(from start: Int, in buffer: UnsafeRawBufferPointer) -> Int {
        var index = start
        while index < buffer.count {
            if index + 8 <= buffer.count {
                let special = specialBytes(buffer.loadUnaligned(fromByteOffset: index, as: UInt64.self))
                guard special != 0 else {
                    index += 8
                    continue
                }
                index += special.trailingZeroBitCount >> 3
            }
            switch buffer[index] {
            case 0x22: return index
            case 0x5C: index += 2
            default: index += 1
            }
        }
        return index
    }
}
