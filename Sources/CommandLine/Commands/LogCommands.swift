// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct LogsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "logs",
        "What functions and the engine said.",
        [GetLogs.self, TailLogs.self],
        aliases: ["log"]
    )
    init() {}
}

/// What narrows log records down, apart from time.
struct LogFilter: ParsableArguments {
    @Option(
        name: [.short, .long],
        help: "Only of this function.",
        completion: .custom(ResourceNames.complete("functions"))
    )
    var function: String?
    @Option(
        name: [.customLong("severity"), .customLong("level")],
        help: "Lowest severity: TRACE, DEBUG, INFO, WARNING (WARN), ERROR, CRITICAL (FATAL).",
        completion: .list(["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
    )
    var severity: String?
    @Option(
        name: .long,
        help: "user, runtime (vast-runtime) or engine.",
        completion: .list(["user", "runtime", "engine"])
    ) var scope: String?
    @Option(name: .long, help: "Only of this trace.") var traceID: String?
    @Option(name: .long, help: "Only of this span.") var spanID: String?
    @Option(name: [.customLong("contains"), .customLong("grep")], help: "Only messages with this text.") var contains:
        String?

    func query(pipeline: String?) -> [(String, String?)] {
        [
            ("pipeline", pipeline), ("function", function), ("severity", severity), ("scope", scope),
            ("trace_id", traceID),
            ("span_id", spanID), ("contains", contains),
        ]
    }
}

struct GetLogs: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show log records, newest first.",
        discussion: """
            Times are RFC 3339 or a time ago such as 5m. Where there are more records than --limit, the newest are shown, in either order.
            """,
        examples: [
            "martlet logs get inspect-frames --since 1h --severity ERROR",
            "martlet logs get inspect-frames --since 5m --scope runtime -f exr-inspector",
            "martlet logs get --trace-id 4bf92f3577b34da6a3ce929d0e0e4736 -o json",
        ]
    )
    @Argument(help: "Only of this pipeline.", completion: .custom(ResourceNames.complete("pipelines"))) var pipeline:
        String?
    @OptionGroup var filter: LogFilter
    @Option(name: [.short, .long], help: "From this time on (default 5m; with --trace-id, all).") var since: String?
    @Option(name: [.short, .long], help: "Up to this time.") var end: String?
    @Option(name: [.short, .long], help: "Most records, 1 to 10000.") var limit = 100
    @Option(name: .long, help: "asc or desc by time.", completion: .list(["asc", "desc"])) var orderBy = "desc"
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard (1...10_000).contains(limit) else {
            throw ValidationError("--limit must be between 1 and 10000, not \(limit).")
        }
        guard ["asc", "desc"].contains(orderBy) else {
            throw ValidationError("--order-by must be asc or desc, not '\(orderBy)'.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let since = since ?? (filter.traceID == nil && filter.spanID == nil ? "5m" : nil)
        let query =
            filter.query(pipeline: pipeline) + [
                ("since", since), ("end", end), ("limit", "\(limit)"), ("order_by", orderBy),
            ]
        let answer = try await client.get(["logs"], query: query)
        let records = EngineClient.items(answer)
        if records.isEmpty {
            try await client.requireNames(["logs"], pipeline: pipeline, function: filter.function)
        }
        try client.print(answer) { records.map { LogLine.text($0, style: client.style) + "\n" }.joined() }
        if records.isEmpty, client.isHuman {
            try client.note("no log records\(since.map { " since \($0)" } ?? ""); look further back with --since")
        }
    }
}

extension EngineClient {
    /// Notes that there is no such pipeline, for who waits for its records: it may be made yet.
    func noteMissing(pipeline: String?) async throws {
        guard let pipeline else { return }
        do {
            _ = try await get(["pipelines", pipeline])
        } catch let failure as CommandFailure where failure.status == .notFound {
            try note("there is no pipeline '\(pipeline)' now; list what exists with: martlet pipelines list")
        }
    }
}

struct TailLogs: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "tail",
        "Show log records as they come, until interrupted.",
        discussion:
            "As JSON each record is one line. The connection is tried again for a minute when the engine goes away.",
        examples: ["martlet logs tail inspect-frames", "martlet logs tail inspect-frames --scope runtime --since 10m"],
        aliases: ["follow"]
    )
    @Argument(help: "Only of this pipeline.", completion: .custom(ResourceNames.complete("pipelines"))) var pipeline:
        String?
    @OptionGroup var filter: LogFilter
    @Option(name: [.short, .long], help: "From this time on (default: now).") var since = "0s"
    @Option(name: [.short, .long], help: "Up to this time, and then end.") var end: String?
    @Option(name: [.short, .long], help: "Most records of the time before now, 1 to 1000.") var limit = 1000
    @Option(
        name: .long,
        help: "asc or desc by time, of the records that come together.",
        completion: .list(["asc", "desc"])
    ) var orderBy = "asc"
    @Option(name: [.short, .long], help: "Time between questions to the engine.") var interval = "1s"
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    /// How late a record may reach the engine after its time.
    private static let lateMicros: Int64 = 1_000_000

    func validate() throws {
        guard let micros = TimeSpan.microseconds(interval), micros >= 10_000 else {
            throw ValidationError("--interval '\(interval)' is no span of time of at least 10ms.")
        }
        guard (1...1000).contains(limit) else {
            throw ValidationError("--limit must be between 1 and 1000, not \(limit).")
        }
        guard ["asc", "desc"].contains(orderBy) else {
            throw ValidationError("--order-by must be asc or desc, not '\(orderBy)'.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let pause = Duration.microseconds(TimeSpan.microseconds(interval) ?? 1_000_000)
        var filter = filter
        if filter.scope == nil, filter.function == nil, pipeline != nil { filter.scope = "user" }
        let now = Timestamp.nowMicroseconds()
        var since = try Self.start(since, nowMicros: now, option: "--since")
        let end = try end.map { try Self.start($0, nowMicros: now, option: "--end") }
        var cursor: String?
        var firstFailure: ContinuousClock.Instant?
        var isFirst = true
        let clock = ContinuousClock()
        while true {
            let place: (String, String?) = cursor.map { ("cursor", $0) } ?? ("since", since)
            let query =
                filter.query(pipeline: pipeline) + [
                    place, ("end", end), ("limit", cursor == nil ? "\(limit)" : "1000"), ("order_by", orderBy),
                ]
            let asked = Timestamp.nowMicroseconds()
            do {
                let answer = try await client.get(["logs"], query: query)
                if firstFailure != nil { try client.note("connected again") }
                firstFailure = nil
                let records = EngineClient.items(answer)
                for record in records { try show(record, client) }
                if isFirst, records.isEmpty { try await client.noteMissing(pipeline: pipeline) }
                isFirst = false
                cursor = (answer["pagination"]?["next_cursor"]?.stringValue).nonEmpty ?? cursor
                if cursor == nil,
                    let last = (orderBy == "asc" ? records.last : records.first).flatMap({ $0["time"]?.stringValue }),
                    let micros = Timestamp.parseMicroseconds(last)
                {
                    since = Timestamp.format(microseconds: micros + 1)
                }
                if records.count >= 1000, cursor != nil { continue }
                if let end, let micros = Timestamp.parseMicroseconds(end), asked > micros + Self.lateMicros { return }
            } catch let failure as CommandFailure where failure.status == .unreachable {
                if firstFailure == nil { try client.note("\(failure.message); trying again") }
                let start = firstFailure ?? clock.now
                guard cursor != nil || firstFailure != nil, clock.now - start < .seconds(60) else { throw failure }
                firstFailure = start
            }
            try await Task.sleep(for: pause)
        }
    }

    /// A time ago becomes a fixed time, so that asking again does not skip what came in between.
    static func start(_ text: String, nowMicros: Int64, option: String) throws -> String {
        if Timestamp.parseMicroseconds(text) != nil { return text }
        guard let ago = TimeSpan.microseconds(text) else {
            throw CommandFailure.usage(
                "\(option): '\(text)' is no time",
                fix: "use RFC 3339, or a time ago such as 10m"
            )
        }
        return Timestamp.format(microseconds: nowMicros - ago)
    }

    private func show(_ record: JSONValue, _ client: EngineClient) throws {
        switch client.settings.format {
        case .json: try client.session.output.line(record.text)
        case .yaml: try client.session.output.write(("---\n" + YAMLText.write(record)).utf8)
        case .human, .csv: try client.session.output.line(LogLine.text(record, style: client.style))
        }
    }
}
