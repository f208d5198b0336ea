// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

private import CChecksum

/// CRC-32C (Castagnoli), the checksum of record batches and of every file the event log writes.
package enum CRC32C {
    /// Returns the checksum of `bytes[range]`; traps when the range is outside the array.
    package static func checksum(_ bytes: [UInt8], in range: Range<Int>) -> UInt32 {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count)
        return bytes.withUnsafeBytes { checksum(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    /// Returns the checksum of all of `bytes`.
    package static func checksum(_ bytes: [UInt8]) -> UInt32 {
        checksum(bytes, in: 0..<bytes.count)
    }

    /// Returns the checksum of a raw buffer, continuing from `initial`.
    package static func checksum(_ buffer: UnsafeRawBufferPointer, initial: UInt32 = 0) -> UInt32 {
        martlet_crc32c(initial, buffer.baseAddress, buffer.count)
    }

    /// Returns the checksum computed with lookup tables only, to be compared with ``checksum(_:)``.
    package static func portableChecksum(_ bytes: [UInt8]) -> UInt32 {
        bytes.withUnsafeBytes { martlet_crc32c_portable(0, $0.baseAddress, $0.count) }
    }
}
