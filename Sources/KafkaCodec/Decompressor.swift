// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

private import CCompression
internal import Synchronization

// SAFETY: the memory is reached only through the reference that the pool hands to one caller at a time.
/// The memory of the decoders and the buffer they fill, kept for the next batch.
final class Decompressor: @unchecked Sendable {
    private let state: OpaquePointer

    private init?() {
        guard let state = martlet_decompressor_make() else { return nil }
        self.state = state
    }

    deinit { martlet_decompressor_free(state) }

    private static let idle = Mutex<[Decompressor]>([])
    private static let idleMax = 4
    /// What one keeps for the next batch; more was needed for an unusual one.
    private static let keptBytesMax = 4 << 20

    /// Calls `body` with what `compressed` becomes, of at most `limit` bytes; 64 bytes in front belong to it and 32 zeros behind.
    /// - Throws: `.damagedCompression`, `.decompressedTooLarge`, without a place.
    static func decompress<R>(
        _ compressed: UnsafeBufferPointer<UInt8>,
        _ codec: CompressionCodec,
        limit: Int,
        _ body: (UnsafeMutableBufferPointer<UInt8>) -> R
    ) throws(RecordBatchError) -> R {
        guard let one = idle.withLock({ $0.popLast() }) ?? Decompressor() else { throw Self.noMemory(codec) }
        defer {
            martlet_decompressor_trim(one.state, keptBytesMax)
            idle.withLock { if $0.count < idleMax { $0.append(one) } }
        }
        let code = martlet_decompress(
            one.state,
            CInt(codec.rawValue),
            compressed.baseAddress,
            compressed.count,
            limit
        )
        switch code {
        case CInt(MARTLET_DECOMPRESSED):
            var count = 0
            let bytes = martlet_decompressed(one.state, &count)
            return body(UnsafeMutableBufferPointer(start: bytes, count: count))
        case CInt(MARTLET_DECOMPRESS_TOO_LARGE):
            throw RecordBatchError(
                .decompressedTooLarge,
                "\(compressed.count) bytes of \(codec) become more than the \(limit >> 20) MiB that are taken; "
                    + "let the producer send smaller batches"
            )
        case CInt(MARTLET_DECOMPRESS_DAMAGED):
            let fault = String(cString: martlet_decompress_fault(one.state))
            throw RecordBatchError(.damagedCompression, "they cannot be decompressed with \(codec): \(fault)")
        default: throw Self.noMemory(codec)
        }
    }

    private static func noMemory(_ codec: CompressionCodec) -> RecordBatchError {
        RecordBatchError(.decompressedTooLarge, "there is no memory to decompress them with \(codec)")
    }
}

extension RecordBatch {
    /// The most bytes that the records of a batch of this size may have once they are decompressed.
    ///
    /// Producers bound batches before they compress them, mostly to 1 MiB; so this is far from what they send, and near enough for
    /// memory. The largest batch of all, 256 MiB, may become 1 GiB.
    package static func decompressedBytesMax(of byteCount: Int) -> Int {
        min(max(64 << 20, byteCount * 8), 1 << 30)
    }

    /// Calls `body` with the batch as it would be without compression, and a header that says so.
    ///
    /// 61 bytes are left for a header and not filled, the records follow, then 32 zeros. Checksum and place are still the original's.
    /// `bytes` are those the batch was found in.
    /// - Throws: `.unsupportedCompression` for an unknown codec, `.damagedCompression`, `.decompressedTooLarge`.
    package func withDecompressed<R>(
        in bytes: [UInt8],
        _ body: (UnsafePointer<UInt8>, RecordBatchHeader) -> R
    ) throws(RecordBatchError) -> R {
        let records = range.lowerBound + RecordBatchHeader.byteCount..<range.upperBound
        do throws(RecordBatchError) {
            guard let codec = header.codec else {
                throw RecordBatchError(.unsupportedCompression, "codec \(header.attributes & 0x07) does not exist")
            }
            var failure: RecordBatchError?
            let result = bytes.withUnsafeBufferPointer { all -> R? in
                do throws(RecordBatchError) {
                    let limit = Self.decompressedBytesMax(of: range.count)
                    return try Decompressor.decompress(.init(rebasing: all[records]), codec, limit: limit) { found in
                        var plain = header
                        plain.attributes &= ~0x07
                        plain.length = RecordBatchHeader.lengthMin + Int32(found.count)
                        let start = UnsafePointer(found.baseAddress.unsafelyUnwrapped)
                        return body(start - RecordBatchHeader.byteCount, plain)
                    }
                } catch {
                    failure = error
                    return nil
                }
            }
            if let result { return result }
            throw failure ?? RecordBatchError(.damagedCompression, "they cannot be decompressed")
        } catch {
            throw RecordBatchError(
                error.code,
                error.message,
                baseOffset: header.baseOffset,
                nextOffset: header.nextOffset
            )
        }
    }

    /// Returns the records of a compressed batch in an array of their own; throws as ``withDecompressed(in:_:)``.
    func decompressed(in bytes: [UInt8]) throws(RecordBatchError) -> [UInt8] {
        try withDecompressed(in: bytes) { start, plain in
            let records = start + RecordBatchHeader.byteCount
            return Array(UnsafeBufferPointer(start: records, count: plain.batchByteCount - RecordBatchHeader.byteCount))
        }
    }
}
