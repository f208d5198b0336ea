// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore
import Testing

struct DocumentParserTests {
    private func refusal(_ text: String, _ type: String? = nil) throws -> ServiceError {
        do {
            let document = try DocumentParser.parse(text, contentType: type)
            Issue.record("accepted as \(document.value)")
        } catch {
            return error
        }
        return ServiceError(.internal, "accepted")
    }

    @Test func readsYAMLByTheCoreSchemaAndKeepsTextThatANumberWouldChange() throws {
        let text = """
            int: 12
            negative: -3
            float: 0.5
            padded: 007
            version: 1.10
            huge: 123456789012345678901234567890
            yes: yes
            on: on
            truth: true
            Truth: True
            nothing:
            tilde: ~
            quoted: "12"
            tagged: !!str 12
            date: 2026-04-08
            block: |
              one
              two
            list: [a, 1, null]
            """
        let value = try DocumentParser.parse(text, contentType: "application/yaml").value
        #expect(value["int"] == .int(12))
        #expect(value["negative"] == .int(-3))
        #expect(value["float"] == .double(0.5))
        #expect(value["padded"] == .string("007"))
        #expect(value["version"] == .string("1.10"))
        #expect(value["huge"] == .string("123456789012345678901234567890"))
        #expect(value["yes"] == .string("yes"))
        #expect(value["on"] == .string("on"))
        #expect(value["truth"] == .bool(true))
        #expect(value["Truth"] == .string("True"))
        #expect(value["nothing"] == .null)
        #expect(value["tilde"] == .null)
        #expect(value["quoted"] == .string("12"))
        #expect(value["tagged"] == .string("12"))
        #expect(value["date"] == .string("2026-04-08"))
        #expect(value["block"] == .string("one\ntwo\n"))
        #expect(value["list"] == .array([.string("a"), .int(1), .null]))
    }

    @Test(arguments: [
        ("{\n  \"a\": 1,\n  \"b\": {\"c\": [1,\n 2]}\n}", "application/json"),
        ("{\n  \"a\": 1,\n  \"b\": {\"c\": [1,\n 2]}\n}", "application/yaml"),
        ("# note\na: 1\nb: {c: [1,\n 2]}\n", "text/yaml; charset=utf-8"),
    ]) func remembersTheLineOfEveryField(text: String, type: String) throws {
        let document = try DocumentParser.parse(text, contentType: type)
        #expect(document.lines["a"] == 2)
        #expect(document.lines["b.c"] == 3)
        #expect(document.lines["b.c[0]"] == 3)
        #expect(document.lines["b.c[1]"] == 4)
    }

    @Test func jsonOfOneLineHasNoLines() throws {
        #expect(try DocumentParser.parse("{\"a\": 1}", contentType: "application/json").lines.isEmpty)
        #expect(try refusal("{\"a\": 1,}", "application/json").message.hasPrefix("line 1, column 9: malformed JSON"))
    }

    @Test func guessesTheLanguageWithoutAMediaType() throws {
        #expect(try DocumentParser.parse("{\"a\": 1}").value["a"] == .int(1))
        #expect(try DocumentParser.parse("{a: 1}").value["a"] == .int(1))
        #expect(try DocumentParser.parse("a: 1").value["a"] == .int(1))
        #expect(try refusal("{\"a\": 1").message.contains("JSON"))
    }

    @Test func skipsAByteOrderMark() throws {
        let bytes: [UInt8] = [0xEF, 0xBB, 0xBF] + Array("{\"a\":1}".utf8)
        #expect(try DocumentParser.parse(bytes, contentType: "application/json").value["a"] == .int(1))
    }

    @Test func anEmptyDocumentIsNull() throws {
        #expect(try DocumentParser.parse("", contentType: "application/yaml").value == .null)
        #expect(try DocumentParser.parse("# only a note\n").value == .null)
    }

    @Test func mergesMappings() throws {
        let text = "base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nboth: {<<: [*b, {z: 4}]}\n"
        let value = try DocumentParser.parse(text).value
        #expect(value["use"]?["x"] == .int(1))
        #expect(value["use"]?["y"] == .int(3))
        #expect(value["both"]?["z"] == .int(4))
    }

    @Test(
        arguments: [
            ("a: 1\nb: 2\na: 3\n", nil, 3, "'a' is given twice"),
            ("{\"a\": 1,\n\"a\": 2}", "application/json", 2, "'a' is given twice"),
            ("x:\n  k: 1\n  \"k\": 2\n", nil, 3, "'k' is given twice"),
            ("x: {1: a, \"1\": b}\n", nil, 1, "'1' is given twice"),
            ("a: 1\n---\nb: 2\n", nil, 2, "second YAML document"),
            ("a: [1, 2\nb: 3\n", nil, 2, "malformed YAML"),
            ("a: b: c\n", nil, 1, "malformed YAML"),
            ("a:\n  b: 1\n \tc: 2\n", nil, 3, "line 3, column 2: malformed YAML, the line is indented with a TAB"),
            ("a:\n\tb: 1\n", nil, 2, "line 2, column 1: malformed YAML, the line is indented with a TAB"),
            ("a: *nowhere\n", nil, 1, "undefined alias"),
            ("a: !custom 1\n", nil, 1, "unknown tag"),
            ("a: !!int x\n", nil, 1, "does not fit"),
            ("{\"a\": 01}", "application/json", 1, "malformed JSON"),
            ("{\"a\":\n 1,}", "application/json", 2, "line 2, column 4: malformed JSON"),
            ("{'a': 1}", "application/json", 1, "malformed JSON"),
            ("[1] 2", "application/json", 1, "malformed JSON"),
            ("? [a, b]\n: 1\n", nil, 1, "key must be text"),
            ("a: \u{1}\n", nil, 1, "control characters"),
        ] as [(String, String?, Int, String)]
    )
    func refusesMalformedTextWithItsLine(text: String, type: String?, line: Int, words: String) throws {
        let error = try refusal(text, type)
        #expect(error.code == .invalid)
        #expect(error.message.contains(words), "\(error.message)")
        #expect(error.fields.first?.line == line, "\(error)")
    }

    @Test func namesTheByteThatIsNotUTF8() throws {
        var bytes = Array("a: 1\nb: x\n".utf8)
        bytes.insert(0xFF, at: 8)
        let error = #expect(throws: ServiceError.self) { _ = try DocumentParser.parse(bytes, contentType: nil) }
        #expect(error?.message.contains("byte offset 8, line 2") == true, "\(String(describing: error))")
    }

    @Test func refusesTextsThatAreTooLarge() throws {
        let bytes = [UInt8](repeating: 0x20, count: DocumentParser.bytesMax + 1)
        let error = #expect(throws: ServiceError.self) { _ = try DocumentParser.parse(bytes, contentType: nil) }
        #expect(error?.code == .tooLarge)
    }

    @Test(.timeLimit(.minutes(5)), arguments: ["value", "merge", "key", "flow key"])
    func refusesAliasBombs(kind: String) throws {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        if kind == "merge" { text = "a0: &a0 {x: 1}\n" }
        for level in 1...12 {
            let list = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
            text += kind == "merge" ? "a\(level): &a\(level) {<<: [\(list)]}\n" : "a\(level): &a\(level) [\(list)]\n"
        }
        if kind == "key" { text += "? *a12\n: 1\n" }
        if kind == "flow key" { text += "b: {[*a12]: 1}\n" }
        let error = try refusal(text)
        #expect(error.code == (kind.contains("key") ? .invalid : .tooLarge), "\(error)")
    }

    @Test(.timeLimit(.minutes(5))) func refusesMoreEntriesThanAreRead() throws {
        let list = "[" + String(repeating: "x,", count: 4_000_000) + "x]"
        #expect(try refusal(list, "application/yaml").code == .tooLarge)
        let numbers = "[" + String(repeating: "1,", count: 1_100_000) + "1]"
        #expect(try refusal(numbers, "application/json").code == .tooLarge)
    }

    @Test func refusesDeepNesting() throws {
        let depth = 100_000
        let text = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        #expect(try refusal(text, "application/json").code == .invalid)
        #expect(try refusal(text, "application/yaml").code == .invalid)
    }
}
