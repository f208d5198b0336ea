// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import Glibc
import KafkaCodec
import Logging
import Synchronization

/// Durable appends of eight writers, in turn with plain writes of the same group size on the same disk.
struct AppendBenchmark {
    /// What one round found.
    struct Round: Codable {
        var logMegabytesPerSecond: Double
        var diskMegabytesPerSecond: Double
        var ratio: Double
        var groupBytes: Int
        var appendMillisecondsP50: Double
        var appendMillisecondsP99: Double
    }

    /// Everything that was found.
    struct Report: Codable {
        var writers: Int
        var recordsPerBatch: Int
        var recordBytes: Int
        var batchBytes: Int
        var bytesPerRound: Int
        var rounds: [Round]
    }

    private static let writers = 8
    private static let recordsPerBatch = 100
    private static let recordBytes = 1024
    private static let topic = "benchmark"

    let directory: String
    let bytes: Int

    /// Runs `rounds` rounds after one that warms up.
    func run(rounds count: Int) async throws -> Report {
        let value = [UInt8](repeating: 0x42, count: Self.recordBytes)
        let batch = RecordBatchEncoder.encode((0..<Self.recordsPerBatch).map { Record(timestamp: Int64($0), value: value) })
        var rounds = [Round]()
        for number in 0...count {
            let log = try await appendToLog(batch, directory: "\(directory)/round-\(number)")
            let disk = try writePlainly(groupBytes: log.groupBytes)
            guard number > 0 else { continue }
            rounds.append(
                Round(
                    logMegabytesPerSecond: log.megabytesPerSecond,
                    diskMegabytesPerSecond: disk,
                    ratio: log.megabytesPerSecond / disk,
                    groupBytes: log.groupBytes,
                    appendMillisecondsP50: log.milliseconds[log.milliseconds.count / 2],
                    appendMillisecondsP99: log.milliseconds[log.milliseconds.count * 99 / 100]
                )
            )
        }
        return Report(
            writers: Self.writers,
            recordsPerBatch: Self.recordsPerBatch,
            recordBytes: Self.recordBytes,
            batchBytes: batch.count,
            bytesPerRound: bytes,
            rounds: rounds
        )
    }

    private func appendToLog(
        _ batch: [UInt8],
        directory: String
    ) async throws -> (megabytesPerSecond: Double, groupBytes: Int, milliseconds: [Double]) {
        let flushes = FlushCount()
        var settings = LocalLogSettings()
        settings.synchronize = { descriptor in
            flushes.add()
            return fdatasync(descriptor) == 0 ? 0 : errno
        }
        let log = try await LocalLog.open(
            directory: directory,
            settings: settings,
            logger: Logger(label: "benchmark") { _ in SwiftLogNoOpLogHandler() }
        )
        try await log.createTopic(Self.topic, partitions: 1, settings: TopicSettings())
        let appends = max(1, bytes / batch.count / Self.writers)
        let before = flushes.value
        let start = ContinuousClock.now
        var milliseconds = try await withThrowingTaskGroup(of: [Double].self) { group in
            for _ in 0..<Self.writers { group.addTask { try await Self.append(batch, times: appends, to: log) } }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let total = appends * Self.writers * batch.count
        let groups = max(1, flushes.value - before)
        try await verify(log, batch, batches: appends * Self.writers)
        await log.close()
        try FileManager.default.removeItem(atPath: directory)
        milliseconds.sort()
        return (Double(total) / seconds / 1e6, total / groups, milliseconds)
    }

    private static func append(_ batch: [UInt8], times: Int, to log: LocalLog) async throws -> [Double] {
        var milliseconds = [Double]()
        milliseconds.reserveCapacity(times)
        for _ in 0..<times {
            let start = ContinuousClock.now
            _ = try await log.append(batch, to: TopicPartition(topic: topic, partition: 0))
            milliseconds.append((ContinuousClock.now - start) / .milliseconds(1))
        }
        return milliseconds
    }

    /// Reads everything back and counts.
    private func verify(_ log: LocalLog, _ batch: [UInt8], batches: Int) async throws {
        let partition = TopicPartition(topic: Self.topic, partition: 0)
        var next: Int64 = 0
        var found = 0
        while true {
            let read = try await log.read(partition, from: next, bytesMax: 4 << 20)
            if read.bytes.isEmpty { break }
            found += read.bytes.count
            next = read.nextOffset
        }
        guard next == Int64(batches * Self.recordsPerBatch), found == batches * batch.count else {
            throw BenchmarkError(
                message: "\(next) records in \(found) bytes were read back; \(batches * Self.recordsPerBatch) in \(batches * batch.count) were appended"
            )
        }
    }

    /// Megabytes per second of one writer that writes a group, flushes it and goes on.
    private func writePlainly(groupBytes: Int) throws -> Double {
        let path = "\(directory)/plain"
        let descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644)
        guard descriptor >= 0 else { throw BenchmarkError(message: "\(path) cannot be opened: errno \(errno)") }
        defer {
            close(descriptor)
            unlink(path)
        }
        let group = [UInt8](repeating: 0x41, count: groupBytes)
        var written = 0
        let start = ContinuousClock.now
        while written < bytes {
            let count = group.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, off_t(written)) }
            guard count == groupBytes, fdatasync(descriptor) == 0 else {
                throw BenchmarkError(message: "\(path) cannot be written: errno \(errno)")
            }
            written += count
        }
        return Double(written) / ((ContinuousClock.now - start) / .seconds(1)) / 1e6
    }
}

/// Counts flushes.
private final class FlushCount: Sendable {
    private let count = Atomic<Int>(0)

    var value: Int { count.load(ordering: .relaxed) }

    func add() { count.add(1, ordering: .relaxed) }
}

/// What went wrong, in words.
struct BenchmarkError: Error, CustomStringConvertible {
    var message: String
    var description: String { message }
}
