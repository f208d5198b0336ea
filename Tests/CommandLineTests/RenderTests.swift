// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import MartletCore
import Testing

/// The parts that draw text, without a server.
@Suite struct RenderTests {
    static let plain = Style(isEnabled: false)

    @Test(
        arguments: [
            ("abc", 3), ("", 0), ("日本", 4), ("e\u{301}", 1), ("👩‍👩‍👧", 2), ("🇨🇭", 2), ("❤️", 2), ("ｆｕｌｌ", 8), ("한글", 4),
            ("\u{200B}", 0),
            ("naïve", 5),
        ]
    )
    func widthIsWhatATerminalShows(_ text: String, _ width: Int) {
        #expect(DisplayWidth.of(text) == width)
    }

    @Test(arguments: [
        ("abcdef", 4, "abc…"), ("abc", 3, "abc"), ("日本語", 4, "日…"), ("日本語", 5, "日本…"), ("ab", 1, "…"), ("ab", 0, ""),
    ])
    func cuttingKeepsWithinTheColumns(_ text: String, _ columns: Int, _ expected: String) {
        #expect(DisplayWidth.truncate(text, to: columns) == expected)
    }

    @Test(
        arguments: [
            (0, "0 µs"), (999, "999 µs"), (1000, "1 ms"), (1234, "1.23 ms"), (1050, "1.05 ms"), (12_400, "12.4 ms"),
            (123_456, "123 ms"), (999_999, "1000 ms"), (1_500_000, "1.5 s"), (59_940_000, "59.9 s"),
            (125_000_000, "2 min 5 s"),
            (3_780_000_000, "1 h 3 min"), (-1500, "-1.5 ms"),
        ] as [(Int64, String)]
    )
    func durationsHaveTheRightUnit(_ micros: Int64, _ expected: String) {
        #expect(Quantity.duration(microseconds: micros) == expected)
    }

    @Test(
        arguments: [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (12_582_912, "12 MiB")]
            as [(Int64, String)]
    )
    func sizesAreBinary(_ bytes: Int64, _ expected: String) {
        #expect(Quantity.size(bytes: bytes) == expected)
    }

    @Test(
        arguments: [("5m", 300_000_000), ("1h30m", 5_400_000_000), ("250ms", 250_000), ("0s", 0)] as [(String, Int64)]
    )
    func spansOfTimeAreRead(_ text: String, _ micros: Int64) {
        #expect(TimeSpan.microseconds(text) == micros)
    }

    @Test(arguments: ["", "5", "m", "5x", "-5m", "5m!", "99999999999999999999s", "9223372036854775807w"])
    func otherTextIsNoSpanOfTime(_ text: String) {
        #expect(TimeSpan.microseconds(text) == nil)
    }

    @Test func tableShrinksTheWidestFlexibleColumnFirst() {
        let table = TextTable(
            columns: [
                .init("Id"), .init("Short", isFlexible: true), .init("Long", isFlexible: true),
                .init("N", isRight: true),
            ],
            rows: [["identifier", "0123456789", String(repeating: "x", count: 50), "7"]]
        )
        #expect(
            table.text(width: 45, style: Self.plain)
                == "Id          Short       Long                N\nidentifier  0123456789  xxxxxxxxxxxxxxxxx…  7\n"
        )
        #expect(table.text(width: nil, style: Self.plain).contains(String(repeating: "x", count: 50)))
    }

    static func span(
        _ id: String,
        _ parent: String?,
        _ name: String,
        _ start: Int64,
        _ duration: Int64,
        status: String = "OK",
        message: String? = nil
    ) -> JSONValue {
        [
            "span_id": .string(id), "parent_span_id": parent.map { .string($0) } ?? .null, "name": .string(name),
            "start_micros": .int(1_000_000 + start), "duration_micros": .int(duration), "status": .string(status),
            "status_message": message.map { .string($0) } ?? .null,
        ]
    }

    @Test func spanTreeShowsNestingBarsAndErrors() {
        let tree = SpanTree(spans: [
            Self.span("d", "c", "rows files", 6000, 1500),
            Self.span("a", nil, "element trigger frames", 0, 10_000),
            Self.span("b", "a", "topic events", 500, 500, status: "UNSET"),
            Self.span("c", "a", "handler exr", 2000, 8000, status: "ERROR", message: "ValueError: bad magic\nmore"),
        ])
        #expect(
            tree.text(width: 80, style: Self.plain) == """
                element trigger frames    +0 µs  ████████████████████   10 ms  OK
                ├─ topic events         +500 µs   █                    500 µs
                └─ ✗ handler exr          +2 ms      ████████████████    8 ms  ERROR  ◀ slowest
                   │ ! ValueError: bad magic
                   └─ rows files          +6 ms              ███       1.5 ms  OK

                """
        )
    }

    @Test func theWaitForACommitIsShownAndNeitherLongNorSlow() {
        var commit = Self.span("c", "b", "table trips", 9_800_000, 4000)
        guard case .object(var object) = commit else { return }
        object["attributes"] = ["martlet.wait_micros": "9797000"]
        commit = .object(object)
        let spans = [
            Self.span("a", nil, "trigger", 0, 1000), Self.span("b", "a", "function f", 1000, 2000, status: "UNSET"),
            commit,
        ]
        let tree = SpanTree(spans: spans)
        #expect(tree.durationMicros == 3000)
        #expect(tree.slowestText == "function f, 2 ms of its own (67 %)")
        let text = tree.text(width: nil, style: Self.plain)
        #expect(text.contains("table trips (waited 9.8 s for its commit)"))
        #expect(text.split(separator: "\n").first { $0.contains("table trips") }?.contains("slowest") == false)
        // Where there is nothing else, it is what there is.
        #expect(SpanTree(spans: [commit]).durationMicros == 4000)
    }

    @Test func spanTreeNamesTheSlowestAndTheFailedHop() {
        let spans = [
            Self.span("a", nil, "trigger", 0, 1000), Self.span("b", "a", "dispatch", 1000, 2000, status: "UNSET"),
            Self.span("c", "b", "function f", 3000, 6000, status: "ERROR", message: "KeyError: 'x'"),
            Self.span("d", "c", "rows", 3500, 500),
        ]
        func log(_ span: String, _ text: String) -> JSONValue {
            [
                "span_id": .string(span), "severity": "INFO", "scope": "user", "time": "2026-01-01T00:00:00.000000Z",
                "message": .string(text),
            ]
        }
        let tree = SpanTree(spans: spans, logs: (1...5).map { log("c", "line \($0)\nmore") } + [log("d", "unseen")])
        #expect(tree.slowestText == "function f, 5.5 ms of its own (61 %)")
        #expect(tree.failureText == "function f: KeyError: 'x'")
        let lines = tree.text(width: nil, style: Self.plain).split(separator: "\n").map(String.init)
        #expect(lines.count == 8)
        #expect(lines[2].contains("✗ function f") && lines[2].hasSuffix("ERROR  ◀ slowest"))
        #expect(lines[3].hasSuffix("! KeyError: 'x'"))
        #expect(lines[4...6].map { String($0.suffix(8)) } == ["line 3 …", "line 4 …", "line 5 …"])
        #expect(SpanTree(spans: [spans[0]]).slowestText == nil)
    }

    @Test func spanTreeWithoutUnicodeUsesASCII() {
        let tree = SpanTree(spans: [Self.span("a", nil, "a", 0, 100), Self.span("b", "a", "b", 0, 100)])
        let text = tree.text(width: 70, style: Style(isEnabled: false, isUnicode: false))
        #expect(text.contains("`- b") && text.contains("##########"))
        #expect(text.replacing("µ", with: "u").utf8.allSatisfy { $0 < 0x80 })
    }

    @Test func orphansAndCyclesAreShownOnce() {
        let tree = SpanTree(spans: [
            Self.span("x", "gone", "orphan", 5, 1), Self.span("a", "b", "first", 0, 1),
            Self.span("b", "a", "second", 1, 1),
            Self.span("s", "s", "itself", 2, 1),
        ])
        let lines = tree.text(width: nil, style: Self.plain).split(separator: "\n")
        #expect(lines.count == 4)
        for name in ["orphan", "first", "second", "itself"] {
            #expect(lines.count { $0.contains(name) } == 1)
        }
        #expect(SpanTree(spans: []).text(width: 80, style: Self.plain).isEmpty)
    }

    @Test func yamlReadsBackWhatItWrites() throws {
        let value: JSONValue = [
            "a": "1", "b": 1, "c": 1.5, "d": true, "e": nil, "f": ["x", ["y": "no"]], "g": "line\nline", "h": "",
            "i": "~",
            "j": "2026-04-08", "k": " padded ", "l": "#", "m": "0x10", "key: x": "- v", "n": "trailing \nspace",
        ]
        let text = try YAMLText.write(value)
        #expect(try YAMLText.read(Array(text.utf8), name: "x") == value)
    }

    @Test func yamlKeepsTheOrderOfKeysAndTakesJSON() throws {
        let value = try YAMLText.read(Array("z: 1\na: {y: 2, b: 2026-04-08}\n".utf8), name: "x")
        #expect(value == ["z": 1, "a": ["y": 2, "b": "2026-04-08"]])
        #expect(try YAMLText.read(Array(#"{"b":1,"a":[true]}"#.utf8), name: "x") == ["b": 1, "a": [true]])
        #expect(throws: CommandFailure.self) { try YAMLText.read(Array("a: 1\na: 2\n".utf8), name: "x") }
    }
}
