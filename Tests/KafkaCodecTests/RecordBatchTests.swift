// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec
import Testing

@Suite struct RecordBatchTests {
    static let records = [
        Record(timestamp: 1000, key: Array("key".utf8), value: Array("value".utf8)),
        Record(timestamp: 900, key: nil, value: nil),
        Record(
            timestamp: 1_700_000_000_000,
            key: [],
            value: [UInt8](repeating: 7, count: 300),
            headers: [
                RecordHeader(key: "ce_id", string: "1"), RecordHeader(key: "none", value: nil),
                RecordHeader(key: "ce_id", string: "2"),
            ]
        ),
    ]

    @Test func roundTripsEveryField() throws {
        let bytes = RecordBatchEncoder.encode(Self.records, producerID: 5, producerEpoch: 6, baseSequence: 7)
        let header = try RecordBatchHeader(parsing: bytes)
        #expect(header.recordCount == 3)
        #expect(header.lastOffsetDelta == 2)
        #expect(header.baseTimestamp == 1000)
        #expect(header.maxTimestamp == 1_700_000_000_000)
        #expect((header.producerID, header.producerEpoch, header.baseSequence) == (5, 6, 7))
        #expect(header.batchByteCount == bytes.count)
        #expect(header.hasValidChecksum(in: bytes))
        let views = try RecordBatches.records(in: bytes)
        #expect(views.map { $0.record() } == Self.records)
        #expect(views.map(\.offset) == [0, 1, 2])
        #expect(views[2].header("ce_id").map(Array.init) == Array("2".utf8))
        #expect(views[2].header("none") == nil)
        #expect(views[2].header("absent") == nil)
    }
}

extension RecordBatchTests {
    /// A batch with the given bytes as records, with the right length and checksum.
    static func forged(_ records: [UInt8], count: Int32 = 1, attributes: Int16 = 0) -> [UInt8] {
        var bytes = Array(RecordBatchEncoder.encode([Record(timestamp: 0, value: nil)])[..<RecordBatchHeader.byteCount])
        bytes += records
        BigEndian.store(Int32(bytes.count - 12), to: &bytes, at: 8)
        BigEndian.store(attributes, to: &bytes, at: 21)
        BigEndian.store(count - 1, to: &bytes, at: 23)
        BigEndian.store(count, to: &bytes, at: 57)
        BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
        return bytes
    }

    static func code(_ body: () throws -> Void) -> RecordBatchError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? RecordBatchError)?.code
        }
    }

    @Test(arguments: [
        // A length, a timestamp delta with more than 64 bits, giant and negative lengths, header counts that cannot
        // fit.
        [UInt8]([0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), [0x80], [2], [12, 0, 0],
        [40, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 1, 0, 0, 0, 0, 0, 0],
        [12, 0, 0, 0, 0xFE, 0xFF, 0xFF], [12, 0, 0, 0, 3, 1, 0], [12, 0, 0, 0, 1, 1, 100], [12, 0, 0, 0, 1, 1, 1],
        [14, 0, 0, 0, 1, 1, 0, 0], [12, 0, 0, 8, 1, 1, 0],
    ])
    func refusesMalformedRecords(records: [UInt8]) {
        let bytes = Self.forged(records)
        #expect(Self.code { _ = try RecordBatches.records(in: bytes) } == .malformedRecord)
        #expect(Self.code { _ = try RecordBatchValidator.validate(bytes) } == .malformedRecord)
    }

    @Test func refusesWrongCounts() {
        let record: [UInt8] = [12, 0, 0, 0, 1, 1, 0]
        #expect(Self.code { _ = try RecordBatchValidator.validate(Self.forged(record)) } == nil)
        #expect(Self.code { _ = try RecordBatchValidator.validate(Self.forged(record + [0])) } == .badCount)
        #expect(Self.code { _ = try RecordBatches.records(in: Self.forged(record + [0])) } == .badCount)
        #expect(Self.code { _ = try RecordBatches.records(in: Self.forged(record, count: 2)) } == .malformedRecord)
        #expect(Self.code { _ = try RecordBatchValidator.validate(Self.forged([], count: 0)) } == .badCount)
        #expect(
            Self.code { _ = try RecordBatchValidator.validate(Self.forged(record + record, count: 2)) }
                == .malformedRecord
        )
    }

    @Test func refusesOtherVersionsAndLengths() {
        let good = RecordBatchEncoder.encode(Self.records)
        var bytes = good
        bytes[16] = 1
        #expect(Self.code { _ = try RecordBatchValidator.validate(bytes) } == .unsupportedMagic)
        for (length, code) in [
            (Int32.max, RecordBatchError.Code.truncated), (48, .badLength), (-1, .badLength), (60, .badLength),
        ] {
            bytes = good
            BigEndian.store(length, to: &bytes, at: 8)
            #expect(Self.code { _ = try RecordBatchValidator.validate(bytes) } == code, "length \(length)")
        }
        #expect(Self.code { _ = try RecordBatchValidator.validate([]) } == .truncated)
        #expect(Self.code { _ = try RecordBatchHeader(parsing: good, at: -1) } == .truncated)
        bytes = good
        bytes[30] ^= 1
        #expect(Self.code { _ = try RecordBatchValidator.validate(bytes) } == .checksumMismatch)
    }

    @Test(arguments: [Int16(1), 2, 3, 4, 5, 7]) func namesCompressionItCannotDecode(codec: Int16) throws {
        var compressed = Self.forged([1, 2, 3], count: 4, attributes: codec)
        RecordBatchHeader.assign(baseOffset: 10, leaderEpoch: 0, in: &compressed)
        var after = RecordBatchEncoder.encode([Record(timestamp: 0, value: [9])])
        RecordBatchHeader.assign(baseOffset: 14, leaderEpoch: 0, in: &after)
        var walk = RecordBatches(compressed + after)
        do {
            _ = try walk.nextRecord()
            Issue.record("no error")
        } catch {
            #expect(error.code == (codec < 5 ? .damagedCompression : .unsupportedCompression))
            #expect(error.nextOffset == 14)
        }
        #expect(try walk.nextRecord()?.offset == 14)
        // The log stores what it cannot decode, provided that the codec exists.
        #expect(
            Self.code { _ = try RecordBatchValidator.validate(compressed) }
                == (codec < 5 ? nil : .unsupportedCompression)
        )
    }

    @Test func stepsOverControlBatchesAndStopsAtACutOne() throws {
        let control = RecordBatchEncoder.encode([Record(timestamp: 0, key: [0, 0, 0, 1], value: [])], isControl: true)
        let data = RecordBatchEncoder.encode([Record(timestamp: 5, value: [1])])
        let cut = Array(data.dropLast())
        let records = try RecordBatches.records(in: control + data + cut)
        #expect(records.map { $0.value.map(Array.init) } == [[1]])
    }

    @Test func computesChecksumsAsOthersDo() {
        // The check value of CRC-32C, and RFC 3720 B.4 (32 bytes of zeros).
        #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xE306_9283)
        #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        for length in 0..<100 {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37) }
            #expect(CRC32C.checksum(bytes) == CRC32C.portableChecksum(bytes))
        }
    }

    @Test func hashesKeysAsKafkaDoes() {
        // The cases of Apache Kafka's UtilsTest.testMurmur2.
        let cases: [(String, Int32)] = [
            ("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ]
        for (key, hash) in cases { #expect(Int32(bitPattern: Partitioner.murmur2(Array(key.utf8))) == hash) }
        #expect((0..<100).allSatisfy { (0..<7).contains(Partitioner.partition(forKey: [UInt8($0)], of: 7)) })
    }
}
