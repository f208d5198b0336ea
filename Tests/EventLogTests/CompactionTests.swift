// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import KafkaCodec
import Testing

/// What a partition should hold: every committed record by offset.
private struct Model {
    struct Entry: Equatable {
        let key: String
        let value: String?
    }

    var entries: [Int64: Entry] = [:]

    mutating func add(_ records: [Record], at base: Int64) {
        for (index, record) in records.enumerated() {
            entries[base + Int64(index)] = Entry(
                key: String(decoding: record.key ?? [], as: UTF8.self),
                value: record.value.map { String(decoding: $0, as: UTF8.self) }
            )
        }
    }

    /// The offset of the last record of each key.
    var latest: [String: Int64] {
        entries.reduce(into: [:]) { latest, entry in
            latest[entry.value.key] = max(latest[entry.value.key] ?? -1, entry.key)
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct CompactionTests {
    private static func settings(
        segmentBytes: Int64 = 2048,
        retention: Int64? = nil,
        _ compaction: TopicSettings.Compaction = .init(dirtyRatio: 0)
    ) -> TopicSettings {
        TopicSettings(retentionMilliseconds: retention, segmentBytes: segmentBytes, compaction: compaction)
    }

    private static func keyed(_ key: String, _ value: String?, at timestamp: Int64 = 1000) -> Record {
        Record(timestamp: timestamp, key: Array(key.utf8), value: value.map { Array($0.utf8) })
    }

    private static func put(_ log: LocalLog, _ key: String, _ value: String?, at timestamp: Int64 = 1000) async throws {
        _ = try await log.append(RecordBatchEncoder.encode([keyed(key, value, at: timestamp)]), to: p0)
    }

    /// Fills segments so that what stands in front of them is closed.
    private static func fill(_ log: LocalLog, key: String = "filler", bytes: Int = 4096) async throws {
        let padding = String(repeating: "x", count: 500)
        for number in 0..<bytes / 500 { try await put(log, key, "\(number)" + padding) }
    }

    private func texts(_ log: LocalLog, without filler: String = "filler") async throws -> [String] {
        try await readAll(log, p0, from: try log.bounds(p0).start).compactMap { record in
            let key = String(decoding: record.key ?? [], as: UTF8.self)
            return key == filler ? nil : "\(record.offset) \(key)=\(record.text)"
        }
    }

    @Test func keepsTheLastRecordOfEachKeyAndTheOffsets() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings())
            for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", nil), ("a", "3")] {
                try await Self.put(log, key, value)
            }
            try await Self.fill(log)
            let before = try log.bounds(p0)
            await log.compact()
            #expect(try log.bounds(p0) == before)
            #expect(try await texts(log) == ["3 c=1", "4 b=null", "5 a=3"])
            #expect(log.compactions.bytesAfter < log.compactions.bytesBefore)
            // Any offset can be asked for, also one that is gone.
            for offset in before.start..<before.end {
                let found = try await log.read(p0, from: offset, bytesMax: 1)
                #expect(found.nextOffset > offset)
                let range = try await log.readRange(p0, from: offset, bytesMax: 1 << 20, isolation: .committed)
                #expect(range.nextOffset > offset && range.byteCount > 0)
            }
            #expect(try await log.verify() == [])
        }
        try await withLog(directory) { log async throws in
            #expect(try await texts(log) == ["3 c=1", "4 b=null", "5 a=3"])
            #expect(log.damage() == [])
            let size = try #require(log.sizes()[p0])
            await log.compact()
            #expect(log.sizes()[p0] == size, "what is compacted is not written again")
        }
        #expect(try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".tmp") } == [])
    }

    @Test func removesTombstonesWhenTheirTimeIsUp() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let compaction = TopicSettings.Compaction(dirtyRatio: 0, deleteRetentionMilliseconds: 60_000)
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(compaction))
            try await Self.put(log, "a", "1", at: disk.now)
            try await Self.put(log, "a", nil, at: disk.now)
            try await Self.fill(log)
            await log.compact()
            #expect(try await texts(log) == ["1 a=null"])
            disk.advance(by: 59_000)
            await log.compact()
            #expect(try await texts(log) == ["1 a=null"])
        }
        disk.advance(by: 2000)
        // The time counts from the first round, over a restart too.
        try await withLog(directory, settings: disk.settings) { log async throws in
            await log.compact()
            #expect(try await texts(log) == [])
            #expect(try log.bounds(p0).start == 0)
            #expect(try await log.verify() == [])
        }
    }

    @Test func dropsAbortedRecordsAndLaterTheMarkers() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let compaction = TopicSettings.Compaction(dirtyRatio: 0, deleteRetentionMilliseconds: 60_000)
        func transact(_ log: LocalLog, _ key: String, _ value: String, sequence: Int32, commit: Bool) async throws {
            let bytes = RecordBatchEncoder.encode(
                [Self.keyed(key, value)],
                producerID: 7,
                producerEpoch: 0,
                baseSequence: sequence,
                isTransactional: true
            )
            _ = try await log.append(bytes, to: p0)
            _ = try await log.writeMarker(p0, producerID: 7, epoch: 0, coordinatorEpoch: 0, commit: commit)
        }
        func markers(_ log: LocalLog) async throws -> Int {
            var count = 0
            var next: Int64 = 0
            while next < (try log.bounds(p0).end) {
                let found = try await log.read(p0, from: next, bytesMax: 1 << 20, wait: .zero, isolation: .committed)
                var walk = RecordBatches(found.bytes)
                while let batch = try walk.nextBatch() { count += batch.header.isControl ? 1 : 0 }
                next = found.nextOffset
            }
            return count
        }
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(compaction))
            try await transact(log, "a", "good", sequence: 0, commit: true)
            try await transact(log, "a", "bad", sequence: 1, commit: false)
            try await transact(log, "b", "good", sequence: 2, commit: true)
            try await Self.fill(log)
            await log.compact()
            #expect(try await texts(log) == ["0 a=good", "4 b=good"])
            #expect(try await markers(log) == 3)
            let raw = try await log.read(p0, from: 0, bytesMax: 1 << 20, wait: .zero, isolation: .committed)
            #expect(raw.abortedTransactions == [])
            disk.advance(by: 61_000)
            await log.compact()
            #expect(try await markers(log) == 0)
            #expect(try await texts(log) == ["0 a=good", "4 b=good"])
        }
        let names = try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".producers") }
        for name in names { try directory.remove("log/topics/t/0/" + name) }
        // Also without what is known of producers, nothing is open that had ended, and its last batch is known.
        try await withLog(directory, settings: disk.settings) { log async throws in
            let bounds = try log.bounds(p0)
            #expect(bounds.stable == bounds.end)
            #expect(try await texts(log) == ["0 a=good", "4 b=good"])
            try await transact(log, "c", "next", sequence: 3, commit: true)
            #expect(try await texts(log).suffix(1) == ["\(bounds.end) c=next"])
        }
    }

    @Test func waitsForOpenTransactionsAndForYoungRecords() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        let compaction = TopicSettings.Compaction(dirtyRatio: 0, lagMillisecondsMin: 30_000)
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(compaction))
            try await Self.put(log, "a", "1", at: disk.now)
            try await Self.put(log, "a", "2", at: disk.now)
            try await Self.fill(log)
            await log.compact()
            #expect(try await texts(log) == ["0 a=1", "1 a=2"])
            disk.advance(by: 31_000)
            await log.compact()
            #expect(try await texts(log) == ["1 a=2"])
        }
    }

    @Test func refusesRecordsWithoutKeys() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings())
            #expect(await errorCode { _ = try await log.append(batch(["x"]), to: p0) } == .invalidRecord)
            try await Self.put(log, "a", "1")
            #expect(try log.bounds(p0).end == 1)
        }
    }

    @Test func retentionAppliesWhereThePolicySaysSo() async throws {
        let directory = try TemporaryDirectory()
        let disk = CountingDisk()
        try await withLog(directory, settings: disk.settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(retention: 10_000))
            try await Self.put(log, "a", "1", at: disk.now)
            try await Self.fill(log)
            disk.advance(by: 100_000)
            await log.maintain()
            #expect(try log.bounds(p0).start == 0)
            let both = TopicSettings.Compaction(alsoDeletes: true, dirtyRatio: 0)
            try await log.updateTopic("t", settings: Self.settings(retention: 10_000, both))
            await log.maintain()
            #expect(try log.bounds(p0).start > 0)
        }
    }

    @Test func takesSeveralRoundsWhereKeysDoNotFit() async throws {
        let directory = try TemporaryDirectory()
        // 768 keys fit into the smallest map.
        let settings = LocalLogSettings(recentBytesMax: 0, compactionBytesMax: 1)
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(segmentBytes: 20_000))
            for round in 0..<3 {
                for start in stride(from: 0, to: 2000, by: 50) {
                    let records = (start..<start + 50).map { Self.keyed("key \($0)", "\(round)") }
                    _ = try await log.append(RecordBatchEncoder.encode(records), to: p0)
                }
            }
            try await Self.fill(log, bytes: 40_000)
            await log.compact()
            let found = try await texts(log)
            #expect(found.count == 2000)
            #expect(found.allSatisfy { $0.hasSuffix("=2") })
            #expect(log.compactions.rounds > 4)
        }
    }

    @Test func joinsSmallSegments() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(segmentBytes: 2048))
            for round in 0..<10 {
                try await Self.fill(log, key: "same", bytes: 8000)
                try await Self.put(log, "kept \(round)", "1")
                await log.compact()
            }
            await log.compact()
            let names = try directory.names(in: "log/topics/t/0").filter { $0.hasSuffix(".log") }
            #expect(names.count < 20, "160 segments were closed, \(names.count) are left")
            #expect(try await texts(log, without: "same").count == 10)
            #expect(try await log.verify() == [])
        }
        try await withLog(directory) { log async throws in
            #expect(log.damage() == [])
            #expect(try await texts(log, without: "same").count == 10)
        }
    }

    @Test func finishesAReplacementThatACrashCutShort() async throws {
        let directory = try TemporaryDirectory()
        try await withLog(directory) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(segmentBytes: 100_000))
            for number in 0..<20 { try await Self.put(log, "key \(number % 3)", "\(number)") }
            try await log.updateTopic("t", settings: Self.settings(segmentBytes: 1024))
            try await Self.fill(log)
        }
        let folder = "log/topics/t/0/"
        let bases = try directory.names(in: folder).filter { $0.hasSuffix(".log") }.map { String($0.dropLast(4)) }
        try #require(bases.count > 3)
        // The first two segments become one file, and the crash comes when the second is gone already.
        let joined = try directory.read(folder + bases[0] + ".log") + directory.read(folder + bases[1] + ".log")
        try directory.write(joined, to: "\(folder)\(bases[0])-\(bases[2]).replacement")
        try directory.write([1, 2, 3], to: "\(folder)\(bases[2]).compacting.tmp")
        try directory.remove(folder + bases[1] + ".log")
        try await withLog(directory) { log async throws in
            #expect(log.damage() == [])
            let offsets = try await readAll(log, p0).map(\.offset)
            #expect(offsets == Array(0..<(try log.bounds(p0).end)))
        }
        let names = try directory.names(in: folder)
        #expect(!names.contains { $0.hasSuffix(".replacement") || $0.hasSuffix(".tmp") })
    }

    @Test func readersGoOnWhileSegmentsAreReplaced() async throws {
        let directory = try TemporaryDirectory()
        let settings = LocalLogSettings(recentBytesMax: 0)
        try await withLog(directory, settings: settings) { log async throws in
            try await log.createTopic("t", partitions: 1, settings: Self.settings(segmentBytes: 4096))
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for number in 0..<1500 {
                        try await Self.put(log, "key \(number % 10)", "\(number) " + String(repeating: "y", count: 100))
                    }
                }
                group.addTask { for _ in 0..<60 { await log.compact() } }
                for _ in 0..<3 {
                    group.addTask {
                        var latest: [String: Int] = [:]
                        var next: Int64 = 0
                        while next < 1500 {
                            let found = try await log.read(p0, from: next, bytesMax: 3000, wait: .seconds(10))
                            for record in try RecordBatches.records(in: found.bytes, from: next) {
                                let key = String(decoding: record.key ?? [], as: UTF8.self)
                                let value = try #require(Int(record.text.split(separator: " ")[0]))
                                #expect(value > latest[key] ?? -1, "values of a key come in order")
                                latest[key] = value
                            }
                            #expect(found.nextOffset > next)
                            next = found.nextOffset
                            let start = try await log.offset(p0, atOrAfter: 0)
                            #expect(start != nil)
                        }
                        for key in 0..<10 { #expect(latest["key \(key)"] == 1490 + key) }
                    }
                }
                try await group.waitForAll()
            }
            #expect(log.damage() == [])
            #expect(try await log.verify() == [])
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct CompactionPropertyTests {
    /// The records as a Snappy block of literals.
    private static func snappy(_ batch: [UInt8]) -> [UInt8] {
        let records = batch[RecordBatchHeader.byteCount...]
        var block: [UInt8] = []
        var left = records.count
        while left >= 0x80 {
            block.append(UInt8(left & 0x7F) | 0x80)
            left >>= 7
        }
        block.append(UInt8(left))
        var rest = records
        while !rest.isEmpty {
            let part = rest.prefix(60_000)
            block += [0xF4, UInt8((part.count - 1) & 0xFF), UInt8((part.count - 1) >> 8)] + part
            rest = rest.dropFirst(part.count)
        }
        var made = Array(batch[..<RecordBatchHeader.byteCount]) + block
        made[22] |= 2
        BigEndian.store(Int32(made.count - 12), to: &made, at: 8)
        BigEndian.store(CRC32C.checksum(made, in: 21..<made.count), to: &made, at: 17)
        return made
    }

    /// Random batches, plain, compressed, idempotent and transactional, with rounds of compaction and restarts in between.
    @Test func keepsTheLastValueOfEachKeyWhateverHappens() async throws {
        var random = SeededGenerator.announced("keepsTheLastValueOfEachKeyWhateverHappens")
        for _ in 0..<12 {
            let directory = try TemporaryDirectory()
            var model = Model()
            var sequence: Int32 = 0
            let settings = TopicSettings(
                retentionMilliseconds: nil,
                segmentBytes: Int64.random(in: 1024...6000, using: &random),
                compaction: .init(dirtyRatio: Double.random(in: 0...0.6, using: &random))
            )
            let logSettings = LocalLogSettings(recentBytesMax: Bool.random(using: &random) ? 0 : 4096)
            for part in 0..<3 {
                let directorySettings = logSettings
                var generator = random
                (model, sequence, random) = try await withLog(directory, settings: directorySettings) { log in
                    if part == 0 { try await log.createTopic("t", partitions: 1, settings: settings) }
                    var model = model
                    var sequence = sequence
                    for _ in 0..<120 {
                        try await Self.step(log, &model, &sequence, &generator)
                        if Int.random(in: 0..<15, using: &generator) == 0 { await log.compact() }
                    }
                    await log.compact()
                    try await Self.check(log, model, directory)
                    return (model, sequence, generator)
                }
            }
            try await withLog(directory, settings: logSettings) { log in try await Self.check(log, model, directory) }
        }
    }

    private static func step(
        _ log: LocalLog,
        _ model: inout Model,
        _ sequence: inout Int32,
        _ random: inout SeededGenerator
    ) async throws {
        let records = (0..<Int.random(in: 1...6, using: &random)).map { _ in
            Record(
                timestamp: Int64.random(in: 0...10_000, using: &random),
                key: Array("key \(Int.random(in: 0..<25, using: &random))".utf8),
                value: Int.random(in: 0..<6, using: &random) == 0
                    ? nil : Array("\(UInt64.random(in: 0...UInt64.max, using: &random))".utf8)
            )
        }
        let kind = Int.random(in: 0..<5, using: &random)
        var bytes = RecordBatchEncoder.encode(
            records,
            producerID: kind < 2 ? -1 : kind == 2 ? 5 : 6,
            producerEpoch: kind < 2 ? -1 : 0,
            baseSequence: kind < 2 ? -1 : kind == 2 ? 0 : sequence,
            isTransactional: kind > 2
        )
        if Bool.random(using: &random) { bytes = snappy(bytes) }
        switch kind {
        case 0, 1: model.add(records, at: try await log.append(bytes, to: p0).baseOffset)
        case 2:
            // Producers that send one batch and are never heard of again.
            let id = Int64.random(in: 100...1 << 60, using: &random)
            BigEndian.store(id, to: &bytes, at: 43)
            BigEndian.store(CRC32C.checksum(bytes, in: 21..<bytes.count), to: &bytes, at: 17)
            model.add(records, at: try await log.append(bytes, to: p0).baseOffset)
        default:
            let base = try await log.append(bytes, to: p0).baseOffset
            sequence += Int32(records.count)
            let commit = kind == 3
            _ = try await log.writeMarker(p0, producerID: 6, epoch: 0, coordinatorEpoch: 0, commit: commit)
            if commit { model.add(records, at: base) }
        }
    }

    private static func check(_ log: LocalLog, _ model: Model, _ directory: TemporaryDirectory) async throws {
        let bounds = try log.bounds(p0)
        #expect(bounds.stable == bounds.end)
        var found: [RecordView] = []
        var next: Int64 = 0
        while next < bounds.end {
            let result = try await log.read(p0, from: next, bytesMax: 2000)
            found += try RecordBatches.records(in: result.bytes, from: next)
            try #require(result.nextOffset > next)
            next = result.nextOffset
        }
        #expect(zip(found, found.dropFirst()).allSatisfy { $0.offset < $1.offset })
        for record in found {
            let entry = Model.Entry(
                key: String(decoding: record.key ?? [], as: UTF8.self),
                value: record.value.map { String(decoding: $0, as: UTF8.self) }
            )
            #expect(model.entries[record.offset] == entry, "offset \(record.offset) is not what was written")
        }
        let offsets = Set(found.map(\.offset))
        for (key, offset) in model.latest { #expect(offsets.contains(offset), "the last record of \(key) is gone") }
        #expect(log.damage() == [])
        #expect(try await log.verify() == [])
        for time in stride(from: Int64(0), through: 10_000, by: 1250) {
            // Batches of the last segment may hold what is superseded; what was read tells.
            let wanted = found.first { $0.timestamp >= time }
            let place = try await log.offset(p0, atOrAfter: time)
            if let wanted { #expect((place?.offset ?? .max) <= wanted.offset) }
        }
    }
}
