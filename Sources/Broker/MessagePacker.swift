// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Puts encoded parts behind one another into messages that stay below a size, but for a single part that is larger.
package struct MessagePacker: Sendable {
    private let bytesMax: Int
    private var bytes: [UInt8] = []

    /// Makes messages of at most so many bytes.
    package init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    /// The bytes of the message that is not full yet.
    package var byteCount: Int { bytes.count }

    /// Adds what `write` appends, whole; returns the message before it where both do not fit one.
    package mutating func add(_ write: (inout [UInt8]) -> Void) -> [UInt8]? {
        let before = bytes.count
        write(&bytes)
        guard before > 0, bytes.count > bytesMax else { return nil }
        let part = Array(bytes[before...])
        bytes.removeLast(part.count)
        defer { bytes = part }
        return bytes
    }

    /// Takes the message that is not full yet; nil where there is none.
    package mutating func take() -> [UInt8]? {
        guard !bytes.isEmpty else { return nil }
        defer { bytes = [] }
        return bytes
    }
}
