// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore
import Testing
import Triggers

@Suite(.timeLimit(.minutes(5)))
struct ServiceTests {
    private func document(_ json: String) throws -> Document {
        Document(value: try JSONValue(parsing: json), lines: ["": 1])
    }

    @Test(arguments: [
        (#"{"name":"x","type":"Schedule","cron_schedule":"61 * * * *","topic":"t"}"#, "cron_schedule", "61"),
        (#"{"name":"x","type":"Schedule","cron_schedule":"* * 30 2 *","topic":"t"}"#, "cron_schedule", "no date"),
        (#"{"name":"x","type":"Schedule","cron_schedule":"0 0 0 1 1 ? 2020","topic":"t"}"#, "cron_schedule", "past"),
        (#"{"name":"x","type":"Schedule","topic":"t"}"#, "cron_schedule", "missing"),
        (
            #"{"name":"x","type":"Schedule","cron_schedule":"* * * * *","time_zone":"Europe/Berlinn","topic":"t"}"#,
            "time_zone", "Europe/Berlin"
        ),
        (#"{"name":"x","type":"Element","source_bucket":"v","topic":"t","evnts":["x"]}"#, "evnts", "events"),
        (
            #"{"name":"x","type":"Element","source_bucket":"v","topic":"t","events":["Nope"]}"#, "events",
            "ObjectCreated"
        ),
        (#"{"name":"x","type":"Element","topic":"t"}"#, "source_bucket_name", "missing"),
        (#"{"name":"x","type":"Element","source_bucket":"w","topic":"t"}"#, "source_bucket_name", "no view"),
        (#"{"name":"x","type":"Element","source_bucket":"v","topic":"tt"}"#, "topic_name", "no topic"),
        (#"{"name":"x","type":"Element","source_bucket":"v","topic":"dead"}"#, "topic_name", "dead-letter"),
        (#"{"name":"x","type":"Element","source_bucket":"v"}"#, "topic_name", "default"),
        (#"{"name":"x","type":"Nope","topic":"t"}"#, "type", "Schedule"),
        (
            #"{"name":"x","type":"Element","source_bucket":"v","topic":"t","custom_extensions":{"Bad":"1"}}"#,
            "custom_extensions.Bad", "lower-case"
        ),
        (
            #"{"name":"x","type":"Element","source_bucket":"v","topic":"t","custom_extensions":{"id":"1"}}"#,
            "custom_extensions.id", "own"
        ),
        (#"{"name":"a b","type":"Element","source_bucket":"v","topic":"t"}"#, "name", "usable"),
        (
            #"{"name":"x","type":"Schedule","cron_schedule":"* * * * *","missed_fires":"twice","topic":"t"}"#,
            "missed_fires", "once"
        ),
    ])
    func badTriggersAreRefusedByField(_ row: (String, String, String)) async throws {
        try await Engine.with(runs: false) { engine async throws in
            try await engine.makeTopic("dead", isDeadLetter: true)
            try await makeView(engine)
            let bad = try document(row.0)
            let error = try await #require(throws: ServiceError.self) {
                try await engine.triggers.create(bad, by: Engine.caller, dryRun: false)
            }
            #expect(error.fields.first?.field == row.1, "\(error)")
            #expect("\(error) \(error.fields)".contains(row.2), "\(error)")
            #expect(error.fix != nil || error.fields.first?.fix != nil)
            #expect(try await engine.triggers.list(ListQuery()).items.isEmpty)
        }
    }

    private func makeView(_ engine: Engine) async throws {
        _ = try await engine.views.create(
            try document(#"{"name":"v","path":"\#(engine.viewPath)"}"#),
            by: Engine.caller,
            dryRun: false
        )
    }

    @Test func schedulesShowTheirNextTimes() async throws {
        let clock = try ManualClock("2026-10-24T12:00:00Z")
        try await Engine.with(clock: clock, runs: false) { engine async throws in
            try await engine.makeTopic("d", isDefault: true)
            let made = try await engine.makeTrigger(
                #"{"name":"s","type":"cron","config":{"cron_schedule":"30 2 * * *","time_zone":"europe/berlin"}}"#
            )
            #expect(made.spec.topicName == "d")
            #expect(made.spec.config.cronSchedule == "0 30 2 ? * * *")
            #expect(made.spec.config.cronExpression == "30 2 * * *")
            #expect(made.spec.config.timeZone == "Europe/Berlin")
            let times = try await engine.triggers.nextFireTimes("s", count: 10)
            #expect(times.count == 10)
            #expect(
                times.prefix(2).map { Timestamp.format($0) } == [
                    "2026-10-25T00:30:00.000000Z", "2026-10-26T01:30:00.000000Z",
                ]
            )
            // What was read can be written back whole.
            let text = String(decoding: try ResourceCoding.encoder().encode(made), as: UTF8.self)
            let again = try await engine.triggers.update("s", try document(text), by: Engine.caller, dryRun: false)
            #expect(again.spec == made.spec)
        }
    }

    @Test func dryRunChangesNothing() async throws {
        try await Engine.with(runs: false) { engine async throws in
            let good = try document(#"{"name":"s","type":"Schedule","cron_schedule":"@daily","topic":"t"}"#)
            let made = try await engine.triggers.create(good, by: Engine.caller, dryRun: true)
            #expect(made.spec.config.cronSchedule == "0 0 0 ? * * *")
            #expect(try await engine.triggers.list(ListQuery()).items.isEmpty)
        }
    }

    @Test func viewsMustBeReadableDirectoriesApartFromTheData() async throws {
        try await Engine.with(runs: false) { engine async throws in
            try engine.write("file")
            let bad = [
                "relative", "/does/not/exist", "\(engine.viewPath)/file", "\(engine.directory)/data", engine.directory,
                "/",
            ]
            for path in bad {
                let json = try document(#"{"name":"v","path":"\#(path)"}"#)
                let error = try await #require(throws: ServiceError.self) {
                    try await engine.views.create(json, by: Engine.caller, dryRun: false)
                }
                #expect(error.fields.first?.field == "path", "\(path): \(error)")
            }
            symlink(engine.viewPath, "\(engine.directory)/link")
            let json = try document(#"{"name":"v","path":"\#(engine.directory)/link"}"#)
            #expect(try await engine.views.create(json, by: Engine.caller, dryRun: false).spec.path == engine.viewPath)
        }
    }

    @Test func elementsAreListedInKeyOrderByPages() async throws {
        try await Engine.with(runs: false) { engine async throws in
            try await makeView(engine)
            let keys = ["a", "a-b", "a.txt", "b/c", "b/d/e", "b0", "ä"]
            for key in keys { try engine.write(key) }
            var seen: [String] = []
            var cursor: String?
            repeat {
                let page = try await engine.views.elements("v", prefix: "", limit: 2, cursor: cursor)
                seen += page.items.map(\.key)
                cursor = page.nextCursor
            } while cursor != nil
            #expect(seen == keys)
            #expect(
                try await engine.views.elements("v", prefix: "b/", limit: 10, cursor: nil).items.map(\.key) == [
                    "b/c", "b/d/e",
                ]
            )
            #expect(try await engine.views.elements("v", prefix: "a", limit: 10, cursor: nil).items.count == 3)
            let tagged = try await engine.views.tag("v", key: "b/c", tags: ["x": "1", "y": "2"])
            #expect(tagged.tags == ["x": "1", "y": "2"])
            #expect(try await engine.views.untag("v", key: "b/c", names: ["x", "z"]).tags == ["y": "2"])
            symlink("/etc", "\(engine.viewPath)/out")
            for key in ["../data/catalog.sqlite", "/etc/passwd", "b/../a", "", "b//c", "out/passwd", "missing"] {
                await #expect(throws: ServiceError.self, "\(key)") {
                    try await engine.views.tag("v", key: key, tags: ["a": "b"])
                }
            }
        }
    }
}
