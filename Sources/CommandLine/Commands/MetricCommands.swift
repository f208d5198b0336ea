// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct MetricsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "metrics",
        "What the engine and functions measure, over time.",
        [ListMetricNames.self, GetMetrics.self],
        aliases: ["metric"]
    )
    init() {}
}

struct ListMetricNames: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "names",
        "List the metrics there are.",
        discussion: "A metric without series has not been measured yet.",
        examples: [
            "martlet metrics names", "martlet metrics names -t Histogram --search latency",
            "martlet metrics names -p inspect-frames",
        ],
        aliases: ["list", "ls"]
    )
    @Option(
        name: [.short, .long],
        help: "Only what this function or function deployment has points of.",
        completion: .custom(ResourceNames.complete("functions"))
    )
    var function: String?
    @Option(
        name: [.short, .long],
        help: "Only what this pipeline has points of.",
        completion: .custom(ResourceNames.complete("pipelines"))
    )
    var pipeline: String?
    @Option(name: [.short, .long], help: "Only names and descriptions with this text.") var search: String?
    @Option(
        name: [.customShort("t"), .long],
        help: "Counter, Histogram, Gauge or UpDownCounter.",
        completion: .list(["Counter", "Histogram", "Gauge", "UpDownCounter"])
    )
    var metricType: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let answer = try await client.get(
            ["metrics", "names"],
            query: [
                ("pipeline", pipeline), ("function", function), ("search", search), ("metric_type", metricType),
            ]
        )
        let names = EngineClient.items(answer)
        if names.isEmpty {
            try await client.requireNames(["metrics", "names"], pipeline: pipeline, function: function)
        }
        let table = TextTable(
            columns: [
                .init("Name"), .init("Type"), .init("Unit"), .init("Series", isRight: true), .init("Last Point"),
                .init("Description", isFlexible: true),
            ],
            rows: names.map { name in
                [
                    name["name"]?.stringValue ?? "-", name["type"]?.stringValue ?? "-",
                    (name["unit"]?.stringValue).nonEmpty ?? "-", ResourceDisplay.text(name["series"]) ?? "-",
                    Quantity.time(name["last_seen"]?.stringValue) ?? "-", name["description"]?.stringValue ?? "",
                ]
            }
        )
        try client.print(answer) { names.isEmpty ? "" : table.text(width: client.width, style: client.style) }
        if names.isEmpty, client.isHuman { try client.note("no metric is like that; without options, all are listed") }
    }
}

struct GetMetrics: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Draw metrics over time, in the terminal or as SVG.",
        discussion: """
            Times are RFC 3339 or a time ago such as 6h; drawings are in UTC. Without --aggregation, counters show their sum in each bucket, gauges \
            the average and histograms the 95th percentile. Metrics of several types may be asked for together. -o json, yaml and csv print \
            the values.
            """,
        examples: [
            "martlet metrics get -m dataengine.function.invocations -g function_name",
            "martlet metrics get -m dataengine.function.invoke_duration -a p99 -w 6h -g function_name -k 5",
            "martlet metrics get -m dataengine.event.total,martlet.group.lag -p inspect-frames --watch",
            "martlet metrics get -m martlet.topic.appended -a rate -g topic --svg topics.svg",
            "martlet metrics get -m dataengine.function.errors -s 2026-04-08T00:00:00Z -e 2026-04-09T00:00:00Z -o csv",
        ],
        aliases: ["query", "show"]
    )
    @Option(
        name: [.short, .long],
        help: "1 to 10 names, separated by commas or given one by one.",
        completion: .list(EngineMetrics.all.map(\.name))
    )
    var metricNames: [String] = []
    @Option(
        name: [.short, .long],
        help: "sum, avg, min, max, p50, p95, p99, rate (a second) or count (samples).",
        completion: .list(MetricAggregation.allCases.map(\.rawValue))
    )
    var aggregation: String?
    @Option(
        name: [.short, .long],
        help:
            "A line for each function_name, function_deployment_name, pipeline_name or attribute; several with commas.",
        completion: .list(["function_name", "function_deployment_name", "pipeline_name", "topic", "group", "table"])
    )
    var groupBy: [String] = []
    @Option(name: [.customShort("k"), .long], help: "Only the so many largest groups.") var topK: Int?
    @Option(name: [.short, .long], help: "Only the so many smallest groups.") var bottomK: Int?
    @Option(
        name: [.short, .long],
        help: "Only of this pipeline.",
        completion: .custom(ResourceNames.complete("pipelines"))
    )
    var pipeline: String?
    @Option(
        name: [.short, .long],
        help: "Only of this function or function deployment.",
        completion: .custom(ResourceNames.complete("functions"))
    )
    var function: String?
    @Option(name: [.customShort("w"), .long], help: "The time up to now to show, such as 30m (default 1h).")
    var timeframe: String?
    @Option(name: [.short, .long], help: "From this time on, instead of --timeframe.") var since: String?
    @Option(name: [.short, .long], help: "Up to this time.") var end: String?
    @Option(name: [.customShort("n"), .long], help: "Most values of a line, 1 to 100.") var maxPoints = 60
    @Option(name: .long, help: "Write the drawing to this SVG file; - is standard output.") var svg: String?
    @Option(name: .long, help: "Lines of a drawing in the terminal, 3 to 60.") var height = 12
    @Flag(name: .long, help: "Draw again until interrupted.") var watch = false
    @Option(name: [.short, .long], help: "Time between drawings with --watch.") var interval = "5s"
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    static var allowsCSV: Bool { true }

    func validate() throws {
        let names = FieldBuilder.split(metricNames)
        guard (1...10).contains(names.count) else {
            throw ValidationError(
                names.isEmpty
                    ? "Name a metric with -m; 'martlet metrics names' lists them."
                    : "At most 10 metrics can be asked for at once, not \(names.count)."
            )
        }
        if let aggregation, MetricAggregation(rawValue: aggregation.lowercased()) == nil {
            let known = MetricAggregation.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--aggregation must be one of \(known), not '\(aggregation)'.")
        }
        for (name, value) in [("--top-k", topK), ("--bottom-k", bottomK)] {
            guard let value else { continue }
            guard (1...100).contains(value) else { throw ValidationError("\(name) must be between 1 and 100.") }
            guard !groupBy.isEmpty else { throw ValidationError("\(name) chooses among groups; add --group-by.") }
        }
        guard (1...100).contains(maxPoints) else {
            throw ValidationError("--max-points must be between 1 and 100, not \(maxPoints).")
        }
        guard (3...60).contains(height) else { throw ValidationError("--height must be between 3 and 60.") }
        if timeframe != nil, since != nil || end != nil {
            throw ValidationError("--timeframe ends now; use --since and --end instead, or leave them out.")
        }
        if let timeframe, (TimeSpan.microseconds(timeframe) ?? 0) <= 0 {
            throw ValidationError("--timeframe '\(timeframe)' is no span of time such as 30m or 6h.")
        }
        guard (TimeSpan.microseconds(interval) ?? 0) >= 100_000 else {
            throw ValidationError("--interval '\(interval)' is no span of time of at least 100ms.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        if watch, svg == "-" {
            throw CommandFailure.usage("--watch cannot draw to standard output as SVG", fix: "name a file after --svg")
        }
        let pause = Duration.microseconds(TimeSpan.microseconds(interval) ?? 5_000_000)
        repeat {
            let answer = try await client.get(
                ["metrics", "query"],
                query: query(nowMicros: Timestamp.nowMicroseconds())
            )
            if !watch { try await requireNames(of: answer, client) }
            try await show(answer, client)
            if watch { try await Task.sleep(for: pause) }
        } while watch
    }

    private func query(nowMicros: Int64) -> [(String, String?)] {
        let start = timeframe.flatMap { TimeSpan.microseconds($0) }.map {
            Timestamp.format(microseconds: nowMicros - $0)
        }
        var query: [(String, String?)] = FieldBuilder.split(metricNames).map { ("name", $0) }
        query.append(("aggregation", aggregation?.lowercased()))
        for key in FieldBuilder.split(groupBy) { query.append(("group_by", key)) }
        query.append(("top_k", topK.map { "\($0)" }))
        query.append(("bottom_k", bottomK.map { "\($0)" }))
        query.append(("pipeline", pipeline))
        query.append(("function", function))
        query.append(("since", start ?? since))
        query.append(("end", end))
        query.append(("max_points", "\(maxPoints)"))
        return query
    }

    /// Refuses metrics that do not exist, and pipelines and functions that have nothing because they do not exist.
    private func requireNames(of answer: JSONValue, _ client: EngineClient) async throws {
        let missing = (answer["missing"]?.arrayValue ?? []).compactMap(\.stringValue)
        guard !missing.isEmpty else { return }
        let known = EngineClient.items(try await client.get(["metrics", "names"])).compactMap {
            $0["name"]?.stringValue
        }
        if let name = missing.first(where: { !known.contains($0) }) {
            throw EngineClient.unknown("metric", name, among: known, list: "martlet metrics names")
        }
        try await client.requireNames(["metrics", "names"], pipeline: pipeline, function: function)
    }

    private func show(_ answer: JSONValue, _ client: EngineClient) async throws {
        let charts = MetricChart.all(answer)
        if let svg {
            let text = SVGChart.text(charts)
            if svg == "-" { return try client.session.output.write(text.utf8) }
            guard !charts.isEmpty else {
                throw CommandFailure(.notFound, "there is nothing to draw: no points of these metrics in that time")
            }
            try Self.write(text, to: svg)
            if !watch { try client.note("drew \(svg)") }
            return
        }
        switch client.settings.format {
        case .json where watch: try client.session.output.line(answer.text)
        case .json, .yaml: try client.print(answer) { "" }
        case .csv: try client.session.output.write(Self.csv(answer).utf8)
        case .human:
            let width = client.width ?? 100
            var text = charts.map { TerminalChart($0, width: width, rows: height, style: client.style).text() }
                .joined(separator: "\n")
            if watch, client.session.output.isTerminal { text = "\u{1B}[H\u{1B}[2J" + text }
            try client.session.output.write(text.utf8)
            try note(answer, client)
        }
    }

    private func note(_ answer: JSONValue, _ client: EngineClient) throws {
        let missing = (answer["missing"]?.arrayValue ?? []).compactMap(\.stringValue)
        if !missing.isEmpty {
            try client.note(
                "no points of \(missing.joined(separator: ", ")) in that time; look further back with --timeframe, "
                    + "or list what there is with: martlet metrics names"
            )
        }
        if let count = answer["groups_left_out"]?.intValue, count > 0, topK == nil, bottomK == nil {
            try client.note("\(count) more groups are not in the answer; choose with --top-k or --bottom-k")
        }
    }

    private static func write(_ text: String, to path: String) throws {
        do {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        } catch {
            throw CommandFailure(
                .failure,
                "cannot write \(path): \(error.localizedDescription)",
                fix: "check that the folder is there and can be written"
            )
        }
    }

    /// A row for each value: time, metric, aggregation, the keys grouped by, value, samples.
    static func csv(_ answer: JSONValue) -> String {
        let keys = (answer["group_by"]?.arrayValue ?? []).compactMap(\.stringValue)
        var lines = [(["time", "name", "type", "unit", "aggregation"] + keys + ["value", "count"])]
        for series in answer["series"]?.arrayValue ?? [] {
            let head = ["name", "type", "unit", "aggregation"].map { series[$0]?.stringValue ?? "" }
            let group = keys.map { series["group"]?[$0]?.stringValue ?? "" }
            for point in series["points"]?.arrayValue ?? [] {
                lines.append(
                    [point["time"]?.stringValue ?? ""] + head + group + [
                        point["value"]?.text ?? "", point["count"]?.text ?? "0",
                    ]
                )
            }
        }
        return lines.map { $0.map(quoted).joined(separator: ",") + "\n" }.joined()
    }

    private static func quoted(_ cell: String) -> String {
        guard cell.contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return cell }
        return "\"" + cell.replacing("\"", with: "\"\"") + "\""
    }
}
