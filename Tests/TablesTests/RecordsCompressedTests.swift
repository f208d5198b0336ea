// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import KafkaCodec
import MartletCore
import Tables
import Testing

/// Rows of batches that clients compressed.
@Suite struct RecordsCompressedTests {
    private struct Fixture: Decodable {
        let name: String
        let codec: Int16
        let count: Int
        let batch: Data
    }

    private static func fixtures() throws -> [Fixture] {
        let file = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fixtures/kafka/batches.jsonl")
        return try Data(contentsOf: file).split(separator: UInt8(ascii: "\n"))
            .map { try JSONDecoder().decode(Fixture.self, from: $0) }
    }

    @Test func compressedBatchesGiveTheirRows() throws {
        for fixture in try Self.fixtures() where fixture.name.contains("kafka") || fixture.name.contains("kcat") {
            var bytes = Array(fixture.batch)
            RecordBatchHeader.assign(baseOffset: 100, leaderEpoch: 0, in: &bytes)
            let batch = try RowBatch(columns: [], settings: TablesFixture.settings())
            try batch.append(bytes, from: 0, partition: 3)
            #expect(batch.rowCount == fixture.count && batch.rejectCount == 0, "\(fixture.name)")
            #expect(batch.nextOffset == 100 + Int64(fixture.count))
            let rows = try TablesFixture.rows(
                batch,
                "SELECT count(*) FROM t WHERE text = repeat('some words ', 5) AND _partition = 3 "
                    + "AND len(_headers) = 2 AND _key = ('key ' || n % 3)::BLOB"
            )
            #expect(rows == [[.int(Int64(fixture.count))]], "\(fixture.name)")
        }
    }

    @Test func aRowIsTheSameWithAndWithoutCompression() throws {
        for fixture in try Self.fixtures() {
            let bytes = Array(fixture.batch)
            let plain = try RecordBatches.records(in: bytes)
            let raw = try RowBatch(columns: [], settings: TablesFixture.settings(.raw))
            try raw.append(bytes, from: 7, partition: 0)
            let other = try RowBatch(columns: [], settings: TablesFixture.settings(.raw))
            try other.append(RecordBatchEncoder.encode(plain.map { $0.record() }), from: 7, partition: 0)
            #expect(raw.rowCount == max(0, fixture.count - 7) && raw.rejectCount == 0, "\(fixture.name)")
            #expect(raw.rowCount == other.rowCount && raw.byteCount == other.byteCount, "\(fixture.name)")
            #expect(raw.maxTimestamp == other.maxTimestamp)
            let sums =
                "SELECT md5(string_agg(md5(value::VARCHAR) || _offset || _timestamp, ',' ORDER BY _offset)) FROM t"
            #expect(
                try TablesFixture.rows(raw, sums, format: .raw) == TablesFixture.rows(other, sums, format: .raw),
                "\(fixture.name)"
            )
        }
    }

    @Test func aBatchThatIsTakenInPartsIsDecompressedOnce() throws {
        for fixture in try Self.fixtures() where fixture.count == 300 && fixture.name.contains("kafka") {
            var bytes = Array(fixture.batch)
            let decompression = Decompression()
            let settings = TablesFixture.settings()
            let first = try RowBatch(columns: [], settings: settings)
            let stop = try first.append(bytes, partition: 0, memoryMax: 1, decompression: decompression)
            let next = try #require(stop, "\(fixture.name)")
            // Nothing of what was sent is looked at again.
            for index in RecordBatchHeader.byteCount..<bytes.count { bytes[index] = 0xFF }
            let rest = try RowBatch(columns: first.columns, settings: settings)
            let end = try rest.append(
                bytes,
                from: next,
                partition: 0,
                verifiesChecksums: false,
                decompression: decompression
            )
            #expect(end == nil && rest.rejectCount == 0, "\(fixture.name)")
            #expect(first.rowCount > 0 && first.rowCount + rest.rowCount == 300, "\(fixture.name)")
            // It is gone once it was taken whole.
            let again = try RowBatch(columns: [], settings: settings)
            try again.append(bytes, partition: 0, verifiesChecksums: false, decompression: decompression)
            #expect(again.rowCount == 0 && again.rejectCount == 1, "\(fixture.name)")
        }
    }

    @Test func whatCannotBeDecompressedIsOneRejectAndHarmsNothingElse() throws {
        for fixture in try Self.fixtures() where fixture.count == 300 {
            let whole = Array(fixture.batch)
            var cut = Array(whole.dropLast(whole.count / 3))
            BigEndian.store(Int32(cut.count - 12), to: &cut, at: 8)
            BigEndian.store(CRC32C.checksum(cut, in: 21..<cut.count), to: &cut, at: 17)
            var after = whole
            RecordBatchHeader.assign(baseOffset: 300, leaderEpoch: 0, in: &after)
            let batch = try RowBatch(columns: [], settings: TablesFixture.settings(.raw))
            try batch.append(cut + after, partition: 0)
            #expect(batch.rejectCount == 1 && batch.rowCount == 300 && batch.nextOffset == 600, "\(fixture.name)")
            let reason = "records 0 to 299 are lost to the table: they cannot be decompressed"
            let query = "SELECT count(*) FROM rejects WHERE starts_with(reason, '\(reason)')"
            #expect(try TablesFixture.rows(batch, query, format: .raw) == [[.int(1)]], "\(fixture.name)")
        }
    }

    @Test func offsetsThatGoBackEndABatch() throws {
        let record: [UInt8] = [16, 0, 0, 0, 1, 4, 0x7B, 0x7D, 0]
        let records = record + record
        // As Snappy writes what it cannot make shorter: the length, then one literal.
        let block = [UInt8(records.count), UInt8((records.count - 1) << 2)] + records
        var bytes = Array(TablesFixture.batch([nil, nil])[..<61]) + block
        BigEndian.store(Int32(bytes.count - 12), to: &bytes, at: 8)
        BigEndian.store(CompressionCodec.snappy.rawValue, to: &bytes, at: 21)
        BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
        let batch = try RowBatch(columns: [], settings: TablesFixture.settings())
        try batch.append(bytes, partition: 0)
        #expect(batch.rowCount == 1 && batch.rejectCount == 1 && batch.nextOffset == 2)
        #expect(
            try TablesFixture.reasons(batch)
                == ["records 1 to 1 are lost to the table: the record at offset 1 cannot be read"]
        )
    }
}
