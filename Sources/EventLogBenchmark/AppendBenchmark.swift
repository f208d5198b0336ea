// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import Glibc
import KafkaCodec
import Logging
import Synchronization

/// Durable appends of eight writers, in short turns with plain writes of the same group size on the same disk.
///
/// A disk's speed changes from second to second; turns of some ten milliseconds let both sides have the same disk.
struct AppendBenchmark {
    /// What one turn found.
    struct Turn: Codable {
        var logMegabytesPerSecond: Double
        var diskMegabytesPerSecond: Double
        var ratio: Double
        var groupBytes: Int
    }

    /// Everything that was found.
    struct Report: Codable {
        var writers: Int
        var recordsPerBatch: Int
        var recordBytes: Int
        var batchBytes: Int
        var bytesPerTurn: Int
        var appendMillisecondsP50: Double
        var appendMillisecondsP99: Double
        var turns: [Turn]
    }

    private static let writers = 8
    private static let recordsPerBatch = 100
    private static let recordBytes = 1024
    private static let warmUpTurns = 4
    private static let partition = TopicPartition(topic: "benchmark", partition: 0)

    private let directory: String
    private let appendsPerWriter: Int
    private let batch: [UInt8]
    private let flushes = FlushCount()

    init(directory: String, bytesPerTurn: Int) {
        self.directory = directory
        let value = [UInt8](repeating: 0x42, count: Self.recordBytes)
        batch = RecordBatchEncoder.encode((0..<Self.recordsPerBatch).map { Record(timestamp: Int64($0), value: value) })
        appendsPerWriter = max(1, bytesPerTurn / batch.count / Self.writers)
    }

    /// Runs `count` turns after some that warm up, then reads back and counts what was appended.
    func run(turns count: Int) async throws -> Report {
        var settings = LocalLogSettings()
        settings.synchronize = { [flushes] descriptor in
            flushes.add()
            return fdatasync(descriptor) == 0 ? 0 : errno
        }
        let log = try await LocalLog.open(
            directory: "\(directory)/log",
            settings: settings,
            logger: Logger(label: "benchmark") { _ in SwiftLogNoOpLogHandler() }
        )
        try await log.createTopic(Self.partition.topic, partitions: 1, settings: TopicSettings())
        let disk = try PlainFile(path: "\(directory)/plain")
        var turns = [Turn]()
        var milliseconds = [Double]()
        for number in 0..<(Self.warmUpTurns + count) {
            let turn = try await self.turn(log, disk)
            guard number >= Self.warmUpTurns else { continue }
            turns.append(turn.0)
            milliseconds += turn.1
        }
        try await verify(log, batches: (Self.warmUpTurns + count) * appendsPerWriter * Self.writers)
        await log.close()
        milliseconds.sort()
        return Report(
            writers: Self.writers,
            recordsPerBatch: Self.recordsPerBatch,
            recordBytes: Self.recordBytes,
            batchBytes: batch.count,
            bytesPerTurn: appendsPerWriter * Self.writers * batch.count,
            appendMillisecondsP50: milliseconds[milliseconds.count / 2],
            appendMillisecondsP99: milliseconds[milliseconds.count * 99 / 100],
            turns: turns
        )
    }

    private func turn(_ log: LocalLog, _ disk: PlainFile) async throws -> (Turn, milliseconds: [Double]) {
        let bytes = appendsPerWriter * Self.writers * batch.count
        let flushed = flushes.value
        let start = ContinuousClock.now
        let milliseconds = try await withThrowingTaskGroup(of: [Double].self) { group in
            for _ in 0..<Self.writers { group.addTask { try await append(to: log) } }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        let logSpeed = Double(bytes) / ((ContinuousClock.now - start) / .seconds(1)) / 1e6
        let group = bytes / max(1, flushes.value - flushed)
        let diskSpeed = try disk.write(bytes: bytes, groupBytes: group)
        let turn = Turn(
            logMegabytesPerSecond: logSpeed,
            diskMegabytesPerSecond: diskSpeed,
            ratio: logSpeed / diskSpeed,
            groupBytes: group
        )
        return (turn, milliseconds)
    }

    private func append(to log: LocalLog) async throws -> [Double] {
        var milliseconds = [Double]()
        milliseconds.reserveCapacity(appendsPerWriter)
        for _ in 0..<appendsPerWriter {
            let start = ContinuousClock.now
            _ = try await log.append(batch, to: Self.partition)
            milliseconds.append((ContinuousClock.now - start) / .milliseconds(1))
        }
        return milliseconds
    }

    private func verify(_ log: LocalLog, batches: Int) async throws {
        var next: Int64 = 0
        var found = 0
        while true {
            let read = try await log.read(Self.partition, from: next, bytesMax: 4 << 20)
            if read.bytes.isEmpty { break }
            found += read.bytes.count
            next = read.nextOffset
        }
        let records = Int64(batches * Self.recordsPerBatch)
        guard next == records, found == batches * batch.count else {
            let appended = "\(records) records in \(batches * batch.count) bytes were appended"
            throw BenchmarkError(message: "\(appended), \(next) in \(found) were read back")
        }
    }
}

/// Counts flushes.
private final class FlushCount: Sendable {
    private let count = Atomic<Int>(0)

    var value: Int { count.load(ordering: .relaxed) }

    func add() { count.add(1, ordering: .relaxed) }
}
