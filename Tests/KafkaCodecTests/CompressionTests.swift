// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import Testing

/// A compressed batch of Tests/Fixtures/kafka/batches.jsonl, whose maker is beside it.
struct CompressedBatch: Decodable, CustomTestStringConvertible {
    let name: String
    let codec: Int16
    let count: Int
    let bytes: Int
    let crc32: UInt32
    let batch: Data

    var testDescription: String { name }

    static let all: [CompressedBatch] = {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../Fixtures/kafka/batches.jsonl"
        )
        let lines = (try? Data(contentsOf: file))?.split(separator: UInt8(ascii: "\n")) ?? []
        return lines.compactMap { try? JSONDecoder().decode(CompressedBatch.self, from: $0) }
    }()

    /// A few of each codec, the small ones.
    static let small = all.filter { $0.batch.count < 2000 }
}

@Suite(.timeLimit(.minutes(5)))
struct CompressionTests {
    /// CRC-32 of zlib and Python, bit by bit.
    private static func crc32(_ bytes: [UInt8]) -> UInt32 {
        var sum: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            sum ^= UInt32(byte)
            for _ in 0..<8 { sum = sum & 1 == 1 ? (sum >> 1) ^ 0xEDB8_8320 : sum >> 1 }
        }
        return ~sum
    }

    private static func batch(_ bytes: [UInt8]) throws -> RecordBatch {
        var walk = RecordBatches(bytes, verifiesChecksums: false)
        return try #require(try walk.nextBatch())
    }

    private static func records(_ start: UnsafePointer<UInt8>, _ header: RecordBatchHeader) -> [UInt8] {
        let count = header.batchByteCount - RecordBatchHeader.byteCount
        return Array(UnsafeBufferPointer(start: start + RecordBatchHeader.byteCount, count: count))
    }

    /// The batch with other bytes in place of its records, with the right length and checksum.
    static func replacing(_ records: [UInt8], in original: [UInt8], codec: CompressionCodec? = nil) -> [UInt8] {
        var bytes = Array(original[..<RecordBatchHeader.byteCount]) + records
        if let codec { BigEndian.store(codec.rawValue, to: &bytes, at: 21) }
        BigEndian.store(Int32(bytes.count - 12), to: &bytes, at: 8)
        BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
        return bytes
    }

    @Test func theFixtureHasEveryClientAndCodec() {
        let names = Set(CompressedBatch.all.map(\.name))
        for client in ["kafka-python", "confluent-kafka", "aiokafka", "kcat"] {
            for codec in ["gzip", "snappy", "zstd"] { #expect(names.contains("\(client)-\(codec)")) }
        }
        for client in ["kafka-python", "aiokafka"] { #expect(names.contains("\(client)-lz4")) }
        #expect(names.count >= 33)
    }

    @Test(arguments: CompressedBatch.all) func decompressesWhatClientsSend(one: CompressedBatch) throws {
        let bytes = Array(one.batch)
        #expect(try RecordBatchValidator.validate(bytes).codec?.rawValue == one.codec)
        let plain = try Self.batch(bytes).plain(in: bytes)
        let found = withExtendedLifetime(plain) {
            #expect(plain.header.codec == CompressionCodec.none)
            #expect((0..<32).allSatisfy { plain.start[plain.byteCount + $0] == 0 })
            return Self.records(plain.start, plain.header)
        }
        #expect(found.count == one.bytes)
        #expect(Self.crc32(found) == one.crc32)
        let views = try RecordBatches.records(in: bytes)
        #expect(views.map(\.offset) == (0..<Int64(one.count)).map { $0 })
        #expect(views.allSatisfy { $0.value != nil })
        // The same records without compression are the same views.
        let same = try RecordBatches.records(in: Self.replacing(found, in: bytes, codec: CompressionCodec.none))
        #expect(views.map { $0.record() } == same.map { $0.record() })
    }

    @Test func recordsOutliveTheWalkAndOtherBatches() throws {
        var all: [UInt8] = []
        var offset: Int64 = 0
        for one in CompressedBatch.all {
            var bytes = Array(one.batch)
            RecordBatchHeader.assign(baseOffset: offset, leaderEpoch: 0, in: &bytes)
            all += bytes
            let plain = RecordBatchEncoder.encode(
                [Record(timestamp: 1, value: [1])],
                baseOffset: offset + Int64(one.count)
            )
            all += plain
            offset += Int64(one.count) + 1
        }
        let views = try RecordBatches.records(in: all)
        #expect(views.map(\.offset) == (0..<offset).map { $0 })
        #expect(try RecordBatches.records(in: all, from: offset - 1).map(\.offset) == [offset - 1])
        #expect(views.last?.value == [1])
    }

    @Test(arguments: CompressedBatch.small) func whatIsNotWholeIsNamed(one: CompressedBatch) throws {
        let whole = Array(one.batch)
        let records = Array(whole[RecordBatchHeader.byteCount...])
        let after = RecordBatchEncoder.encode(
            [Record(timestamp: 0, value: [9])],
            baseOffset: Int64(one.count)
        )
        let cuts = (0..<records.count).map { Array(records[..<$0]) }
        for cut in cuts + [records + [0], records + [1, 2, 3, 4, 5, 6, 7, 8, 9], records + records.dropLast()] {
            let bytes = Self.replacing(cut, in: whole)
            // What the log takes unseen must not hide what follows.
            #expect(throws: Never.self) { try RecordBatchValidator.validate(bytes) }
            var walk = RecordBatches(bytes + after)
            var failure: RecordBatchError?
            var seen: [Int64] = []
            while true {
                do throws(RecordBatchError) {
                    guard let record = try walk.nextRecord() else { break }
                    seen.append(record.offset)
                } catch {
                    #expect(failure == nil)
                    failure = error
                }
            }
            #expect(failure?.nextOffset == Int64(one.count), "\(cut.count) of \(records.count) bytes")
            #expect(seen.last == Int64(one.count))
        }
    }

    @Test(arguments: CompressedBatch.small) func aCodecThatIsAnotherIsNamed(one: CompressedBatch) throws {
        for other in Int16(1)...7 where other != one.codec {
            var bytes = Array(one.batch)
            BigEndian.store(other, to: &bytes, at: 21)
            BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
            do {
                _ = try RecordBatches.records(in: bytes)
                Issue.record("no error for \(other)")
            } catch {
                // A raw block of Snappy is not told from anything else by how it begins.
                let codes: [RecordBatchError.Code] =
                    other < 5 ? [.damagedCompression, .decompressedTooLarge] : [.unsupportedCompression]
                #expect(codes.contains(error.code), "\(other): \(error)")
            }
        }
    }
}

// What lies about itself.
extension CompressionTests {
    private static func compressed(_ name: String) throws -> [UInt8] {
        Array(try #require(CompressedBatch.all.first { $0.name == name }).batch)
    }

    /// A batch around 1,000,000,000 bytes or so: deflate, LZ4 and zstd have ways to say "the same again" often.
    private static func bomb(_ codec: CompressionCodec) throws -> [UInt8] {
        let original = try compressed("zstd-sized")
        var bytes: [UInt8] = []
        switch codec {
        case .zstd:
            // Frames without a size, of blocks that repeat one byte 128 KiB times; RFC 8878.
            bytes = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58]
            for _ in 0..<8000 { bytes += [0x02, 0x00, 0x10, 0x41] }
            bytes += [0x03, 0x00, 0x10, 0x41]
        case .snappy:
            // Says it holds 4 GiB - 1.
            bytes = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00, 0x41]
        default: break
        }
        return replacing(bytes, in: original, codec: codec)
    }

    @Test(arguments: [CompressionCodec.zstd, .snappy]) func whatBecomesTooLargeIsNamed(codec: CompressionCodec) throws {
        let bytes = try Self.bomb(codec)
        do {
            _ = try RecordBatches.records(in: bytes)
            Issue.record("no error")
        } catch {
            #expect(error.code == .decompressedTooLarge)
            #expect(error.message.contains("64 MiB"))
            #expect(error.nextOffset == 300)
        }
    }

    /// Kafka's clients would read it, and the engine's own readers would not.
    @Test func whatTellsThatItBecomesTooLargeIsNotTaken() throws {
        let original = try Self.compressed("zstd-sized")
        func validate(_ records: [UInt8], _ codec: CompressionCodec) throws {
            _ = try RecordBatchValidator.validate(Self.replacing(records, in: original, codec: codec))
        }
        func zstd(_ blocks: Int) -> [UInt8] {
            var bytes: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58]
            for _ in 1..<blocks { bytes += [0x02, 0x00, 0x10, 0x41] }
            return bytes + [0x03, 0x00, 0x10, 0x41]
        }
        let error = #expect(throws: RecordBatchError.self) {
            _ = try RecordBatchValidator.validate(Self.bomb(.zstd))
        }
        #expect(error?.code == .decompressedTooLarge)
        #expect(throws: RecordBatchError.self) { try validate(zstd(513), .zstd) }
        try validate(zstd(512), .zstd)
        // What is no stream at all has always been taken: nobody can read it.
        try validate([UInt8](repeating: 0xFF, count: 500), .gzip)
        for one in CompressedBatch.all { _ = try RecordBatchValidator.validate(Array(one.batch)) }
    }

    @Test func largeBatchesMayBecomeLarger() {
        #expect(RecordBatch.decompressedBytesMax(of: 100) == 64 << 20)
        #expect(RecordBatch.decompressedBytesMax(of: 20 << 20) == 160 << 20)
        #expect(RecordBatch.decompressedBytesMax(of: 256 << 20) == 1 << 30)
    }

    @Test func whoKeepsRecordsGetsNoMoreThanItWants() throws {
        let one = try Self.compressed("zstd-sized")
        var all: [UInt8] = []
        for number in 0..<5 {
            var bytes = one
            RecordBatchHeader.assign(baseOffset: Int64(number) * 300, leaderEpoch: 0, in: &bytes)
            all += bytes
        }
        let size = try #require(CompressedBatch.all.first { $0.name == "zstd-sized" }).bytes
        for (most, batches) in [(1, 1), (size, 1), (size + 1, 2), (size * 4, 4), (size * 5, 5), (.max, 5)] {
            var walk = RecordBatches(all, decompressedBytesMax: most)
            var count = 0
            while try walk.nextRecord() != nil { count += 1 }
            #expect(count == batches * 300, "\(most)")
            #expect(walk.pausedAt == (batches == 5 ? nil : Int64(count)))
            #expect(try walk.nextRecord() == nil)
        }
    }

    /// What a header says of a compressed batch decides how many offsets it gets, so it must be possible.
    @Test(arguments: CompressedBatch.small) func countsThatCannotBeAreRefused(one: CompressedBatch) throws {
        func counting(_ count: Int32) -> [UInt8] {
            var bytes = Array(one.batch)
            BigEndian.store(count - 1, to: &bytes, at: 23)
            BigEndian.store(count, to: &bytes, at: 57)
            BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
            return bytes
        }
        for count in [0, -1, .max, Int32(64 << 20 / 7) + 1] {
            let error = #expect(throws: RecordBatchError.self) { try RecordBatchValidator.validate(counting(count)) }
            #expect(error?.code == .badCount)
        }
        #expect(try RecordBatchValidator.validate(counting(64 << 20 / 7)).recordCount == 64 << 20 / 7)
        // Readers hear of it, with the place to go on at, and keep what was there.
        var walk = RecordBatches(counting(1 << 20))
        var found = 0
        let error = #expect(throws: RecordBatchError.self) { while try walk.nextRecord() != nil { found += 1 } }
        #expect(error?.nextOffset == 1 << 20)
        #expect(found > 0)
    }

    @Test func countsThatLieAreNoticed() throws {
        let one = try Self.compressed("lz4-independent-64k")
        func counted(_ count: Int32) -> [UInt8] {
            var bytes = one
            BigEndian.store(count - 1, to: &bytes, at: 23)
            BigEndian.store(count, to: &bytes, at: 57)
            BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
            return bytes
        }
        #expect(RecordBatchTests.code { _ = try RecordBatches.records(in: counted(301)) } == .malformedRecord)
        #expect(RecordBatchTests.code { _ = try RecordBatches.records(in: counted(299)) } == .badCount)
        #expect(RecordBatchTests.code { _ = try RecordBatches.records(in: counted(300)) } == nil)
        // The same offset twice: nobody has looked into the batch when it was taken.
        let record: [UInt8] = [12, 0, 0, 0, 1, 1, 0]
        let twice: [UInt8] = [14, 52] + record + record
        let bytes = RecordBatchTests.forged(twice, count: 2, attributes: CompressionCodec.snappy.rawValue)
        #expect(RecordBatchTests.code { _ = try RecordBatches.records(in: bytes) } == .malformedRecord)
    }

    @Test func neverTrapsOnDamagedStreams() throws {
        var generator = SeededGenerator(test: "neverTrapsOnDamagedStreams")
        let all = CompressedBatch.all
        for _ in 0..<3000 {
            let whole = Array(all[Int.random(in: 0..<all.count, using: &generator)].batch)
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                // Mostly near the front, where formats say what follows.
                let most = Bool.random(using: &generator) ? min(100, bytes.count - 61) : bytes.count - 61
                let position = 61 + Int.random(in: 0..<most, using: &generator)
                bytes[position] = UInt8.random(in: 0...255, using: &generator)
            }
            let kept =
                Bool.random(using: &generator) ? bytes.count : Int.random(in: 61...bytes.count, using: &generator)
            FuzzTests.exhaust(Self.replacing(Array(bytes[61..<kept]), in: bytes), verifiesChecksums: true)
        }
        for _ in 0..<3000 {
            let random = generator.bytes(Int.random(in: 0...300, using: &generator))
            let starts: [[UInt8]] = [
                [], [0x1F, 0x8B, 8, 0], [0x28, 0xB5, 0x2F, 0xFD], [0x04, 0x22, 0x4D, 0x18],
                Array("\u{82}SNAPPY\0".unicodeScalars.map { UInt8($0.value) }),
            ]
            let start = starts[Int.random(in: 0..<starts.count, using: &generator)]
            let codec = Int16.random(in: 1...4, using: &generator)
            let bytes = RecordBatchTests.forged(start + random, count: 3, attributes: codec)
            FuzzTests.exhaust(bytes, verifiesChecksums: true)
        }
    }

    @Test func decompressesOnManyThreadsAtOnce() async throws {
        let all = CompressedBatch.all
        let sums = await withTaskGroup(of: Int.self) { group in
            for worker in 0..<8 {
                group.addTask { @concurrent in
                    (0..<20).reduce(0) { sum, round in
                        let one = all[(worker * 7 + round) % all.count]
                        let records = (try? RecordBatches.records(in: Array(one.batch))) ?? []
                        return sum + (records.count == one.count ? 1 : 0)
                    }
                }
            }
            return await group.reduce(into: 0) { $0 += $1 }
        }
        #expect(sums == 160)
    }
}
