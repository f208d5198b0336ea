// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Record batches in a message, by reference: the codec neither copies nor looks at them.
///
/// In a message that was read, ``reference`` is where they stand, counted from the first byte the ``KafkaReader`` was
/// given. In a message to be written it is whatever number tells the caller which bytes, or which range of a file, to
/// send there: ``KafkaFrame`` hands it back.
package struct KafkaRecords: Hashable, Sendable {
    /// Position in the bytes read, or the caller's own number for the bytes to send.
    package var reference: Int
    /// How many bytes there are.
    package var byteCount: Int

    /// No records; written as a length of zero.
    package static let empty = KafkaRecords(reference: 0, byteCount: 0)

    /// Refers to records.
    package init(reference: Int, byteCount: Int) {
        self.reference = reference
        self.byteCount = byteCount
    }

    /// Where the records stand in the bytes they were read from.
    package var range: Range<Int> { reference..<reference + byteCount }
}
