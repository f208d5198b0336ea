// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import DuckDB
import EventLog
import Foundation
import Logging
import MartletCore
import Telemetry
import Testing

@Suite(.timeLimit(.minutes(5))) struct TelemetryStoreTests {
    private static let start = 1_700_000_000.0

    private func withStore(_ body: (TelemetryStore) async throws -> Void) async throws {
        try await withTelemetryStore(body)
    }

    private func equal<Value: Equatable>(
        _ found: Value,
        _ wanted: Value,
        at location: SourceLocation = #_sourceLocation
    ) {
        #expect(found == wanted, sourceLocation: location)
    }

    private func log(_ number: Int, severity: String = "INFO", scope: String = "user", pipeline: String? = "p")
        -> LogRecord
    {
        LogRecord(
            time: Date(timeIntervalSince1970: Self.start + Double(number)),
            severity: severity,
            scope: scope,
            pipeline: pipeline,
            message: "m\(number)"
        )
    }

    private func span(_ trace: Int, _ id: Int, parent: Int? = nil, status: String = "UNSET") -> SpanRecord {
        func hex(_ value: Int, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: digits - text.count) + text
        }
        return SpanRecord(
            traceId: hex(trace, 32),
            spanId: hex(id, 16),
            parentSpanId: parent.map { hex($0, 16) },
            name: "s\(id)",
            startMicros: Int64(Self.start) * 1_000_000 + Int64(trace * 1000 + id),
            durationMicros: 5,
            status: status,
            pipeline: trace % 2 == 0 ? "even" : "odd",
            function: "f\(id)"
        )
    }

    @Test func theNewestAreReturnedInEitherOrder() async throws {
        try await withStore { store in
            store.record(logs: (0..<150).map { log($0) })
            let ascending = try await store.logs(LogQuery(limit: 3, ascending: true))
            #expect(ascending.items.map(\.message) == ["m147", "m148", "m149"])
            let descending = try await store.logs(LogQuery(limit: 3, ascending: false))
            #expect(descending.items.map(\.message) == ["m149", "m148", "m147"])
        }
    }

    @Test func aTailNeitherMissesNorRepeats() async throws {
        try await withStore { store in
            store.record(logs: (0..<5).map { log($0) })
            var query = LogQuery(limit: 10, ascending: true)
            var seen = [String]()
            for round in 0..<6 {
                let page = try await store.logs(query)
                seen += page.items.map(\.message)
                query.cursor = page.nextCursor
                // Older times come late; a tail goes by arrival.
                store.record(logs: (0..<17).map { log(1000 - round * 100 + $0) })
            }
            while true {
                let page = try await store.logs(query)
                if page.items.isEmpty { break }
                seen += page.items.map(\.message)
                query.cursor = page.nextCursor
            }
            #expect(seen.count == 5 + 6 * 17)
            #expect(Set(seen).count == seen.count)
        }
    }

    @Test func severitiesAndScopesHaveAllTheirNames() async throws {
        try await withStore { store in
            store.record(logs: [
                log(0, severity: "DEBUG"), log(1, severity: "WARNING"),
                log(2, severity: "CRITICAL", scope: "vast-runtime"),
                log(3, scope: "engine"),
            ])
            func messages(_ change: (inout LogQuery) -> Void) async throws -> [String] {
                var query = LogQuery()
                change(&query)
                return try await store.logs(query).items.map(\.message)
            }
            for name in ["WARN", "warning"] { equal(try await messages { $0.severity = name }, ["m1", "m2"]) }
            for name in ["FATAL", "critical"] { equal(try await messages { $0.severity = name }, ["m2"]) }
            equal(try await messages { $0.severity = "NOTSET" }.count, 4)
            for name in ["runtime", "vast-runtime"] { equal(try await messages { $0.scope = name }, ["m2"]) }
            equal(try await messages { $0.scope = "engine" }, ["m3"])
            equal(try await messages { $0.contains = "m1" }, ["m1"])
            await #expect(throws: ServiceError.self) { try await messages { $0.severity = "LOUD" } }
            await #expect(throws: ServiceError.self) { try await messages { $0.scope = "all" } }
            await #expect(throws: ServiceError.self) { try await messages { $0.cursor = "x" } }
        }
    }

    @Test func tracesAreListedByStatusAndShownAsATree() async throws {
        try await withStore { store in
            store.record(spans: [
                span(1, 1, status: "OK"), span(1, 2, parent: 1), span(1, 3, parent: 2, status: "ERROR"),
                span(2, 4, status: "OK"), span(2, 5, parent: 4), span(3, 6), span(4, 7, parent: 8),
                span(4, 8, parent: 7),
            ])
            func traces(_ change: (inout TraceQuery) -> Void = { _ in }) async throws -> [TraceSummary] {
                var query = TraceQuery()
                change(&query)
                return try await store.traces(query)
            }
            equal(try await traces { $0.status = "error" }.map(\.depth), [3])
            equal(try await traces { $0.status = "OK" }.map(\.functions), [["f4", "f5"]])
            equal(try await traces { $0.status = "UNSET" }.count, 2)
            equal(try await traces { $0.pipeline = "odd" }.count, 2)
            let newest = try await traces { $0.limit = 2 }.map(\.traceId)
            #expect(newest.map { $0.last } == ["4", "3"])
            let ascending = try await traces {
                $0.limit = 2
                $0.ascending = true
            }
            #expect(ascending.map(\.traceId) == newest.reversed())
            let tree = try await store.trace(String(repeating: "0", count: 31) + "1")
            #expect(tree.spans.map(\.name) == ["s1", "s2", "s3"])
            await #expect(throws: ServiceError.self) { try await store.trace("ff") }
        }
    }

    @Test func theNewestAreFoundHoweverOldTheyAreAndWhateverIsAskedOfThem() async throws {
        try await withStore { store in
            // Now, two hours ago, two days ago, a month ago, and many that are older.
            let now = Date()
            let ages: [Double] = [0, 7_000, 170_000, 2_600_000] + (0..<50).map { 5_000_000 + Double($0) }
            store.record(
                logs: ages.enumerated().map { index, age in
                    LogRecord(
                        time: now - age,
                        severity: index == 2 ? "ERROR" : "INFO",
                        scope: "user",
                        message: "age \(index)."
                    )
                }
            )
            func check(
                _ wanted: [Int],
                at location: SourceLocation = #_sourceLocation,
                _ change: (inout LogQuery) -> Void
            )
                async throws
            {
                var query = LogQuery(limit: 2, ascending: false)
                change(&query)
                equal(try await store.logs(query).items.map(\.message), wanted.map { "age \($0)." }, at: location)
            }
            try await check([0]) { $0.limit = 1 }
            try await check([0, 1]) { _ in }
            try await check([0, 1, 2, 3, 4]) { $0.limit = 5 }
            try await check([2]) { $0.severity = "ERROR" }
            try await check([0, 1]) { $0.since = now - 8_000 }
            try await check([2, 3]) { $0.end = now - 100_000 }
            try await check([4, 5]) { $0.end = now - 4_900_000 }
            try await check([40]) { $0.contains = "age 40." }
            try await check([1, 0]) { $0.ascending = true }
        }
    }

    @Test func aFloodKeepsFailuresAndWholeTracesOfASample() async throws {
        try await withStore { store in
            #expect(store.hasRoom(spans: 10_000))
            #expect(!store.hasRoom(spans: 10_001))
            store.record(
                spans: (0..<30_000).flatMap {
                    [span($0, 1), span($0, 2, parent: 1, status: $0 % 1000 == 1 ? "ERROR" : "OK")]
                }
            )
            store.skipped(spans: 5)
            let found = try await store.traces(TraceQuery(limit: 10_000))
            // Every sixteenth trace with both spans; thirty traces failed, none of them of the sample.
            #expect(found.count(where: { $0.traceId.hasSuffix("0") && $0.spans == 2 }) == 1875)
            #expect(found.count(where: { $0.status == "ERROR" && $0.spans == 1 }) == 30)
            #expect(found.count == 1905)
            #expect(store.dropped == 60_000 - 2 * 1875 - 30 + 5)
        }
    }

    /// More than the queue holds is refused and counted, and the loss is said.
    @Test func aCommitThatRowsWaitedForMakesNoTraceLong() async throws {
        try await withStore { store in
            let work = span(2, 1)
            var commit = span(2, 2, parent: 1)
            (commit.name, commit.kind) = ("table trips", "CONSUMER")
            commit.startMicros += 10_000_000
            var others = commit
            commit.attributes = ["table": "trips", "martlet.wait_micros": "9999000"]
            // Somebody else's span counts, whatever its name.
            (others.traceId, others.spanId) = (span(4, 3).traceId, span(4, 3).spanId)
            var alone = commit
            (alone.traceId, alone.spanId) = (span(6, 4).traceId, span(6, 4).spanId)
            let start = span(4, 1)
            store.record(spans: [work, commit, others, start, alone])
            let found = try await store.traces(TraceQuery(limit: 10)).reduce(into: [:]) {
                $0[$1.traceId] = $1.durationMicros
            }
            #expect(found[work.traceId] == 5)
            #expect(found[others.traceId] == others.startMicros + 5 - start.startMicros)
            #expect(found[alone.traceId] == 5)
        }
    }

    @Test func aFloodOfLogsLeavesEventsOfTheEngineTheirPlaces() async throws {
        try await withTelemetryStoreAndLog { store, log in
            let flood = (0..<1000).map { self.log($0) }
            for _ in 0..<201 { store.record(logs: flood) }
            #expect(store.dropped == 1000)
            store.record(events: (0..<100).map { EngineEvent("Worker", "Crashed", "w\($0)", "it crashed") })
            #expect(store.dropped == 1000)
            // They have a bound too, which is said.
            store.record(events: [EngineEvent("Worker", "Crashed", "w", String(repeating: "x", count: 9 << 20))])
            #expect(store.dropped == 1001)
            await store.flush()
            let topic = TopicPartition(topic: SystemTable.events.topic, partition: 0)
            let end = try log.bounds(topic).end
            #expect(end == 100)
            var query = LogQuery(limit: 10)
            query.scope = "engine"
            let said = try await store.logs(query).items.map(\.message)
            #expect(
                said == [
                    "1001 telemetry records, 1 of them events of the engine, were dropped because more came than could be written"
                ]
            )
        }
    }

    @Test func aFloodIsDroppedAndCounted() async throws {
        try await withStore { store in
            let flood = (0..<1000).map { _ in
                LogRecord(time: Date(), severity: "INFO", scope: "user", message: String(repeating: "x", count: 70_000))
            }
            store.record(logs: flood)
            store.record(logs: [log(1)])
            var query = LogQuery()
            query.scope = "engine"
            equal(try await store.logs(query).items.map(\.message.first), ["1"])
            equal(try await store.logs(query).items.first?.message.hasPrefix("1000 telemetry records"), true)
            query.scope = "user"
            equal(try await store.logs(query).items.map(\.message), ["m1"])
        }
    }
}
