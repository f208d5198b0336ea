// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Foundation
import MartletCore
import Testing

@Suite struct ChartTests {
    private static let start: Int64 = 1_700_002_800_000_000
    private static let plain = Style(isEnabled: false)

    /// An answer of `/metrics/query` over ten minutes in ten buckets.
    private static func answer(
        _ groups: [(String, [Double?])],
        unit: String = "ms",
        type: String = "Histogram",
        aggregation: String = "p95"
    ) -> JSONValue {
        let series = groups.map { name, values -> JSONValue in
            let points = values.enumerated().map { index, value -> JSONValue in
                let time = Timestamp.format(microseconds: start + Int64(index) * 60_000_000)
                return value.map { ["time": .string(time), "value": .double($0), "count": 1] }
                    ?? ["time": .string(time), "count": 0]
            }
            return [
                "name": "m.name", "type": .string(type), "unit": .string(unit), "aggregation": .string(aggregation),
                "group": ["function_name": .string(name)], "total": 7.5, "count": 3, "points": .array(points),
            ]
        }
        return [
            "since": .string(Timestamp.format(microseconds: start)),
            "end": .string(Timestamp.format(microseconds: start + 600_000_000)), "step_seconds": 60,
            "group_by": ["function_name"], "series": .array(series), "missing": [], "groups_left_out": 0,
        ]
    }

    @Test(
        arguments: [
            ([0.0, 87], "ms", "p95", "ms", ["0", "20", "40", "60", "80", "100"]),
            ([0, 2500], "ms", "p95", "s", ["0", "0.5", "1", "1.5", "2", "2.5"]),
            ([0, 0.4], "ms", "avg", "µs", ["0", "100", "200", "300", "400"]),
            ([0, 3 * 1048576.0], "By", "avg", "MiB", ["0", "1", "2", "3"]),
            ([0, 0], "{x}", "sum", "", ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            ([-3, 4], "{x}", "sum", "", ["-4", "-2", "0", "2", "4"]),
            ([0, 90_000], "{x}", "rate", "/s", ["0", "20k", "40k", "60k", "80k", "100k"]),
        ] as [([Double], String, String, String, [String])]
    )
    func marksAreRoundAndFit(
        _ values: [Double],
        _ unit: String,
        _ aggregation: String,
        _ shown: String,
        _ labels: [String]
    ) {
        let axis = ValueAxis(values: values, unit: unit, aggregation: aggregation, count: 5, mayFloat: false)
        #expect(axis.unit == shown)
        #expect(axis.ticks.map(\.label) == labels)
        #expect(axis.low <= (values.min() ?? 0) && axis.high >= (values.max() ?? 0))
    }

    @Test func anAxisOfGaugesMayFloat() {
        let axis = ValueAxis(values: [900, 910], unit: "", aggregation: "avg", count: 5, mayFloat: true)
        #expect(axis.low == 900 && axis.high == 910)
    }

    @Test func timesAreMarkedAtRoundMoments() {
        let hour = TimeAxis(since: Self.start + 90_000_000, end: Self.start + 3_690_000_000, count: 6)
        #expect(hour.ticks.map(\.label) == ["23:10", "23:20", "23:30", "23:40", "23:50", "00:00"])
        let week = TimeAxis(since: Self.start, end: Self.start + 7 * 86_400_000_000, count: 7)
        #expect(week.ticks.first?.label == "11-15" && week.ticks.count == 7)
        let minute = TimeAxis(since: Self.start, end: Self.start + 60_000_000, count: 4)
        #expect(minute.ticks.map(\.label) == ["23:00:00", "23:00:15", "23:00:30", "23:00:45", "23:01:00"])
    }

    @Test func numbersCarryTheirUnit() {
        #expect(MetricNumber.text(12.4, unit: "ms", aggregation: "avg") == "12.4 ms")
        #expect(MetricNumber.text(0.25, unit: "ms", aggregation: "p50") == "250 µs")
        #expect(MetricNumber.text(90, unit: "s", aggregation: "max") == "1 min 30 s")
        #expect(MetricNumber.text(1536, unit: "By", aggregation: "rate") == "1.5 KiB/s")
        #expect(MetricNumber.text(12_345, unit: "{x}", aggregation: "sum") == "12.3k")
        #expect(MetricNumber.text(9999, unit: "{x}", aggregation: "sum") == "9999")
        #expect(MetricNumber.text(2.5, unit: "ms", aggregation: "count") == "2.5")
        #expect(MetricNumber.text(2.5, unit: "ms", aggregation: "rate") == "2.5/s")
        #expect(MetricNumber.text(-0.0004, unit: "", aggregation: "avg") == "0")
        #expect(MetricNumber.text(nil, unit: "ms", aggregation: "avg") == "-")
    }

    @Test func drawsALineWithAxesAndLegend() throws {
        let chart = try #require(
            MetricChart.all(Self.answer([("exr", [0, 10, 20, 30, 40, nil, 40, 30, 20, 10])])).first
        )
        let text = TerminalChart(chart, width: 60, rows: 6, style: Self.plain).text()
        let lines = text.split(separator: "\n").map(String.init)
        #expect(lines[0] == "m.name  p95 of each 1 min  2023-11-14 23:00 to 23:10 UTC")
        #expect(lines[1].hasSuffix("ms"))
        #expect(lines[2].hasPrefix("  40 ┤") && lines[7].hasPrefix("   0 ┤"))
        #expect(lines[8].hasPrefix("     └") && lines[8].contains("┬"))
        #expect(lines[9].contains("23:00") || lines[9].contains("23:02"))
        #expect(lines[11].hasPrefix("━ exr  "))
        #expect(lines[11].contains("10 ms") && lines[11].contains("7.5 ms"))
        #expect(lines.allSatisfy { DisplayWidth.of($0) <= 62 })
        #expect(text.unicodeScalars.contains { (0x2801...0x28FF).contains($0.value) })
    }

    @Test func linesAreToldApartWithoutColourAndWithoutUnicode() throws {
        let chart = try #require(
            MetricChart.all(Self.answer([("one", [1, 2, 3]), ("two", [3, 2, 1])], unit: "By")).first
        )
        let letters = TerminalChart(chart, width: 60, style: Self.plain).text()
        #expect(letters.contains("a one") && letters.contains("b two"))
        let ascii = TerminalChart(chart, width: 60, style: Style(isEnabled: false, isUnicode: false)).text()
        #expect(ascii.utf8.allSatisfy { $0 < 0x80 })
        let coloured = TerminalChart(chart, width: 60, style: Style(isEnabled: true)).text()
        #expect(coloured.contains("\u{1B}[36m━\u{1B}[0m one") && coloured.contains("\u{1B}[33m━\u{1B}[0m two"))
    }

    @Test func tooManyGroupsAreCounted() throws {
        let chart = try #require(MetricChart.all(Self.answer((0..<14).map { ("f\($0)", [Double($0)]) })).first)
        #expect(chart.lines.count == MetricChart.linesMax && chart.linesLeftOut == 4)
        #expect(TerminalChart(chart, width: 80, style: Self.plain).text().contains("4 more groups"))
    }

    @Test func svgIsWellFormedWhateverTheNamesAre() throws {
        let answer = Self.answer([("a<b>&\"c\"\u{1}", [1, nil, 3, 4]), ("other", [nil, nil, nil, 2])])
        let text = SVGChart.text(MetricChart.all(answer))
        #expect(text.contains("a&lt;b&gt;&amp;&quot;c&quot;") && !text.contains("\u{1}"))
        #expect(text.contains("prefers-color-scheme: dark"))
        #expect(text.components(separatedBy: "class=\"line ").count == 2)
        #expect(text.contains("<title>other: 2 ms, 2023-11-14 23:03:00 UTC</title>"))
        // Every element that is opened is closed.
        var open: [String] = []
        for part in text.split(separator: "<") {
            let tag = String(part.prefix { $0 != ">" })
            if tag.hasPrefix("/") {
                #expect(open.popLast() == String(tag.dropFirst()))
            } else if !tag.hasSuffix("/") {
                open.append(String(tag.prefix { $0 != " " }))
            }
        }
        #expect(open.isEmpty)
    }

    @Test func csvHasARowForEachValue() async throws {
        let text = Self.answer([("a,b", [1, nil])]).text
        try await CannedServer.with({ _ in .json(text) }) { server in
            let run = try await CommandRun.run(
                ["metrics", "get", "-m", "m.name", "-g", "function_name", "-o", "csv"],
                server: server.address
            )
            #expect(
                run.output == """
                    time,name,type,unit,aggregation,function_name,value,count
                    2023-11-14T23:00:00.000000Z,m.name,Histogram,ms,p95,"a,b",1.0,1
                    2023-11-14T23:01:00.000000Z,m.name,Histogram,ms,p95,"a,b",,0

                    """
            )
        }
    }

    @Test func svgGoesToAFileAndNothingToDrawIsSaid() async throws {
        let full = Self.answer([("f", [1, 2])]).text
        let folder = FileManager.default.temporaryDirectory.appending(path: "martlet-chart-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "c.svg").path
        try await CannedServer.with({ _ in .json(full) }) { server in
            let run = try await CommandRun.run(
                ["metrics", "get", "-m", "m.name", "--svg", file],
                server: server.address
            )
            #expect(run.status == .success && run.output.isEmpty)
            #expect(try String(contentsOfFile: file, encoding: .utf8).hasPrefix("<svg "))
            let lost = try await CommandRun.run(
                ["metrics", "get", "-m", "m.name", "--svg", folder.path + "/none/c.svg"],
                server: server.address
            )
            #expect(lost.status == .failure && lost.errors.contains("cannot write"))
        }
        let empty = Self.answer([]).text.replacing(#""missing":[]"#, with: #""missing":["m.name"]"#)
        let names = #"{"data":[{"name":"m.name"}]}"#
        try await CannedServer.with({ $0.target.hasSuffix("names") ? .json(names) : .json(empty) }) { server in
            let run = try await CommandRun.run(["metrics", "get", "-m", "m.name"], server: server.address)
            #expect(run.status == .success && run.output.isEmpty)
            #expect(run.errors.contains("no points of m.name"))
        }
    }
}
