// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

private import CCompression
private import Glibc

/// Compresses the records of batches that the log itself writes anew.
enum Compressor {
    /// Returns the records compressed, or `nil` where there is no memory; uncompressed ones as they are.
    static func compress(_ records: [UInt8], _ codec: CompressionCodec) -> [UInt8]? {
        if codec == .none { return records }
        var output: UnsafeMutablePointer<UInt8>?
        var length = 0
        let isDone = records.withUnsafeBufferPointer { buffer in
            martlet_compress(CInt(codec.rawValue), buffer.baseAddress, buffer.count, &output, &length)
        }
        guard isDone == 1, let output else { return nil }
        defer { free(output) }
        return Array(UnsafeBufferPointer(start: output, count: length))
    }
}
