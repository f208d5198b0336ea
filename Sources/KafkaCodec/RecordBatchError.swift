// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Why bytes are not a usable record batch.
package struct RecordBatchError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kinds of refusal.
    package enum Code: String, Sendable, CaseIterable {
        /// Fewer bytes than the batch says it has.
        case truncated
        /// The magic byte is not 2.
        case unsupportedMagic
        /// The length field is below the smallest batch or disagrees with the bytes given.
        case badLength
        /// The CRC-32C does not match the bytes.
        case checksumMismatch
        /// The record count disagrees with the last offset delta or with the records found.
        case badCount
        /// The codec number is unknown.
        case unsupportedCompression
        /// The records cannot be decompressed.
        case damagedCompression
        /// The records take more memory than is given once they are decompressed.
        case decompressedTooLarge
        /// There is no memory now to decompress the records.
        case noMemory
        /// A record inside the batch cannot be read.
        case malformedRecord
    }

    /// The kind of refusal.
    package let code: Code
    /// What was wrong, with the offending values.
    package let message: String
    /// The base offset of the batch, where the header could be read.
    package let baseOffset: Int64?
    /// The offset after the batch, where the header could be read: continue there to skip the batch.
    package let nextOffset: Int64?
    /// The record's place in its batch, from 0 on, where it is one that cannot be read.
    package var recordIndex: Int32?

    /// Creates an error.
    package init(_ code: Code, _ message: String, baseOffset: Int64? = nil, nextOffset: Int64? = nil) {
        self.code = code
        self.message = message
        self.baseOffset = baseOffset
        self.nextOffset = nextOffset
    }

    package var description: String {
        "\(code.rawValue): \(message)" + (baseOffset.map { " (batch at offset \($0))" } ?? "")
    }
}
