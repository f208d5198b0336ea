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

    /// Fills a decompressor's buffer with what `compressed` becomes, of at most `limit` bytes.
    ///
    /// 64 bytes in front belong to it and 32 zeros behind. ``giveBack()`` is due afterwards.
    /// - Throws: `.damagedCompression`, `.decompressedTooLarge`, `.noMemory`, without a place.
    static func decompress(
        _ compressed: UnsafeBufferPointer<UInt8>,
        _ codec: CompressionCodec,
        limit: Int
    ) throws(RecordBatchError) -> (Decompressor, UnsafeMutableBufferPointer<UInt8>) {
        guard let one = idle.withLock({ $0.popLast() }) ?? Decompressor() else { throw Self.noMemory(codec) }
        let code = martlet_decompress(
            one.state,
            CInt(codec.rawValue),
            compressed.baseAddress,
            compressed.count,
            limit
        )
        if code == CInt(MARTLET_DECOMPRESSED) {
            var count = 0
            let bytes = martlet_decompressed(one.state, &count)
            return (one, UnsafeMutableBufferPointer(start: bytes, count: count))
        }
        defer { one.giveBack() }
        switch code {
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

    /// Keeps the memory for the next batch; nobody may read the buffer any more.
    func giveBack() {
        martlet_decompressor_trim(state, Self.keptBytesMax)
        Self.idle.withLock { if $0.count < Self.idleMax { $0.append(self) } }
    }

    private static func noMemory(_ codec: CompressionCodec) -> RecordBatchError {
        RecordBatchError(.noMemory, "there is no memory to decompress them with \(codec)")
    }
}

// SAFETY: the memory belongs to the decompressor until deinit gives it back, and nobody writes to it meanwhile.
/// A batch as it would be without compression; its memory goes back with the last reference.
///
/// At ``start`` 61 bytes are left for a header and not filled, the records follow, then 32 zeros.
package final class PlainBatch: @unchecked Sendable {
    /// The batch's header, which says that nothing is compressed; checksum and place are still the original's.
    package let header: RecordBatchHeader
    /// Where the batch stands; valid while this is referenced.
    package let start: UnsafePointer<UInt8>
    /// Bytes from ``start`` on.
    package var byteCount: Int { header.batchByteCount }
    private let decompressor: Decompressor

    fileprivate init(
        _ header: RecordBatchHeader,
        _ decompressor: Decompressor,
        _ found: UnsafeMutableBufferPointer<UInt8>
    ) {
        var plain = header
        plain.attributes &= ~0x07
        plain.length = RecordBatchHeader.lengthMin + Int32(found.count)
        self.header = plain
        self.decompressor = decompressor
        start = UnsafePointer(found.baseAddress.unsafelyUnwrapped) - RecordBatchHeader.byteCount
    }

    deinit { decompressor.giveBack() }
}

extension RecordBatch {
    /// The most bytes that the records of a batch of this size may have once they are decompressed.
    ///
    /// Producers bound batches before they compress them, mostly to 1 MiB; so this is far from what they send, and near enough for
    /// memory. The largest batch of all, 256 MiB, may become 1 GiB.
    package static func decompressedBytesMax(of byteCount: Int) -> Int {
        min(max(64 << 20, byteCount * 8), 1 << 30)
    }

    /// Refuses a batch whose records have more bytes than may be once they are decompressed: Kafka's clients would read it, and the engine's
    /// own readers would not.
    ///
    /// Only what may be too large by its format is decompressed. What cannot be decompressed for another reason passes.
    /// - Throws: `.decompressedTooLarge`.
    func checkSize(in bytes: [UInt8]) throws(RecordBatchError) {
        guard let codec = header.codec, codec != .none else { return }
        let records = range.lowerBound + RecordBatchHeader.byteCount..<range.upperBound
        let mayExceed = bytes.withUnsafeBufferPointer { all in
            martlet_may_exceed(
                CInt(codec.rawValue),
                UnsafeBufferPointer(rebasing: all[records]).baseAddress,
                records.count,
                Self.decompressedBytesMax(of: range.count)
            ) != 0
        }
        guard mayExceed else { return }
        do throws(RecordBatchError) {
            _ = try plain(in: bytes)
        } catch {
            if error.code == .decompressedTooLarge { throw error }
        }
    }

    /// The batch as it would be without compression, of at most `bytesMax` bytes where that is less than may be; `bytes` are those the batch
    /// was found in.
    /// - Throws: `.unsupportedCompression` for an unknown codec, `.damagedCompression`, `.decompressedTooLarge`, `.noMemory`.
    package func plain(in bytes: [UInt8], bytesMax: Int = .max) throws(RecordBatchError) -> PlainBatch {
        let records = range.lowerBound + RecordBatchHeader.byteCount..<range.upperBound
        do throws(RecordBatchError) {
            guard let codec = header.codec else {
                throw RecordBatchError(.unsupportedCompression, "codec \(header.attributes & 0x07) does not exist")
            }
            let limit = min(Self.decompressedBytesMax(of: range.count), bytesMax)
            let result = bytes.withUnsafeBufferPointer { all -> Result<PlainBatch, RecordBatchError> in
                do throws(RecordBatchError) {
                    let (one, found) = try Decompressor.decompress(.init(rebasing: all[records]), codec, limit: limit)
                    return .success(PlainBatch(header, one, found))
                } catch {
                    return .failure(error)
                }
            }
            return try result.get()
        } catch {
            throw RecordBatchError(
                error.code,
                error.message,
                baseOffset: header.baseOffset,
                nextOffset: header.nextOffset
            )
        }
    }

    /// Returns the records of a compressed batch in an array of their own; throws as ``plain(in:bytesMax:)``.
    func decompressed(in bytes: [UInt8]) throws(RecordBatchError) -> [UInt8] {
        let plain = try plain(in: bytes)
        return withExtendedLifetime(plain) {
            let count = plain.byteCount - RecordBatchHeader.byteCount
            return Array(UnsafeBufferPointer(start: plain.start + RecordBatchHeader.byteCount, count: count))
        }
    }
}
