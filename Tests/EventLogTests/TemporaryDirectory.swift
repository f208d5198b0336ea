// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import KafkaCodec
import Logging
import Testing

/// A directory for one test, removed when it goes; kept when `KEEP_TEST_FILES` is set.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/martlet-log-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        if ProcessInfo.processInfo.environment["KEEP_TEST_FILES"] == nil {
            try? FileManager.default.removeItem(atPath: path)
        }
    }

    func read(_ file: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(filePath: "\(path)/\(file)")))
    }

    func write(_ bytes: [UInt8], to file: String) throws {
        try Data(bytes).write(to: URL(filePath: "\(path)/\(file)"))
    }

    func names(in folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(path)/\(folder)").sorted()
    }

    func makeFolder(_ folder: String) throws {
        try FileManager.default.createDirectory(atPath: "\(path)/\(folder)", withIntermediateDirectories: true)
    }

    func remove(_ file: String) throws {
        try FileManager.default.removeItem(atPath: "\(path)/\(file)")
    }

    /// Copies everything as it stands, which is what a killed process leaves behind.
    func snapshot() throws -> TemporaryDirectory {
        let copy = try TemporaryDirectory()
        try FileManager.default.removeItem(atPath: copy.path)
        try FileManager.default.copyItem(atPath: path, toPath: copy.path)
        return copy
    }
}

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Opens a log, gives it to the body and closes it whatever happens.
func withLog<Result>(
    _ directory: TemporaryDirectory,
    settings: LocalLogSettings = LocalLogSettings(),
    _ body: (LocalLog) async throws -> Result
) async throws -> Result {
    let log = try await LocalLog.open(directory: directory.path, settings: settings, logger: quietLogger)
    do {
        let result = try await body(log)
        await log.close()
        return result
    } catch {
        await log.close()
        throw error
    }
}

func record(_ value: String, at timestamp: Int64 = 1000, key: String? = nil) -> Record {
    Record(timestamp: timestamp, key: key.map { Array($0.utf8) }, value: Array(value.utf8))
}

/// A batch of Tests/Fixtures/kafka/batches.jsonl.
func compressedBatch(_ name: String) throws -> [UInt8] {
    struct Line: Decodable {
        var name: String
        var batch: Data
    }
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Fixtures/kafka/batches.jsonl")
    for line in try Data(contentsOf: file).split(separator: UInt8(ascii: "\n")) {
        let found = try JSONDecoder().decode(Line.self, from: line)
        if found.name == name { return Array(found.batch) }
    }
    throw CocoaError(.fileNoSuchFile)
}

func batch(_ values: [String], at timestamp: Int64 = 1000) -> [UInt8] {
    RecordBatchEncoder.encode(values.map { record($0, at: timestamp) })
}

extension RecordView {
    var text: String { value.map { String(decoding: $0, as: UTF8.self) } ?? "null" }
}

/// Reads everything from `offset` to the end.
func readAll(
    _ log: some EventLog,
    _ id: TopicPartition,
    from offset: Int64 = 0,
    bytesMax: Int = 1 << 20
) async throws -> [RecordView] {
    var records: [RecordView] = []
    var next = offset
    while true {
        let result = try await log.read(id, from: next, bytesMax: bytesMax)
        if result.bytes.isEmpty { return records }
        let first = try RecordBatchHeader(parsing: result.bytes)
        #expect(first.nextOffset > next, "the answer begins with the wanted batch, or the first one behind it")
        records += try RecordBatches.records(in: result.bytes, from: next)
        #expect(result.nextOffset > next)
        next = result.nextOffset
    }
}

let p0 = TopicPartition(topic: "t", partition: 0)

/// Reads everything from `offset` to the end, stepping over damage; returns the damaged ranges met as well.
func readAllSkippingDamage(
    _ log: some EventLog,
    _ id: TopicPartition,
    from offset: Int64 = 0,
    bytesMax: Int = 1 << 20
) async throws -> (records: [RecordView], skipped: [Range<Int64>]) {
    var records: [RecordView] = []
    var skipped: [Range<Int64>] = []
    var next = offset
    while true {
        do {
            let result = try await log.read(id, from: next, bytesMax: bytesMax)
            if result.bytes.isEmpty { return (records, skipped) }
            records += try RecordBatches.records(in: result.bytes, from: next)
            next = result.nextOffset
        } catch let error as EventLogError where error.code == .damaged {
            let readable = try #require(error.nextReadableOffset)
            try #require(readable > next)
            skipped.append(next..<readable)
            next = readable
        }
    }
}

/// Returns the code of the ``EventLogError`` that the body throws, or `nil` when it throws none.
func errorCode(_ body: @Sendable () async throws -> Void) async -> EventLogError.Code? {
    do {
        try await body()
        return nil
    } catch {
        return (error as? EventLogError)?.code
    }
}

/// A generator whose numbers follow from its seed, so that a failing run can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    /// Takes the seed from `MARTLET_TEST_SEED`, or a random one, and prints it.
    static func announced(_ test: String) -> SeededGenerator {
        let given = ProcessInfo.processInfo.environment["MARTLET_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("\(test): MARTLET_TEST_SEED=\(seed)")
        return SeededGenerator(seed: seed)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
