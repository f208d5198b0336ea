// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import Foundation
import KafkaCodec
import MartletCore
import Tables
import Testing

/// Prints figures: `MARTLET_ROWS=FILE` names a file of JSON lines.
@Suite struct RecordsSpeedTests {
    @Test(.enabled(if: ProcessInfo.processInfo.environment["MARTLET_ROWS"] != nil))
    func fillsAndWrites() throws {
        let path = try #require(ProcessInfo.processInfo.environment["MARTLET_ROWS"])
        let lines = try Data(contentsOf: URL(filePath: path)).split(separator: 0x0A).map { Array($0) }
        var segments: [(base: Int64, bytes: [UInt8])] = []
        var base = 0
        while base < lines.count {
            var bytes: [UInt8] = []
            let first = base
            while base < lines.count, bytes.count < 1 << 20 {
                let part = lines[base..<min(base + 1000, lines.count)]
                bytes += TablesFixture.batch(Array(part), base: Int64(base))
                base += part.count
            }
            segments.append((Int64(first), bytes))
        }
        let connection = try TablesFixture.memory(DatabaseConfiguration(threads: 1))
        let batch = try RowBatch(columns: [], settings: TablesFixture.settings())
        for round in 0..<3 {
            var (filling, writing) = (0.0, 0.0)
            var rows = 0
            var index = 0
            var isCreated = false
            while index < segments.count {
                let start = Date()
                var taken = 0
                while index < segments.count, taken < 64 << 20 {
                    try batch.append(segments[index].bytes, from: segments[index].base, partition: 0)
                    taken += segments[index].bytes.count
                    index += 1
                }
                filling += -start.timeIntervalSinceNow
                let middle = Date()
                if !isCreated {
                    let definitions = SystemColumns.all(format: .json, columns: batch.columns)
                    try connection.execute("CREATE OR REPLACE TABLE t\(SystemColumns.sql(definitions))")
                    isCreated = true
                }
                let appender = try VectorAppender(connection: connection, table: "t")
                try batch.write(to: appender)
                try appender.flush()
                rows += batch.rowCount
                #expect(batch.rejectCount == 0)
                batch.removeAll()
                writing += -middle.timeIntervalSinceNow
            }
            #expect(rows == lines.count)
            func rate(_ seconds: Double) -> String { String(format: "%.2f M/s", Double(rows) / seconds / 1e6) }
            print("round \(round): fill \(rate(filling)), write \(rate(writing)), both \(rate(filling + writing))")
        }
    }
}
