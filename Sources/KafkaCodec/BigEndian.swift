// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Big-endian integers inside byte arrays.
package enum BigEndian {
    /// Loads an integer; traps when it would pass the end of the array.
    package static func load<Value: FixedWidthInteger & BitwiseCopyable>(
        _ type: Value.Type,
        from bytes: [UInt8],
        at position: Int
    ) -> Value {
        precondition(position >= 0 && position + MemoryLayout<Value>.size <= bytes.count)
        return Value(bigEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: position, as: type) })
    }

    /// Overwrites an integer; traps when it would pass the end of the array.
    package static func store<Value: FixedWidthInteger & BitwiseCopyable>(
        _ value: Value,
        to bytes: inout [UInt8],
        at position: Int
    ) {
        precondition(position >= 0 && position + MemoryLayout<Value>.size <= bytes.count)
        bytes.withUnsafeMutableBytes {
            $0.storeBytes(of: value.bigEndian, toByteOffset: position, as: Value.self)
        }
    }

    /// Appends an integer.
    package static func append<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }
}
