// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import KafkaCodec
import Testing

/// A generator whose numbers follow from its seed, so that a failing run can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    /// Takes the seed from `MARTLET_TEST_SEED`, or a random one, and prints it.
    init(test: String) {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        state = given ?? UInt64.random(in: 0...UInt64.max)
        print("\(test): MARTLET_TEST_SEED=\(state)")
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct FuzzTests {
    /// Walks everything there is; returns normally or with a typed error, or the process traps.
    static func exhaust(_ bytes: [UInt8], verifiesChecksums: Bool) {
        var walk = RecordBatches(bytes, verifiesChecksums: verifiesChecksums)
        var errors = 0
        while errors < 100 {
            do {
                guard let record = try walk.nextRecord() else { break }
                _ = (record.key?.count, record.value?.count, record.header("a"), record.headers.map(\.value))
            } catch {
                errors += 1
            }
        }
        #expect(errors < 100, "the walk does not advance behind errors")
        _ = try? RecordBatchValidator.validate(bytes)
        _ = try? RecordBatchHeader(parsing: bytes, at: bytes.count / 2)
    }

    static func randomRecords(_ generator: inout SeededGenerator) -> [Record] {
        (0..<Int.random(in: 1...6, using: &generator)).map { _ in
            Record(
                timestamp: Bool.random(using: &generator)
                    ? Int64.random(in: .min ... .max, using: &generator)
                    : Int64.random(in: 0...2_000_000_000_000, using: &generator),
                key: Bool.random(using: &generator) ? nil : generator.bytes(Int.random(in: 0...20, using: &generator)),
                value: Int.random(in: 0...5, using: &generator) == 0
                    ? nil : generator.bytes(Int.random(in: 0...200, using: &generator)),
                headers: (0..<Int.random(in: 0...3, using: &generator)).map { number in
                    RecordHeader(key: "h\(number)", value: number == 1 ? nil : generator.bytes(number * 40))
                }
            )
        }
    }

    @Test func roundTripsRandomRecords() throws {
        var generator = SeededGenerator(test: "roundTripsRandomRecords")
        for _ in 0..<500 {
            let records = Self.randomRecords(&generator)
            var bytes = RecordBatchEncoder.encode(records)
            let base = Int64.random(in: 0...1 << 50, using: &generator)
            RecordBatchHeader.assign(baseOffset: base, leaderEpoch: 3, in: &bytes)
            let header = try RecordBatchValidator.validate(bytes)
            #expect(header.maxTimestamp == records.map(\.timestamp).max())
            let views = try RecordBatches.records(in: bytes)
            #expect(views.map { $0.record() } == records)
            #expect(views.map(\.offset) == (0..<Int64(records.count)).map { base + $0 })
            #expect(records.reduce(RecordBatchHeader.byteCount) { $0 + $1.encodedBytesMax } >= bytes.count)
        }
    }

    @Test func neverTrapsOnRandomBytes() {
        var generator = SeededGenerator(test: "neverTrapsOnRandomBytes")
        for _ in 0..<3000 {
            var bytes = generator.bytes(Int.random(in: 0...200, using: &generator))
            // Half of them get past the first checks.
            if bytes.count > 61, Bool.random(using: &generator) {
                bytes[16] = 2
                BigEndian.store(Int32(bytes.count - 12), to: &bytes, at: 8)
                for position in [0, 22, 23, 24, 57, 58] { bytes[position] = 0 }
            }
            Self.exhaust(bytes, verifiesChecksums: false)
            Self.exhaust(bytes, verifiesChecksums: true)
        }
    }

    @Test func neverTrapsOnFlippedBits() throws {
        var generator = SeededGenerator(test: "neverTrapsOnFlippedBits")
        for _ in 0..<300 {
            let whole = RecordBatchEncoder.encode(Self.randomRecords(&generator))
            for _ in 0..<10 {
                var bytes = whole + whole
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^=
                        1 << UInt8.random(in: 0...7, using: &generator)
                }
                Self.exhaust(bytes, verifiesChecksums: false)
                Self.exhaust(
                    Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator))),
                    verifiesChecksums: false
                )
            }
        }
    }

    @Test func everyFlippedBitBehindTheChecksumIsNoticed() throws {
        let whole = RecordBatchEncoder.encode(RecordBatchTests.records)
        for position in RecordBatchHeader.checksummedFrom..<whole.count {
            for bit in 0..<8 {
                var bytes = whole
                bytes[position] ^= 1 << UInt8(bit)
                #expect(throws: RecordBatchError.self) { try RecordBatchValidator.validate(bytes) }
            }
        }
    }
}
