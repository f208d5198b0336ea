// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import KafkaCodec
import MartletCore
import Tables

/// Records read into columns, without log, table and file.
struct ReadBenchmark {
    /// What was found.
    struct Report: Codable {
        var records: Int
        var rows: Int
        var rejects: Int
        /// Columns of the last batch.
        var columns: Int
        /// Processor time, the least of three passes.
        var nanosecondsPerRecord: Double
    }

    /// Reads every line of a file as a record, `count` of them into each batch, which begins without columns.
    static func run(_ file: String, recordsPerBatch count: Int) throws -> Report {
        let lines = try Data(contentsOf: URL(filePath: file)).split(separator: 0x0A).map { Array($0) }
        let batches = stride(from: 0, to: lines.count, by: count).map { start in
            RecordBatchEncoder.encode(
                lines[start..<min(start + count, lines.count)].map { Record(timestamp: 0, value: $0) }
            )
        }
        let settings = RowBatchSettings(table: "t", topic: "t")
        var report = Report(records: lines.count, rows: 0, rejects: 0, columns: 0, nanosecondsPerRecord: .infinity)
        for _ in 0..<3 {
            var (rows, rejects) = (0, 0)
            let started = ProcessFigures.processorSeconds()
            for bytes in batches {
                let batch = try RowBatch(columns: [], settings: settings)
                try batch.append(bytes, partition: 0, verifiesChecksums: false)
                rows += batch.rowCount
                rejects += batch.rejectCount
                report.columns = batch.columns.count
            }
            let took = (ProcessFigures.processorSeconds() - started) * 1e9 / Double(max(1, lines.count))
            (report.rows, report.rejects) = (rows, rejects)
            report.nanosecondsPerRecord = min(report.nanosecondsPerRecord, took)
        }
        return report
    }
}
