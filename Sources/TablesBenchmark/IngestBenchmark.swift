// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import MartletCore
import Tables

/// A topic that is full of records when its table begins, until all of them are committed.
struct IngestBenchmark {
    /// What was found.
    struct Report: Codable {
        var records: Int64
        var topicBytes: Int64
        var partitions: Int
        var seconds: Double
        var recordsPerSecond: Double
        var megabytesPerSecond: Double
        /// Of all threads, for each record.
        var processorMicroseconds: Double
        var idleBytes: Int
        var peakBytes: Int
        var sinkBytes: Int
        var commits: Int64
        var files: Int
        var fileBytes: Int64
        /// Where the files lie.
        var location: String
    }

    /// Batches are as large as the topic takes them.
    private static let batchBytes = 1_000_000
    private static let readBytes = 4 << 20

    /// Writes every line of a file as a record, in turns over the partitions.
    static func fill(_ directory: String, file: String, partitions: Int32) async throws -> Int {
        let stand = try await BenchmarkStand.open(directory)
        try await stand.createTopic(partitions: partitions, isDurable: false)
        guard let input = FileHandle(forReadingAtPath: file) else {
            throw BenchmarkError(message: "\(file) cannot be read")
        }
        var rest: [UInt8] = []
        var records: [Record] = []
        var size = 0
        var count = 0
        var batches = 0
        func flush() async throws {
            guard !records.isEmpty else { return }
            let partition = TopicPartition(topic: BenchmarkStand.topic, partition: Int32(batches) % partitions)
            _ = try await stand.log.append(RecordBatchEncoder.encode(records), to: partition)
            batches += 1
            count += records.count
            records = []
            size = 0
        }
        while let data = try input.read(upToCount: readBytes), !data.isEmpty {
            rest += data
            var start = 0
            while let end = rest[start...].firstIndex(of: 0x0A) {
                let record = Record(timestamp: Timestamp.nowMicroseconds() / 1000, value: Array(rest[start..<end]))
                if size + record.encodedBytesMax > batchBytes { try await flush() }
                size += record.encodedBytesMax
                records.append(record)
                start = end + 1
            }
            rest.removeFirst(start)
        }
        try await flush()
        try await stand.close()
        return count
    }

    /// Makes the table on a filled topic and waits until everything is in files.
    static func run(
        _ directory: String,
        spec: TableSpec = TableSpec(topic: BenchmarkStand.topic),
        settle: Duration = .seconds(1)
    ) async throws -> Report {
        let stand = try await BenchmarkStand.open(directory)
        let partitions = stand.log.topic(BenchmarkStand.topic)?.partitions ?? 0
        let ends = try (0..<partitions).map {
            try stand.log.bounds(TopicPartition(topic: BenchmarkStand.topic, partition: $0)).end
        }
        _ = try await stand.integer("SELECT 1")
        try await Task.sleep(for: settle)
        ProcessFigures.resetPeak()
        let idle = ProcessFigures.residentBytes()
        let processor = ProcessFigures.processorSeconds()
        let started = ContinuousClock.now
        try await stand.createTable(spec)
        let table = try await stand.running {
            try await stand.caughtUp()
            _ = try await stand.service.commit(BenchmarkStand.table)
            return try await stand.service.find(BenchmarkStand.table)
        }
        let seconds = (ContinuousClock.now - started) / .seconds(1)
        let used = ProcessFigures.processorSeconds() - processor
        let peak = ProcessFigures.peakBytes()
        guard let table else { throw BenchmarkError(message: "the table is gone") }
        let records = ends.reduce(0, +)
        let found = try await stand.integer("SELECT count(*) FROM \(BenchmarkStand.table)")
        let (fresh, rejected) = (table.freshRows ?? -1, table.rejectedRows ?? -1)
        guard found == records, fresh == 0, rejected == 0 else {
            throw BenchmarkError(
                message: "of \(records) records \(found) are in the table, \(fresh) in no file, \(rejected) rejected"
            )
        }
        try await stand.close()
        let bytes = topicBytes(directory)
        return Report(
            records: records,
            topicBytes: bytes,
            partitions: Int(partitions),
            seconds: seconds,
            recordsPerSecond: Double(records) / seconds,
            megabytesPerSecond: Double(bytes) / seconds / 1e6,
            processorMicroseconds: used / Double(records) * 1e6,
            idleBytes: idle,
            peakBytes: peak,
            sinkBytes: peak - idle,
            commits: table.commits ?? 0,
            files: table.files ?? 0,
            fileBytes: table.bytes ?? 0,
            location: table.location ?? ""
        )
    }

    private static func topicBytes(_ directory: String) -> Int64 {
        var bytes: Int64 = 0
        guard let walk = FileManager.default.enumerator(atPath: "\(directory)/log") else { return 0 }
        for case let path as String in walk where path.hasSuffix(".log") {
            bytes += (walk.fileAttributes?[.size] as? NSNumber)?.int64Value ?? 0
        }
        return bytes
    }
}
