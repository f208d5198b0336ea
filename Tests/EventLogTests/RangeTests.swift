// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Glibc
import KafkaCodec
import Testing

extension RecordRange {
    var isFile: Bool {
        if case .file = content { true } else { false }
    }

    func bytes() throws -> [UInt8] {
        switch content {
        case .bytes(let bytes): bytes
        case .file(let range): try range.read()
        }
    }
}

@Suite(.timeLimit(.minutes(3)))
struct RangeTests {
    private static let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 20_000)

    private static func fill(_ log: LocalLog, seed: UInt64) async throws {
        var generator = SeededGenerator(seed: seed)
        try await log.createTopic("t", partitions: 1, settings: settings)
        for number in 0..<200 {
            let count = Int.random(in: 1...4, using: &generator)
            let size = Int.random(in: 0...800, using: &generator)
            let values = (0..<count).map { "\(number)/\($0)" + String(repeating: "x", count: size) }
            _ = try await log.append(batch(values), to: p0)
        }
    }

    /// Whoever sends a range must not wait for the disk, so it is in the page cache by then.
    @Test func whatIsOnDiskOnlyIsReadBeforeItIsGivenOut() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory, settings: LocalLogSettings(recentBytesMax: 0)) { log async throws in
            var settings = TopicSettings()
            settings.messageBytesMax = 4 << 20
            try await log.createTopic("t", partitions: 1, settings: settings)
            for _ in 0..<12 { _ = try await log.append(batch([String(repeating: "x", count: 1 << 20)]), to: p0) }
            func range() async throws -> FileRange {
                let found = try await log.readRange(p0, from: 0, bytesMax: 64 << 20, isolation: .committed)
                guard case .file(let range) = found.content else { throw EventLogError(.inputOutput, "no file") }
                return range
            }
            // Whatever else the machine did meanwhile, the cache has it now.
            _ = try directory.read("log/topics/t/0/00000000000000000000.log")
            let warm = try await range()
            #expect(warm.byteCount > 12 << 20)
            posix_fadvise(warm.descriptor, 0, 0, POSIX_FADV_DONTNEED)
            // Some file systems keep what they are told to drop.
            guard !Self.isCached(warm) else { return }
            let cold = try await range()
            #expect(Self.isCached(cold))
            #expect(cold.byteCount < 8 << 20)
        }
    }

    private static func isCached(_ range: FileRange) -> Bool {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let start = Int(range.position) / page * page
        let count = Int(range.position) + range.byteCount - start
        guard let view = mmap(nil, count, PROT_READ, MAP_SHARED, range.descriptor, off_t(start)), view != MAP_FAILED
        else { return false }
        defer { munmap(view, count) }
        var pages = [UInt8](repeating: 0, count: (count + page - 1) / page)
        return mincore(view, count, &pages) == 0 && pages.allSatisfy { $0 & 1 == 1 }
    }

    /// Where the answer may have no memory, records that memory has come from the file.
    @Test func whatMemoryHasComesFromTheFileWhereThereIsNoRoomForIt() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            for number in 0..<3 { _ = try await log.append(batch(["\(number)"]), to: p0) }
            let memory = try await log.readRange(p0, from: 0, bytesMax: 10_000, isolation: .committed)
            #expect(!memory.isFile)
            let file = try await log.readRange(
                p0,
                from: 0,
                bytesMax: 10_000,
                isolation: .committed,
                memoryBytesMax: 10
            )
            #expect(file.isFile)
            #expect(try file.bytes() == memory.bytes())
            #expect(file.nextOffset == memory.nextOffset)
        }
    }

    /// Every range is what a read gives, or more where a read stops at the end of its window.
    @Test func givesTheBytesAReadGives() async throws {
        var generator = SeededGenerator.announced("givesTheBytesAReadGives")
        let directory = try TemporaryDirectory()
        try await withLog(directory, settings: LocalLogSettings(recentBytesMax: 0)) { log async throws in
            try await Self.fill(log, seed: generator.next())
            let end = try log.bounds(p0).end
            for _ in 0..<400 {
                let offset = Int64.random(in: 0..<end, using: &generator)
                let bytesMax = Int.random(in: 1...30_000, using: &generator)
                let range = try await log.readRange(p0, from: offset, bytesMax: bytesMax, isolation: .committed)
                #expect(range.isFile)
                let bytes = try range.bytes()
                #expect(bytes.count == range.byteCount)
                let read = try await log.read(p0, from: offset, bytesMax: bytesMax)
                #expect(bytes == read.bytes)
                #expect(range.nextOffset == read.nextOffset)
            }
            let nothing = try await log.readRange(p0, from: end, bytesMax: 1000, isolation: .committed)
            #expect(nothing.byteCount == 0 && nothing.nextOffset == end && nothing.highWatermark == end)
            #expect(
                await errorCode {
                    _ = try await log.readRange(p0, from: end + 1, bytesMax: 1, isolation: .committed)
                } == .offsetOutOfRange
            )
        }
    }

    @Test func givesWhatIsInMemoryAsBytes() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            _ = try await log.append(batch(["a"]), to: p0)
            let range = try await log.readRange(p0, from: 0, bytesMax: 1000, isolation: .committed)
            #expect(!range.isFile)
            #expect(try RecordBatches.records(in: range.bytes()).map(\.text) == ["a"])
        }
    }

    @Test func keepsARangeReadableWhenItsSegmentIsDeleted() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory, settings: LocalLogSettings(recentBytesMax: 0)) { log async throws in
            try await Self.fill(log, seed: 1)
            let range = try await log.readRange(p0, from: 0, bytesMax: 10_000, isolation: .committed)
            let before = try range.bytes()
            _ = try await log.deleteRecords(p0, before: -1)
            await log.maintain()
            #expect(try range.bytes() == before)
        }
    }

    @Test func endsInFrontOfOpenTransactionsAndNamesAbortedOnes() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory, settings: LocalLogSettings(recentBytesMax: 0)) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings)
            _ = try await log.append(batch(["a"], producer: 1, sequence: 0, isTransactional: true), to: p0)
            _ = try await log.writeMarker(p0, producerID: 1, epoch: 0, coordinatorEpoch: 0, commit: false)
            for _ in 0..<20 { _ = try await log.append(batch([String(repeating: "x", count: 700)]), to: p0) }
            _ = try await log.append(batch(["b"], producer: 1, sequence: 1, isTransactional: true), to: p0)
            _ = try await log.append(batch(["c"]), to: p0)
            let range = try await log.readRange(p0, from: 0, bytesMax: 1 << 20, isolation: .committed)
            #expect(range.isFile && range.nextOffset == 22 && range.lastStableOffset == 22)
            #expect(range.abortedTransactions == [AbortedTransaction(producerID: 1, firstOffset: 0)])
            let all = try await log.readRange(p0, from: 0, bytesMax: 1 << 20, isolation: .uncommitted)
            #expect(all.nextOffset == 24 && all.abortedTransactions == [])
        }
    }

    @Test func givesOutNothingThatIsDamaged() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in try await Self.fill(log, seed: 2) }
        let first = "log/topics/t/0/00000000000000000000.log"
        var bytes = try directory.read(first)
        bytes[9000] ^= 1
        try directory.write(bytes, to: first)
        try await withLog(directory) { log async throws in
            let range = try await log.readRange(p0, from: 0, bytesMax: 15_000, isolation: .committed)
            #expect(range.isFile && range.byteCount < 9000, "a range ends in front of a damaged batch")
            #expect(
                await errorCode {
                    _ = try await log.readRange(p0, from: range.nextOffset, bytesMax: 15_000, isolation: .committed)
                } == .damaged
            )
            let report = try #require(log.damage().first, "what was found by reading is reported")
            #expect(report.bytes.contains(9000))
            let behind = try await log.readRange(
                p0,
                from: report.offsets.upperBound,
                bytesMax: 15_000,
                isolation: .committed
            )
            #expect(behind.isFile && behind.byteCount > 0)
        }
    }

    @Test func verifiesBytesOnce() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in try await Self.fill(log, seed: 2) }
        try await withLog(directory) { log async throws in
            let first = try await log.readRange(p0, from: 0, bytesMax: 15_000, isolation: .committed)
            // Changed behind the log's back: seen where it looks, not where it has looked.
            let path = "log/topics/t/0/00000000000000000000.log"
            var bytes = try directory.read(path)
            bytes[first.byteCount - 10] ^= 1
            bytes[first.byteCount + 100] ^= 1
            try directory.write(bytes, to: path)
            let again = try await log.readRange(p0, from: 0, bytesMax: 15_000, isolation: .committed)
            #expect(again.byteCount == first.byteCount)
            let further = try await log.readRange(p0, from: 0, bytesMax: first.byteCount + 5000, isolation: .committed)
            #expect(further.byteCount < first.byteCount)
        }
    }
}
