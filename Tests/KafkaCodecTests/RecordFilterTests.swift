// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import Testing

struct RecordFilterTests {
    private struct Line: Decodable {
        var name: String
        var batch: Data
    }

    private static func fixtures() throws -> [Line] {
        let file = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fixtures/kafka/batches.jsonl")
        return try Data(contentsOf: file).split(separator: UInt8(ascii: "\n"))
            .map { try JSONDecoder().decode(Line.self, from: $0) }
    }

    /// Batches that real clients compressed, with every codec.
    @Test func removesRecordsFromCompressedBatches() throws {
        var codecs: Set<CompressionCodec> = []
        for line in try Self.fixtures() {
            let bytes = Array(line.batch)
            let header = try RecordBatchHeader(parsing: bytes)
            let all = try RecordBatches.records(in: bytes)
            guard all.count > 2 else { continue }
            #expect(try RecordFilter.filter(bytes) { _ in true } == nil)
            let made = try #require(try RecordFilter.filter(bytes) { $0.offset % 2 == 1 })
            let changed = try RecordBatchHeader(parsing: made)
            #expect(changed.codec == header.codec && changed.hasValidChecksum(in: made))
            #expect(changed.lastOffset == header.lastOffset && changed.baseSequence == header.baseSequence)
            let wanted = all.filter { $0.offset % 2 == 1 }
            let found = try RecordBatches.records(in: made)
            #expect(found.map(\.offset) == wanted.map(\.offset), "\(line.name)")
            #expect(found.map { $0.record() } == wanted.map { $0.record() }, "\(line.name)")
            #expect(changed.maxTimestamp == wanted.map(\.timestamp).max())
            if let codec = header.codec { codecs.insert(codec) }
            let empty = try #require(try RecordFilter.filter(bytes) { _ in false })
            #expect(empty.count == RecordBatchHeader.byteCount)
            #expect(try RecordBatches.records(in: empty).isEmpty)
        }
        #expect(codecs.isSuperset(of: [.gzip, .snappy, .lz4, .zstd]))
    }

    @Test func placeholdersTakeUpOffsets() throws {
        let made = RecordFilter.placeholder(for: 100..<350, leaderEpoch: 0)
        let header = try RecordBatchHeader(parsing: made)
        #expect(header.baseOffset == 100 && header.nextOffset == 350 && header.recordCount == 0)
        #expect(header.producerID == -1 && header.baseSequence == -1 && header.hasValidChecksum(in: made))
        var longer = made
        RecordFilter.extend(&longer, to: 400)
        #expect(try RecordBatchHeader(parsing: longer).nextOffset == 400)
        #expect(try RecordBatchHeader(parsing: longer).hasValidChecksum(in: longer))
    }

    /// The first vectors of the authors' reference for 128 bits, with the key 00 01 … 0f.
    @Test func hashesAsTheReferenceDoes() {
        let hasher = KeyHasher(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
        #expect(hasher.hash([]) == KeyHash(high: 0xe6a8_25ba_047f_81a3, low: 0x9302_55c7_1472_f66d))
        #expect(hasher.hash([0]) == KeyHash(high: 0x44af_996b_d8c1_87da, low: 0x45fc_229b_1159_7634))
    }
}
