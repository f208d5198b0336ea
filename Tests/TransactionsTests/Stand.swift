// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import FoundationEssentials
import Glibc
import KafkaCodec
import Logging
import Synchronization
import Testing
import Transactions

func p(_ partition: Int32) -> TopicPartition { TopicPartition(topic: "t", partition: partition) }

let quietLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A directory for one test, removed when it goes.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/martlet-transactions-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Copies everything as it stands, which is what a killed process leaves behind.
    func snapshot() throws -> TemporaryDirectory {
        let copy = try TemporaryDirectory()
        try FileManager.default.removeItem(atPath: copy.path)
        try FileManager.default.copyItem(atPath: path, toPath: copy.path)
        return copy
    }

    /// All files below, by their paths from here.
    func files() -> [String] {
        (try? FileManager.default.subpathsOfDirectory(atPath: path)) ?? []
    }

    func size(_ file: String) throws -> Int64 {
        var info = stat()
        try #require(stat("\(path)/\(file)", &info) == 0)
        return Int64(info.st_size)
    }

    func truncate(_ file: String, to size: Int64) throws {
        try #require(Glibc.truncate("\(path)/\(file)", off_t(size)) == 0)
    }

    func remove(_ file: String) throws {
        try FileManager.default.removeItem(atPath: "\(path)/\(file)")
    }

    /// Cuts batches off the end of a segment.
    func cut(_ file: String, lastBatches count: Int) throws {
        let bytes = Array(try Data(contentsOf: URL(filePath: "\(path)/\(file)")))
        var walk = RecordBatches(bytes)
        var starts: [Int] = []
        // Behind the last batch there is room that reads as zeros.
        while let found = try? walk.nextBatch() { starts.append(found.range.lowerBound) }
        try Data(bytes[..<starts[starts.count - count]]).write(to: URL(filePath: "\(path)/\(file)"))
    }
}

/// A log with a topic of three partitions, and the coordinator over it.
final class Stand: Sendable {
    /// What the log is told of time and of flushes.
    private final class World: Sendable {
        let milliseconds = Atomic<Int64>(1_000_000_000_000)
        let failing = Mutex<String?>(nil)
        /// Bytes known to be on disk, by path.
        let flushed = Mutex<[String: Int64]>([:])

        func synchronize(_ descriptor: Int32) -> Int32 {
            let link = "/proc/self/fd/\(descriptor)"
            let path = (try? FileManager.default.destinationOfSymbolicLink(atPath: link)) ?? ""
            if let part = failing.withLock({ $0 }), path.contains(part) { return EIO }
            var info = stat()
            guard fstat(descriptor, &info) == 0, fdatasync(descriptor) == 0 else { return errno }
            flushed.withLock { $0[path] = Int64(info.st_size) }
            return 0
        }
    }

    private static let settings = TopicSettings(retentionMilliseconds: nil, segmentBytes: 4096)

    let directory: TemporaryDirectory
    let log: LocalLog
    let coordinator: TransactionCoordinator
    private let world: World
    /// What opening the log has found or flushed.
    private let sizesAtStart: [String: Int64]

    init(_ existing: TemporaryDirectory? = nil) async throws {
        directory = try existing ?? TemporaryDirectory()
        let world = World()
        self.world = world
        let now: @Sendable () -> Int64 = { world.milliseconds.load(ordering: .sequentiallyConsistent) }
        log = try await LocalLog.open(
            directory: directory.path,
            settings: LocalLogSettings(now: now, synchronize: { world.synchronize($0) }),
            logger: quietLogger
        )
        if log.topic("t") == nil { try await log.createTopic("t", partitions: 3, settings: Self.settings) }
        coordinator = TransactionCoordinator(log: log, settings: TransactionSettings(now: now), logger: quietLogger)
        var sizes: [String: Int64] = [:]
        for file in directory.files() where file.hasSuffix(".log") { sizes[file] = try directory.size(file) }
        sizesAtStart = sizes
        try await coordinator.recover()
    }

    /// What was flushed of each file of records or of coordinators in a copy; files not written to since the log was
    /// opened are left out.
    func flushedSizes(in copy: TemporaryDirectory) -> [String: Int64] {
        let flushed = world.flushed.withLock { $0 }
        let known = Dictionary(
            uniqueKeysWithValues: flushed.map { ($0.key.dropFirst(directory.path.count + 1), $0.value) }
        )
        var sizes: [String: Int64] = [:]
        for file in copy.files() where file.hasSuffix(".log") {
            sizes[file] = max(known[file[...]] ?? 0, sizesAtStart[file] ?? 0)
        }
        return sizes
    }

    func advance(by milliseconds: Int64) {
        world.milliseconds.add(milliseconds, ordering: .sequentiallyConsistent)
    }

    /// From now on no file whose path contains `part` can be flushed.
    func failFlushes(of part: String?) {
        world.failing.withLock { $0 = part }
    }

    /// Appends one record in a producer's transaction.
    func put(
        _ value: String,
        _ partition: TopicPartition,
        _ producer: ProducerIdentity,
        sequence: Int32,
        isTransactional: Bool = true
    ) async throws {
        let batch = RecordBatchEncoder.encode(
            [Record(timestamp: 0, value: Array(value.utf8))],
            producerID: producer.id,
            producerEpoch: producer.epoch,
            baseSequence: sequence,
            isTransactional: isTransactional
        )
        _ = try await log.append(batch, to: partition)
    }

    /// The committed records of a partition.
    func texts(_ partition: TopicPartition) async throws -> [String] {
        var texts: [String] = []
        var next: Int64 = 0
        while true {
            let found = try await log.read(partition, from: next, bytesMax: 1 << 20)
            guard found.nextOffset > next else { return texts }
            texts += try RecordBatches.records(in: found.bytes, from: next).map { record in
                record.value.map { String(decoding: $0, as: UTF8.self) } ?? "null"
            }
            next = found.nextOffset
        }
    }
}

func withStand(_ body: (Stand) async throws -> Void) async throws {
    let stand = try await Stand()
    do {
        try await body(stand)
        await stand.log.close()
    } catch {
        await stand.log.close()
        throw error
    }
}
