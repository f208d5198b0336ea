// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import MartletCore
import Testing
import Triggers

@Suite(.timeLimit(.minutes(5)))
struct ScheduleTriggerTests {
    private func json(_ cron: String, _ more: String = "") -> String {
        #"{"name":"s","type":"Schedule","cron_schedule":"\#(cron)","topic":"t"\#(more)}"#
    }

    /// Moves the clock on in small steps, so that the runner is asleep whenever it moves.
    private func advance(_ clock: ManualClock, seconds: Int64, step: Int64 = 1) async throws {
        for _ in 0..<(seconds / step) {
            try await eventually { clock.sleepers >= 1 }
            clock.advance(seconds: step)
        }
        try await eventually { clock.sleepers >= 1 }
    }

    /// Makes trigger `s`, as if it had last fired at a time, and runs the engine on a clock.
    private func with(
        _ cron: String,
        _ more: String = "",
        firedAt: String,
        clock: ManualClock,
        restarts: Int = 0,
        forgets: Bool = false,
        _ body: @Sendable (Engine, Resource<TriggerSpec>) async throws -> Void
    ) async throws {
        let directory = Engine.temporaryPath()
        defer { try? FileManager.default.removeItem(atPath: directory) }  // Nothing can be done about it.
        let document = json(cron, more)
        let fired = try #require(Timestamp.parseMicroseconds(firedAt))
        try await Engine.with(directory: directory, clock: clock, runs: false) { engine async throws in
            try await setFired(engine, try await engine.makeTrigger(document), fired)
        }
        for _ in 0...restarts {
            try await Engine.with(directory: directory, clock: clock) { engine async throws in
                let trigger = try await engine.catalog.triggers.get("s")
                try await eventually { clock.sleepers >= 1 }
                try await body(engine, trigger)
            }
            guard forgets else { continue }
            // As if the engine had been killed before it noted what it fired.
            try await Engine.with(directory: directory, clock: clock, runs: false) { engine async throws in
                try await setFired(engine, try await engine.catalog.triggers.get("s"), fired)
            }
        }
    }

    private func setFired(_ engine: Engine, _ trigger: Resource<TriggerSpec>, _ micros: Int64) async throws {
        let schedule = "\(trigger.spec.config.cronSchedule ?? "") GMT"
        let text = #"{"firedMicros":\#(micros),"schedule":"\#(schedule)","topic":"t","offsets":{}}"#
        try await engine.catalog.state.set("schedule/\(trigger.guid)", text)
    }

    private func times(_ events: [CloudEvent]) -> [String] {
        events.compactMap { $0[extension: "timerelapsedtimestamp"] }.map { String($0.prefix(19)) }.sorted()
    }

    @Test func firesAtItsTimesInTheFormOfTheReference() async throws {
        let clock = try ManualClock("2027-01-01T00:00:30Z")
        try await with(
            "*/1 * * * *",
            #","custom_extensions":{"a":"b"}"#,
            firedAt: "2027-01-01T00:00:30Z",
            clock: clock
        ) { engine, trigger async throws in
            try await advance(clock, seconds: 95)
            let events = try await engine.events(atLeast: 2)
            #expect(times(events) == ["2027-01-01T00:01:00", "2027-01-01T00:02:00"])
            let event = try #require(events.first)
            #expect(event.type == "vastdata.com:Schedule.TimerElapsed")
            #expect(event.source == "vastdata.com:s.\(trigger.guid)")
            #expect(event.subject == "martlet.t")
            #expect(event[extension: "cronschedule"] == trigger.spec.config.cronSchedule)
            #expect(event[extension: "partitionkey"] == event.id)
            #expect(event[extension: "a"] == "b")
            #expect(
                event.data.map { String(decoding: $0, as: UTF8.self) } == #"{"message":"Activating trigger by cron"}"#
            )
        }
    }

    @Test(arguments: [("skip", 0), ("once", 1), ("all", 3)])
    func missedFiresFollowTheRule(_ rule: (String, Int)) async throws {
        try await with(
            "0 * * * *",
            #","missed_fires":"\#(rule.0)""#,
            firedAt: "2027-01-01T00:30:00Z",
            clock: try ManualClock("2027-01-01T03:30:00Z"),
            restarts: 1
        ) { engine, _ async throws in
            let found = times(try await engine.events())
            #expect(found.count == rule.1)
            #expect(rule.1 == 0 || found.last == "2027-01-01T03:00:00")
        }
    }

    @Test func aCrashBetweenEventAndProgressRepeatsNothing() async throws {
        try await with(
            "0 * * * *",
            firedAt: "2027-01-01T00:30:00Z",
            clock: try ManualClock("2027-01-01T01:30:00Z"),
            restarts: 2,
            forgets: true
        ) { engine, _ async throws in
            #expect(times(try await engine.events(atLeast: 1)) == ["2027-01-01T01:00:00"])
        }
    }

    @Test func updatedSchedulesFire() async throws {
        try await Engine.with { engine async throws in
            try await engine.makeTrigger(json("0 0 1 1 *"))
            let change = Document(value: try JSONValue(parsing: #"{"cron_schedule":"* * * * * ?"}"#))
            let updated = try await engine.triggers.update("s", change, by: Engine.caller, dryRun: false)
            #expect(updated.spec.config.cronSchedule == "* * * ? * * *")
            let events = try await engine.events(atLeast: 2)
            #expect(events.count >= 2)
            #expect(Set(events.map(\.id)).count == events.count)
            try await engine.triggers.delete("s", by: Engine.caller)
        }
    }

    @Test func aClockThatIsSetForwardOrBackNeitherSkipsNorRepeats() async throws {
        let clock = try ManualClock("2027-01-01T00:30:00Z")
        try await with("0 * * * *", firedAt: "2027-01-01T00:30:00Z", clock: clock) { engine, _ async throws in
            try await advance(clock, seconds: 2)
            try clock.set("2027-01-01T01:00:05Z")
            try await advance(clock, seconds: 2)
            #expect(times(try await engine.events(atLeast: 1)) == ["2027-01-01T01:00:00"])
            try clock.set("2027-01-01T00:58:00Z")
            try await advance(clock, seconds: 180)
            #expect(times(try await engine.events()) == ["2027-01-01T01:00:00"])
        }
    }
}
