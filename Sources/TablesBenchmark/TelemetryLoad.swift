// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import EventLog
import Foundation
import MartletCore
import Synchronization
import Tables
import Telemetry

/// Days of telemetry, written into an engine's data directory the way the engine itself writes it.
///
/// Spans and log records go through the telemetry store into its topics, through the tables' sinks into files, and the files are merged
/// as they come; only the clock is another, so that a week passes in minutes. The engine must not run meanwhile.
struct TelemetryLoad {
    /// What was written.
    struct Report: Codable {
        /// A trace to look up, with what belongs to it.
        struct Sample: Codable {
            var traceId: String
            var spans: Int
            var logs: Int
            /// Microseconds since 1970.
            var start: Int64
            var pipeline: String
        }

        var spans: Int
        var logs: Int
        var traces: Int
        var seconds: Double
        /// After the last record, until the files were merged as far as they are without being asked.
        var settleSeconds: Double
        /// By table.
        var files: [String: Int]
        var bytes: [String: Int64]
        var samples: [Sample]
    }

    /// A clock that shows what it was set to.
    private final class Clock: Sendable {
        private let micros: Atomic<Int64>

        init(_ micros: Int64) { self.micros = Atomic(micros) }

        var now: Int64 { micros.load(ordering: .relaxed) }
        func set(_ value: Int64) { micros.store(value, ordering: .relaxed) }
    }

    private static let daySpan: Int64 = 6 * 86_400_000_000
    private static let chunkTraces = 2_500
    private static let chunksBetweenWaits = 20
    private static let samplesMax = 100

    /// Writes `spans` spans and `logs` log records, four of each to a trace.
    static func run(_ directory: String, spans: Int, logs: Int) async throws -> Report {
        let end = Timestamp.nowMicroseconds() - 600_000_000
        let clock = Clock(end - daySpan)
        let stand = try await BenchmarkStand.open(
            directory,
            paths: .engine,
            maintenance: .seconds(3),
            now: { clock.now / 1000 }
        )
        let store = TelemetryStore(log: stand.log, logger: stand.logger, now: { clock.now })
        let tables = SystemTable.allCases.filter { $0 != .metrics }
        try await stand.runtime.prepare(
            internal: SystemTable.allCases.map { $0.definition(retention: .seconds(7 * 86_400)) }
        )
        try await stand.runtime.prepare()
        let report = try await stand.running {
            let started = ContinuousClock.now
            var source = TelemetrySource(spans: spans, logs: logs, from: end - daySpan, to: end)
            var samples: [Report.Sample] = []
            var chunk = 0
            while let traces = source.next(chunkTraces) {
                clock.set(traces.endMicros)
                guard store.offer(TelemetryRecords(spans: traces.spans, logs: traces.logs)) else {
                    throw BenchmarkError(message: "the store has no room for \(traces.spans.count) spans")
                }
                await store.flush()
                samples += traces.samples
                chunk += 1
                if chunk % chunksBetweenWaits == 0 { try await catchUp(stand, tables) }
            }
            try await catchUp(stand, tables)
            let seconds = (ContinuousClock.now - started) / .seconds(1)
            guard store.dropped == 0 else { throw BenchmarkError(message: "\(store.dropped) records were dropped") }
            let settleSeconds = try await settle(stand, tables)
            var report = Report(
                spans: spans,
                logs: logs,
                traces: source.made,
                seconds: seconds,
                settleSeconds: settleSeconds,
                files: [:],
                bytes: [:],
                samples: samples.count > samplesMax
                    ? samples.enumerated().filter { $0.offset % (samples.count / samplesMax) == 0 }.map(\.element)
                    : samples
            )
            for table in tables {
                let found = try await stand.service.find(table.name)
                report.files[table.rawValue] = found?.files
                report.bytes[table.rawValue] = found?.bytes
            }
            return report
        }
        for (name, count) in [("spans", spans), ("logs", logs)] {
            let found = try await stand.integer("SELECT count(*) FROM system.\(name)")
            guard found == count else { throw BenchmarkError(message: "system.\(name) has \(found) rows of \(count)") }
        }
        try await stand.close()
        return report
    }

    /// Waits for the sinks, then lets the topics forget what the tables have.
    private static func catchUp(_ stand: BenchmarkStand, _ tables: [SystemTable]) async throws {
        for table in tables {
            guard try await stand.runtime.isCaughtUp(table.name, within: .seconds(120)) else {
                throw BenchmarkError(message: "\(table.name) did not catch up within two minutes")
            }
        }
        await stand.log.maintain()
    }

    /// Commits what is left, and waits until nothing is merged any more.
    private static func settle(_ stand: BenchmarkStand, _ tables: [SystemTable]) async throws -> Double {
        let started = ContinuousClock.now
        for table in tables { _ = try await stand.service.commit(table.name) }
        var last: [Int64] = []
        var unchangedSince = ContinuousClock.now
        while ContinuousClock.now - unchangedSince < .seconds(10) {
            var commits: [Int64] = []
            for table in tables { commits.append(try await stand.service.find(table.name)?.lastCommit?.number ?? 0) }
            if commits != last { unchangedSince = .now }
            last = commits
            try await Task.sleep(for: .milliseconds(200))
        }
        return (ContinuousClock.now - started) / .seconds(1)
    }
}
