// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Writes what of a record does not depend on its place in a batch: key, value and headers.
///
/// The fields come in this order: key, value, the number of headers, then each header's name and value.
package struct RecordBodyWriter: Sendable {
    /// The bytes so far, of any number of records.
    package private(set) var bytes: [UInt8] = []

    /// Creates a writer with room for so many bytes.
    package init(capacity: Int) {
        bytes.reserveCapacity(capacity)
    }

    /// Writes a key, value or header's value; nil is Kafka's null.
    package mutating func putField(_ field: UnsafeRawBufferPointer?) {
        guard let field else { return putVarInt(-1) }
        putVarInt(Int64(field.count))
        bytes.append(contentsOf: field)
    }

    /// Writes how many headers follow.
    package mutating func putHeaderCount(_ count: Int) { putVarInt(Int64(count)) }

    /// Writes a header whose name is known when the program is built.
    package mutating func putHeader(_ name: StaticString, _ value: UnsafeRawBufferPointer?) {
        putField(UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        putField(value)
    }

    /// Writes a header whose name has a prefix.
    package mutating func putHeader(
        prefix: StaticString,
        _ name: UnsafeRawBufferPointer,
        _ value: UnsafeRawBufferPointer?
    ) {
        putVarInt(Int64(prefix.utf8CodeUnitCount + name.count))
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: prefix.utf8Start, count: prefix.utf8CodeUnitCount))
        bytes.append(contentsOf: name)
        putField(value)
    }

    private mutating func putVarInt(_ value: Int64) { bytes.appendVarInt(value) }
}

extension [UInt8] {
    mutating func appendVarInt(_ value: Int64) {
        var rest = VarInt.zigZag(value)
        while rest >= 0x80 {
            append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        append(UInt8(rest))
    }
}
