// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A whole message to be sent, its length in front: bytes, and between them the places where records belong.
package struct KafkaFrame: Sendable {
    /// A place where records belong.
    package struct Chunk: Hashable, Sendable {
        /// How many of ``KafkaFrame/bytes`` come before.
        package var position: Int
        /// Which records, and how many bytes they have.
        package var records: KafkaRecords
    }

    /// What is sent next.
    package enum Segment: Hashable, Sendable {
        /// A range of ``KafkaFrame/bytes``.
        case bytes(Range<Int>)
        /// Records, as the message refers to them.
        case records(KafkaRecords)
    }

    /// Everything but the records, the length in front included.
    package let bytes: [UInt8]
    /// Where records belong, in order.
    package let chunks: [Chunk]
    /// How many bytes are sent in all.
    package let byteCount: Int

    /// Puts the length in front of a message.
    init(size: Int32, bytes: ArraySlice<UInt8>, chunks: [Chunk]) {
        var whole: [UInt8] = []
        whole.reserveCapacity(bytes.count + 4)
        BigEndian.append(size, to: &whole)
        whole.append(contentsOf: bytes)
        self.bytes = whole
        self.chunks = chunks.map { Chunk(position: $0.position + 4, records: $0.records) }
        byteCount = Int(size) + 4
    }

    /// What is sent, in order; without records it is one segment.
    package var segments: [Segment] {
        var segments: [Segment] = []
        segments.reserveCapacity(2 * chunks.count + 1)
        var position = 0
        for chunk in chunks {
            if chunk.position > position { segments.append(.bytes(position..<chunk.position)) }
            segments.append(.records(chunk.records))
            position = chunk.position
        }
        if position < bytes.count { segments.append(.bytes(position..<bytes.count)) }
        return segments
    }
}
