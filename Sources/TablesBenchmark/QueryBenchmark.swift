// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import EventLog
import Foundation
import KafkaCodec
import Lake
import MartletCore
import Synchronization
import Tables

/// Queries over many files: small commits before and after compaction, and one of many partitions.
struct QueryBenchmark {
    /// What small commits cost.
    struct CommitsReport: Codable {
        var commits: Int64
        var rows: Int64
        var commitSeconds: Double
        /// Of each of ten equal shares of the commits, in their order: what grows with the commits there are shows here.
        var shareMilliseconds: [Double]
        var query: String
        var manyFiles: Int
        var manyMilliseconds: [Double]
        /// DuckDB alone over the same files, by a pattern.
        var patternMilliseconds: [Double]
        var compactionSeconds: Double
        /// Queries one after the other while the compaction ran.
        var meanwhileMilliseconds: [Double]
        var filesAfter: Int
        var afterMilliseconds: [Double]
        /// The same rows in one file written by DuckDB alone.
        var byHandMilliseconds: [Double]
    }

    /// What a look-up of one row costs.
    struct PointReport: Codable {
        var files: Int
        var rows: Int64
        var query: String
        var milliseconds: [Double]
        /// DuckDB's own account of the query.
        var plan: String
        var peakBytes: Int
    }

    private static let partition = TopicPartition(topic: BenchmarkStand.topic, partition: 0)
    private static let batchRecords = 5_000

    /// Makes `count` commits of `rows` records each, and measures one query before and after compaction.
    static func commits(_ directory: String, count: Int, rows: Int, repeats: Int) async throws -> CommitsReport {
        let stand = try await BenchmarkStand.open(directory, maintenance: .seconds(86_400))
        try await stand.createTopic(partitions: 1, isDurable: false)
        try await stand.createTable(TableSpec(topic: BenchmarkStand.topic, partitionBy: [], commitSeconds: 3600))
        let report = try await stand.running {
            let shares = try await commit(count, rows: rows, stand)
            let query = aggregate(BenchmarkStand.table)
            let many = try await measured(repeats, query, stand)
            let pattern = "read_parquet('\(directory)/lake/append/\(BenchmarkStand.table)/rows/*.parquet')"
            let alike = try await measured(repeats, aggregate(pattern), stand)
            guard alike.result == many.result else { throw BenchmarkError(message: "DuckDB alone gave other rows") }
            let (compaction, compactionSeconds, meanwhile) = try await compact(stand, asking: query, many.result)
            let byHand = "\(directory)/lake/exports/by-hand.parquet"
            // What an ordinary user of DuckDB would have: the record's own columns and where it came from.
            let copy =
                "COPY (FROM \(BenchmarkStand.table) ORDER BY _offset) TO '\(byHand)' (FORMAT parquet, COMPRESSION zstd)"
            let written = try await stand.lake.query(
                copy,
                allowWrites: true,
                names: stand.runtime.names(in: copy, options: QueryOptions())
            )
            _ = try await written.rows()
            // In turns, so that both have the same machine.
            var after: [Double] = []
            var alone: [Double] = []
            for _ in 0..<repeats {
                after += try await measured(1, query, stand).milliseconds
                let other = try await measured(1, aggregate("'\(byHand)'"), stand)
                guard other.result == many.result else { throw BenchmarkError(message: "the file by hand differs") }
                alone += other.milliseconds
            }
            let again = try await measured(1, query, stand)
            guard again.result == many.result else { throw BenchmarkError(message: "compaction changed the rows") }
            return CommitsReport(
                commits: Int64(count),
                rows: Int64(count * rows),
                commitSeconds: shares.reduce(0, +) * Double(count) / Double(shares.count) / 1000,
                shareMilliseconds: shares,
                query: query,
                manyFiles: compaction.filesBefore,
                manyMilliseconds: many.milliseconds,
                patternMilliseconds: alike.milliseconds,
                compactionSeconds: compactionSeconds,
                meanwhileMilliseconds: meanwhile,
                filesAfter: compaction.filesAfter,
                afterMilliseconds: after,
                byHandMilliseconds: alone
            )
        }
        let found = try await stand.integer("SELECT count(DISTINCT n) FROM \(BenchmarkStand.table)")
        guard found == count * rows else {
            throw BenchmarkError(message: "\(count * rows) rows were written, \(found) are there")
        }
        try await stand.close()
        return report
    }

    /// Makes commits of `rows` records each; milliseconds for a commit, of each tenth.
    private static func commit(_ count: Int, rows: Int, _ stand: BenchmarkStand) async throws -> [Double] {
        var shares: [Double] = []
        var made = 0
        for share in 1...10 {
            let started = ContinuousClock.now
            let first = made
            while made < count * share / 10 {
                try await append((0..<rows).map { value(made * rows + $0) }, at: 0, to: stand)
                while try await stand.service.commit(BenchmarkStand.table) == nil { await Task.yield() }
                made += 1
            }
            shares.append((ContinuousClock.now - started) / .milliseconds(1) / Double(max(1, made - first)))
        }
        return shares
    }

    /// Compacts while a query is asked again and again.
    private static func compact(
        _ stand: BenchmarkStand,
        asking query: String,
        _ expected: String
    ) async throws -> (TableCompaction, seconds: Double, meanwhile: [Double]) {
        try await withThrowingTaskGroup(of: [Double].self) { group in
            let isDone = Atomic(false)
            group.addTask {
                var times: [Double] = []
                while !isDone.load(ordering: .acquiring) {
                    let one = try await measured(1, query, stand)
                    guard one.result == expected else {
                        throw BenchmarkError(message: "a query during the compaction gave other rows")
                    }
                    times += one.milliseconds
                }
                return times
            }
            defer { isDone.store(true, ordering: .releasing) }
            let started = ContinuousClock.now
            let compaction = try await stand.service.compact(BenchmarkStand.table)
            let seconds = (ContinuousClock.now - started) / .seconds(1)
            isDone.store(true, ordering: .releasing)
            return (compaction, seconds, try await group.next() ?? [])
        }
    }

    /// Makes `hours` partitions of `rows` records each, one file for each, and looks one record up.
    static func point(_ directory: String, hours: Int, rows: Int, repeats: Int) async throws -> PointReport {
        let stand = try await BenchmarkStand.open(directory, maintenance: .seconds(86_400))
        try await stand.createTopic(partitions: 1, isDurable: false)
        let spec = TableSpec(
            topic: BenchmarkStand.topic,
            partitionBy: ["hour"],
            commitSeconds: 3600,
            commitBytes: 1 << 30
        )
        try await stand.createTable(spec)
        let first: Int64 = 1_760_000_400_000
        let report = try await stand.running {
            for hour in 0..<hours {
                let values = (0..<rows).map { value(hour * rows + $0) }
                try await append(values, at: first + Int64(hour) * 3_600_000, to: stand)
                // Commits of a hundred partitions each, so that no commit has all of them in memory.
                if (hour + 1) % 100 == 0 || hour + 1 == hours {
                    try await stand.caughtUp()
                    _ = try await stand.service.commit(BenchmarkStand.table)
                }
            }
            let hour = hours / 2
            let time = Date(timeIntervalSince1970: Double(first) / 1000 + Double(hour) * 3600)
            let folder = time.ISO8601Format().prefix(13)
            let wanted = hour * rows + rows / 2
            let sql =
                "SELECT user, price FROM \(BenchmarkStand.table) WHERE record_hour = '\(folder)' AND n = \(wanted)"
            let result = try await measured(repeats, sql, stand)
            guard result.result.split(separator: "\n").count == 1 else {
                throw BenchmarkError(message: "\(sql) gave '\(result.result)'")
            }
            let plan = try await stand.query("EXPLAIN ANALYZE \(sql)").map { $0.map(\.text).joined() }
            return PointReport(
                files: try await stand.service.find(BenchmarkStand.table)?.files ?? 0,
                rows: Int64(hours * rows),
                query: sql,
                milliseconds: result.milliseconds,
                plan: plan.joined(separator: "\n"),
                peakBytes: ProcessFigures.peakBytes()
            )
        }
        let found = try await stand.integer("SELECT count(DISTINCT n) FROM \(BenchmarkStand.table)")
        guard found == hours * rows else {
            throw BenchmarkError(message: "\(hours * rows) rows were written, \(found) are there")
        }
        try await stand.close()
        return report
    }

    private static func value(_ number: Int) -> String {
        #"{"n":\#(number),"user":"user-\#(number &* 7919 % 1000)","price":\#(number % 97).5,"action":"view"}"#
    }

    private static func aggregate(_ source: String) -> String {
        "SELECT user, count(*), sum(price), max(n) FROM \(source) WHERE n % 3 = 1 GROUP BY user ORDER BY user"
    }

    private static func append(_ values: [String], at timestamp: Int64, to stand: BenchmarkStand) async throws {
        var start = 0
        while start < values.count {
            let end = min(values.count, start + batchRecords)
            let records = values[start..<end].map { Record(timestamp: timestamp, value: Array($0.utf8)) }
            _ = try await stand.log.append(RecordBatchEncoder.encode(records), to: partition)
            start = end
        }
    }

    /// Runs a query some times after once to warm up.
    private static func measured(
        _ repeats: Int,
        _ sql: String,
        _ stand: BenchmarkStand
    ) async throws -> (milliseconds: [Double], result: String) {
        func rows() async throws -> String {
            try await stand.query(sql).map { $0.map(\.text).joined(separator: "\t") }.joined(separator: "\n")
        }
        let result = repeats > 1 ? try await rows() : ""
        var milliseconds: [Double] = []
        var last = result
        for _ in 0..<repeats {
            let started = ContinuousClock.now
            last = try await rows()
            milliseconds.append((ContinuousClock.now - started) / .milliseconds(1))
        }
        guard repeats == 1 || last == result else { throw BenchmarkError(message: "\(sql) gave two different results") }
        return (milliseconds, last)
    }
}
