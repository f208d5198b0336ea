// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

/// What a partition knew of producers when its log ended at an offset.
///
/// Format: docs/formats/producer-snapshot.md.
struct ProducerSnapshot: Sendable, Equatable {
    /// "MLPS".
    static let magic: UInt32 = 0x4D4C_5053
    static let version: UInt16 = 1
    private static let headerBytes = 24
    private static let suffix = ".producers"

    let offset: Int64
    let table: ProducerTable

    static func path(in directory: String, at offset: Int64) -> String {
        "\(directory)/\(Segment.stem(offset))\(suffix)"
    }

    /// Returns the offset in a snapshot's file name, or `nil` for other files.
    static func offset(ofFileNamed name: String) -> Int64? {
        guard name.hasSuffix(suffix), let offset = Int64(name.dropLast(suffix.utf8.count)),
            Segment.stem(offset) + suffix == name
        else { return nil }
        return offset
    }

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        BigEndian.append(Self.magic, to: &bytes)
        BigEndian.append(Self.version, to: &bytes)
        BigEndian.append(UInt16(0), to: &bytes)
        BigEndian.append(offset, to: &bytes)
        BigEndian.append(UInt32(table.producers.count), to: &bytes)
        BigEndian.append(UInt32(table.aborted.count), to: &bytes)
        for (id, state) in table.producers {
            BigEndian.append(id, to: &bytes)
            BigEndian.append(state.epoch, to: &bytes)
            BigEndian.append(UInt16(state.batches.count), to: &bytes)
            BigEndian.append(state.coordinatorEpoch, to: &bytes)
            BigEndian.append(state.transactionStart ?? -1, to: &bytes)
            BigEndian.append(state.usedAt, to: &bytes)
            for batch in state.batches {
                BigEndian.append(batch.firstSequence, to: &bytes)
                BigEndian.append(batch.lastSequence, to: &bytes)
                BigEndian.append(batch.baseOffset, to: &bytes)
            }
        }
        for span in table.aborted {
            BigEndian.append(span.producerID, to: &bytes)
            BigEndian.append(span.firstOffset, to: &bytes)
            BigEndian.append(span.markerOffset, to: &bytes)
        }
        BigEndian.append(CRC32C.checksum(bytes), to: &bytes)
        return bytes
    }

    init(offset: Int64, table: ProducerTable) {
        self.offset = offset
        self.table = table
    }

    /// Reads a snapshot.
    ///
    /// - Throws: `.unsupportedFormat` for a newer version, `.damaged` for anything else that cannot be read.
    init(decoding bytes: [UInt8], path: String) throws(EventLogError) {
        let end = bytes.count - 4
        guard end >= Self.headerBytes, BigEndian.load(UInt32.self, from: bytes, at: 0) == Self.magic,
            BigEndian.load(UInt32.self, from: bytes, at: end) == CRC32C.checksum(bytes, in: 0..<end)
        else { throw EventLogError(.damaged, "\(path) is no sound snapshot of producers", path: path) }
        let found = BigEndian.load(UInt16.self, from: bytes, at: 4)
        guard found <= Self.version else {
            throw EventLogError(
                .unsupportedFormat,
                "\(path) has version \(found), this engine reads up to \(Self.version); start the newer engine",
                path: path
            )
        }
        offset = BigEndian.load(Int64.self, from: bytes, at: 8)
        var reader = Reader(bytes: bytes, position: Self.headerBytes, end: end)
        let producerCount = BigEndian.load(UInt32.self, from: bytes, at: 16)
        let abortedCount = BigEndian.load(UInt32.self, from: bytes, at: 20)
        guard let producers = reader.producers(producerCount), let aborted = reader.aborted(abortedCount),
            reader.position == end
        else { throw EventLogError(.damaged, "\(path) has a wrong size", path: path) }
        table = ProducerTable(producers: producers, aborted: aborted)
    }

    private struct Reader {
        let bytes: [UInt8]
        var position: Int
        let end: Int

        mutating func producers(_ count: UInt32) -> [Int64: ProducerState]? {
            var found: [Int64: ProducerState] = [:]
            for _ in 0..<count {
                guard end - position >= 32 else { return nil }
                let id = next(Int64.self)
                let epoch = next(Int16.self)
                let batchCount = Int(next(UInt16.self))
                let coordinatorEpoch = next(Int32.self)
                let start = next(Int64.self)
                let usedAt = next(Int64.self)
                guard end - position >= batchCount * 16, batchCount <= ProducerState.batchesMax else { return nil }
                found[id] = ProducerState(
                    epoch: epoch,
                    batches: (0..<batchCount).map { _ in
                        ProducerState.Batch(
                            firstSequence: next(Int32.self),
                            lastSequence: next(Int32.self),
                            baseOffset: next(Int64.self)
                        )
                    },
                    coordinatorEpoch: coordinatorEpoch,
                    transactionStart: start < 0 ? nil : start,
                    usedAt: usedAt
                )
            }
            return found
        }

        mutating func aborted(_ count: UInt32) -> [AbortedSpan]? {
            guard end - position == Int(count) * 24 else { return nil }
            return (0..<count).map { _ in
                AbortedSpan(
                    producerID: next(Int64.self),
                    firstOffset: next(Int64.self),
                    markerOffset: next(Int64.self)
                )
            }
        }

        private mutating func next<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type) -> Value {
            defer { position += MemoryLayout<Value>.size }
            return BigEndian.load(type, from: bytes, at: position)
        }
    }
}
