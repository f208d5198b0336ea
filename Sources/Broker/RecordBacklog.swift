// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import KafkaCodec

/// What a read found and nobody has taken yet, decoded bit by bit: in memory are the bytes read and the batch or two that are decoded.
package struct RecordBacklog: Sendable {
    /// Records decoded at once.
    private static let countMax = 64
    /// Bytes of records decoded at once; the last one may go beyond.
    private static let bytesMax = 1 << 20

    private var walk: RecordBatches
    private var decoded: ArraySlice<RecordView> = []
    private var decodedBytes = 0
    /// Why the walk stopped behind what is decoded.
    private var fault: RecordBatchError?
    /// Where to read on when all was taken.
    private let end: Int64
    /// The offset behind the last record that was taken: where to read again.
    package private(set) var nextOffset: Int64

    /// The records of a read from an offset on.
    package init(_ found: ReadResult, from offset: Int64) {
        walk = RecordBatches(found.bytes, verifiesChecksums: false)
        nextOffset = offset
        end = max(found.nextOffset, offset)
    }

    /// Nothing, read up to an offset.
    init(nothingFrom offset: Int64) {
        walk = RecordBatches([])
        nextOffset = offset
        end = offset
    }

    /// The bytes it takes in memory.
    package var byteCount: Int {
        walk.byteCountHeld + decodedBytes + decoded.count * MemoryLayout<RecordView>.stride
    }

    /// The next records, decoding some where none are.
    ///
    /// Empty at the end. They stay until ``drop(_:)``.
    /// - Throws: for a batch that cannot be read, when what stands in front of it was taken; the next call goes on behind it.
    package mutating func next() throws(RecordBatchError) -> ArraySlice<RecordView> {
        if decoded.isEmpty { try decode() }
        return decoded
    }

    /// Takes the first of ``next()`` out.
    package mutating func drop(_ count: Int) {
        guard count > 0 else { return }
        nextOffset = decoded[decoded.startIndex + count - 1].offset + 1
        decoded.removeFirst(count)
        if decoded.isEmpty { forgetDecoded() }
    }

    private mutating func forgetDecoded() {
        decoded = []
        decodedBytes = 0
    }

    private mutating func decode() throws(RecordBatchError) {
        forgetDecoded()
        if let fault {
            self.fault = nil
            throw fault
        }
        var found: [RecordView] = []
        var bytes = 0
        do throws(RecordBatchError) {
            while found.count < Self.countMax, bytes < Self.bytesMax, let record = try walk.nextRecord() {
                guard record.offset >= nextOffset else { continue }
                found.append(record)
                bytes += record.contentByteCount
            }
        } catch {
            guard !found.isEmpty else { throw error }
            fault = error
        }
        if found.isEmpty { nextOffset = end }
        decoded = found[...]
        decodedBytes = bytes
    }
}
