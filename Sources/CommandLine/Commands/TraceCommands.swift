// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct TracesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "traces",
        "What happened to an event, step by step.",
        [ListTraces.self, GetTrace.self],
        aliases: ["trace"]
    )
    init() {}
}

struct ListTraces: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List traces, newest first.",
        discussion: "Times are RFC 3339 or a time ago such as 1h.",
        examples: [
            "martlet traces list inspect-frames", "martlet traces list --status ERROR --since 1d",
            "martlet traces list -i 1004356627333135",
        ],
        aliases: ["ls"]
    )
    @Argument(help: "Only of this pipeline.", completion: .custom(ResourceNames.complete("pipelines"))) var pipeline:
        String?
    @Option(name: [.short, .long], help: "From this time on (default 1h).") var since: String?
    @Option(name: [.short, .long], help: "Up to this time.") var end: String?
    @Option(name: [.customShort("i"), .long], help: "Only of this event.") var eventID: String?
    @Option(name: [.customShort("t"), .long], help: "Only of events of this type.") var eventType: String?
    @Option(name: .long, help: "UNSET, OK or ERROR.", completion: .list(["UNSET", "OK", "ERROR"])) var status: String?
    @Option(name: [.short, .long], help: "Most traces, 1 to 1000.") var limit = 20
    @Option(name: .long, help: "asc or desc by time.", completion: .list(["asc", "desc"])) var orderBy = "desc"
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard (1...1000).contains(limit) else {
            throw ValidationError("--limit must be between 1 and 1000, not \(limit).")
        }
        guard ["asc", "desc"].contains(orderBy) else {
            throw ValidationError("--order-by must be asc or desc, not '\(orderBy)'.")
        }
        if let status, !["UNSET", "OK", "ERROR"].contains(status.uppercased()) {
            throw ValidationError("--status must be UNSET, OK or ERROR, not '\(status)'.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let since = since ?? (eventID == nil ? "1h" : nil)
        let answer = try await client.get(
            ["traces"],
            query: [
                ("pipeline", pipeline), ("since", since), ("end", end), ("event_id", eventID),
                ("event_type", eventType),
                ("status", status?.uppercased()), ("limit", "\(limit)"), ("order_by", orderBy),
            ]
        )
        let traces = EngineClient.items(answer)
        if traces.isEmpty { try await client.requireNames(["traces"], pipeline: pipeline, function: nil) }
        try client.print(answer) { traces.isEmpty ? "" : table(traces).text(width: client.width, style: client.style) }
        if traces.isEmpty, client.isHuman {
            try client.note("no traces\(since.map { " since \($0)" } ?? ""); look further back with --since")
        }
    }

    private func table(_ traces: [JSONValue]) -> TextTable {
        TextTable(
            columns: [
                .init("Start"), .init("Pipeline", isFlexible: true), .init("Status", isStatus: true), .init("Trace ID"),
                .init("Duration", isRight: true), .init("Spans", isRight: true), .init("Event", isFlexible: true),
            ],
            rows: traces.map { trace in
                [
                    Quantity.time(trace["start"]?.stringValue) ?? "-", trace["pipeline"]?.stringValue ?? "-",
                    trace["status"]?.stringValue ?? "-", trace["trace_id"]?.stringValue ?? "-",
                    (trace["duration_micros"]?.intValue).map { Quantity.duration(microseconds: $0) } ?? "-",
                    ResourceDisplay.text(trace["spans"]) ?? "-",
                    (trace["event_type"]?.stringValue).nonEmpty ?? (trace["event_id"]?.stringValue).nonEmpty ?? "-",
                ]
            }
        )
    }
}

struct GetTrace: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Draw a trace as a tree of spans with times, bars and errors; the slowest hop is marked.",
        examples: [
            "martlet traces get 4bf92f3577b34da6a3ce929d0e0e4736",
            "martlet traces get 4bf92f3577b34da6a3ce929d0e0e4736 --logs",
        ],
        aliases: ["show"]
    )
    @Argument(help: "Trace ID.") var id: String
    @Flag(name: .long, inversion: .prefixedNo, help: "Show the log records of the trace below.") var logs = true
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let answer = try await client.get(["traces", id])
        try client.print(answer) { Self.text(answer, id: id, logs: logs, width: client.width, style: client.style) }
    }

    /// Heading, tree and log lines.
    static func text(_ answer: JSONValue, id: String, logs: Bool, width: Int?, style: Style) -> String {
        let spans = answer["spans"]?.arrayValue ?? []
        let records = answer["logs"]?.arrayValue ?? []
        let tree = SpanTree(spans: spans, logs: logs ? records : [])
        let errors = spans.count { $0["status"]?.stringValue == "ERROR" }
        var list = FieldList()
        list.add("Trace", spans.first?["trace_id"]?.stringValue ?? id)
        list.add("Pipeline", spans.lazy.compactMap { ($0["pipeline"]?.stringValue).nonEmpty }.first)
        let event = spans.lazy.compactMap { span -> String? in
            guard let id = (span["event_id"]?.stringValue).nonEmpty else { return nil }
            return (span["event_type"]?.stringValue).nonEmpty.map { "\(id) (\($0))" } ?? id
        }.first
        list.add("Event", event)
        if !spans.isEmpty { list.add("Start", Timestamp.format(microseconds: tree.startMicros)) }
        list.add("Duration", Quantity.duration(microseconds: tree.durationMicros))
        list.add("Spans", "\(spans.count)" + (errors > 0 ? ", \(errors) with errors" : ""))
        list.add("Slowest", tree.slowestText)
        list.add("Failed", tree.failureText)
        var text = list.text(style: style) + "\n" + tree.text(width: width, style: style)
        if logs, !records.isEmpty {
            text += "\n" + records.map { LogLine.text($0, style: style) + "\n" }.joined()
        }
        return text
    }
}
