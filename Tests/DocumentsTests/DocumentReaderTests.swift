// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import MartletCore
import Testing

struct DocumentReaderTests {
    private func reader(_ text: String) throws -> DocumentReader {
        DocumentReader(try DocumentParser.parse(text), what: "a trigger")
    }

    private func faults(_ reader: DocumentReader) -> [ServiceError.FieldError] {
        do {
            try reader.finish()
            return []
        } catch {
            return error.fields
        }
    }

    @Test func readsEveryKindOfField() throws {
        let reader = try reader(
            """
            name: 12
            size: "30"
            ratio: 0.50
            flag: True
            tags: a, b ,c
            events: [x, 1]
            map: {A: 1.10, B: null, C: text}
            inner: {deep: yes}
            list: [{n: 1}, {n: 2}]
            level: debug
            none: null
            """
        )
        #expect(reader.string("name") == "12")
        #expect(reader.int("size", in: 1...100) == 30)
        #expect(reader.double("ratio") == 0.5)
        #expect(reader.bool("flag") == true)
        #expect(reader.strings("tags") == ["a", "b", "c"])
        #expect(reader.strings("event", aliases: ["events"]) == ["x", "1"])
        #expect(reader.map("map")?.map(\.value) == ["1.10", "", "text"])
        #expect(reader.object("inner")?.string("deep") == "yes")
        #expect(reader.objects("list")?.compactMap { $0.int("n") } == [1, 2])
        #expect(reader.choice("level", of: ["INFO", "DEBUG"]) == "DEBUG")
        #expect(reader.string("none") == nil)
        #expect(reader.string("absent") == nil)
        try reader.finish()
    }

    @Test func reportsEveryFaultWithPathLineAndFixInTheOrderOfLines() throws {
        let reader = try reader(
            """
            naem: x
            size: 900
            flag: perhaps
            list:
              - n: one
                extra: 1
            level: DEBG
            """
        )
        _ = reader.string("name", required: true)
        _ = reader.choice("level", of: ["INFO", "DEBUG"])
        _ = reader.int("size", in: 1...100)
        _ = reader.bool("flag")
        _ = reader.objects("list", what: "an entry")?.map { $0.int("n") }
        let faults = faults(reader)
        #expect(faults.map(\.field) == ["name", "naem", "size", "flag", "list[0].n", "list[0].extra", "level"])
        #expect(faults.map(\.line) == [1, 1, 2, 3, 5, 6, 7])
        #expect(faults[1].fix == "write 'name'")
        #expect(faults[2].fix == "write a whole number from 1 to 100")
        #expect(faults[5].message == "unknown field 'extra' in an entry")
        #expect(faults[5].fix == "fields here: n")
        #expect(faults[6].fix == "write DEBUG")
    }

    @Test func refusesTwoSpellingsThatDiffer() throws {
        let same = try reader("topic: a\ntopic_name: a")
        #expect(same.string("topic_name", aliases: ["topic"]) == "a")
        #expect(faults(same).isEmpty)
        let different = try reader("topic: a\ntopic_name: b")
        _ = different.string("topic_name", aliases: ["topic"])
        #expect(faults(different).map(\.field) == ["topic"])
    }

    @Test(arguments: ["[1]", "text", "", "3"]) func refusesADocumentThatIsNoObject(text: String) throws {
        let reader = try reader(text)
        #expect(faults(reader).first?.message.contains("must be a trigger") == true)
    }

    @Test func boundsTheNumberOfFaults() throws {
        let text = (0..<5000).map { "field\($0): 1" }.joined(separator: "\n")
        #expect(faults(try reader(text)).count == 100)
    }

    @Test(
        arguments: [
            ("sorce", "source"), ("nmae", "name"), ("function_deployment", "function_deployments"), ("zzz", nil),
            ("", nil),
        ] as [(String, String?)]
    )
    func findsTheNearestName(written: String, meant: String?) {
        let names = ["name", "source", "function_deployments", "links"]
        #expect(NearestName.of(written, among: names) == meant)
    }
}
