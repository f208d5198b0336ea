// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import KafkaCodec
import MartletCore
import Tables

/// From the acknowledgement of a record, which is on disk then, until a query counts it.
struct VisibleBenchmark {
    /// What was found.
    struct Report: Codable {
        var probes: Int
        /// Records a second that others wrote one by one meanwhile.
        var backgroundPerSecond: Int
        var milliseconds: [Double]
        var queryMilliseconds: [Double]
        /// Share of one processor for a trickle of 1,000 records a second, one by one, without a table and with one.
        var trickleProcessor: Double
        var trickleProcessorWithTable: Double
        /// Share of one processor of a table whose topic gets nothing.
        var idleProcessor: Double
    }

    private let stand: BenchmarkStand
    private static let partition = TopicPartition(topic: BenchmarkStand.topic, partition: 0)

    /// Measures `probes` records, 5 to 40 ms apart.
    static func run(_ directory: String, probes: Int, background: Int) async throws -> Report {
        let stand = try await BenchmarkStand.open(directory)
        try await stand.createTopic(partitions: 1, isDurable: true)
        let benchmark = VisibleBenchmark(stand: stand)
        let without = try await benchmark.trickle(seconds: 3)
        try await stand.createTable()
        let report = try await stand.running {
            try await stand.caughtUp()
            let idle = try await share { try await Task.sleep(for: .seconds(3)) }
            let with = try await benchmark.trickle(seconds: 3)
            let (seen, queries) = try await benchmark.probe(probes, background: background)
            try await stand.caughtUp()
            return Report(
                probes: probes,
                backgroundPerSecond: background,
                milliseconds: seen,
                queryMilliseconds: queries,
                trickleProcessor: without,
                trickleProcessorWithTable: with,
                idleProcessor: idle
            )
        }
        let end = try stand.log.bounds(Self.partition).end
        let found = try await stand.integer("SELECT count(DISTINCT _offset) FROM \(BenchmarkStand.table)")
        guard found == end else { throw BenchmarkError(message: "of \(end) records \(found) are in the table") }
        try await stand.close()
        return report
    }

    private func append(_ value: String) async throws {
        let record = Record(timestamp: Timestamp.nowMicroseconds() / 1000, value: Array(value.utf8))
        _ = try await stand.log.append(RecordBatchEncoder.encode([record]), to: Self.partition)
    }

    private func probe(_ count: Int, background: Int) async throws -> ([Double], [Double]) {
        try await withThrowingTaskGroup(of: Void.self) { group in
            if background > 0 { group.addTask { try await trickle(perSecond: background, for: nil) } }
            defer { group.cancelAll() }
            var seen: [Double] = []
            var queries: [Double] = []
            for number in 0..<count {
                try await append(#"{"probe":\#(number),"user":"user-\#(number % 7)","price":12.5}"#)
                let acknowledged = ContinuousClock.now
                while true {
                    let asked = ContinuousClock.now
                    let found = try await stand.integer(
                        "SELECT count(*) FROM \(BenchmarkStand.table) WHERE probe = \(number)"
                    )
                    queries.append((ContinuousClock.now - asked) / .milliseconds(1))
                    if found > 0 { break }
                    guard ContinuousClock.now - acknowledged < .seconds(30) else {
                        throw BenchmarkError(message: "record \(number) cannot be seen after 30 s")
                    }
                }
                seen.append((ContinuousClock.now - acknowledged) / .milliseconds(1))
                try await Task.sleep(for: .milliseconds(Int.random(in: 5...40)))
            }
            return (seen, queries)
        }
    }

    /// The share of one processor while records are written one by one.
    private func trickle(seconds: Double) async throws -> Double {
        try await Self.share { try await trickle(perSecond: 1000, for: .seconds(seconds)) }
    }

    private func trickle(perSecond: Int, for duration: Duration?) async throws {
        let started = ContinuousClock.now
        var sent = 0
        while !Task.isCancelled, duration.map({ ContinuousClock.now - started < $0 }) ?? true {
            let due = started + .seconds(1) * (Double(sent) / Double(perSecond))
            if due > .now { try? await Task.sleep(until: due, clock: .continuous) }  // Cancelled: the loop ends.
            try await append(#"{"probe":-1,"user":"user-\#(sent % 100)","price":\#(sent).25}"#)
            sent += 1
        }
    }

    private static func share(_ body: () async throws -> Void) async throws -> Double {
        let before = ProcessFigures.processorSeconds()
        let started = ContinuousClock.now
        try await body()
        return (ProcessFigures.processorSeconds() - before) / ((ContinuousClock.now - started) / .seconds(1))
    }
}
