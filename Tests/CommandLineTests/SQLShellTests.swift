// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Testing

@Suite struct SQLShellTests {
    @Test func statementsEndAtSemicolonsOutsideOfQuotesAndComments() {
        let cases: [(text: String, statements: [String], rest: String)] = [
            ("select 1; select 2;", ["select 1", "select 2"], ""),
            ("select ';' ; from \"a;b\"", ["select ';'"], " from \"a;b\""),
            ("select 'it''s;'; x", ["select 'it''s;'"], " x"),
            ("select e'\\';'; y", ["select e'\\';'"], " y"),
            ("select 1 -- not ; here\n + 2; z", ["select 1 -- not ; here\n + 2"], " z"),
            ("/* ; /* ; */ ; */ select 1;", ["/* ; /* ; */ ; */ select 1"], ""),
            ("select $$;$$, $a$ ; $$ $a$; select $1;", ["select $$;$$, $a$ ; $$ $a$", "select $1"], ""),
            (";; -- nothing\n ;", [], ""), ("select 'open;", [], "select 'open;"),
        ]
        for item in cases {
            let (statements, rest) = StatementSplitter.split(item.text)
            #expect(statements == item.statements, "\(item.text)")
            #expect(rest == item.rest, "\(item.text)")
        }
        #expect(StatementSplitter.all("select 1;\n from x -- end") == ["select 1", "from x -- end"])
        #expect(StatementSplitter.isBlank(" -- a\n /* b */ "))
        #expect(!StatementSplitter.isBlank(" - 1"))
    }

    @Test func keysComeInPieces() {
        var decoder = KeyDecoder()
        #expect(decoder.decode(Array("ab\u{1B}[A\r".utf8)) == [.text("ab"), .up, .enter])
        #expect(decoder.decode([0xE6]) == [])
        #expect(decoder.decode([0x97, 0xA5, 0x7F]) == [.text("日"), .backspace])
        #expect(decoder.decode([0x1B]) == [])
        #expect(decoder.decode(Array("[1;5D\u{1B}b\u{1B}OH\u{1B}[3~".utf8)) == [.wordLeft, .alt("b"), .home, .delete])
        #expect(decoder.decode(Array("\u{1B}[200~a\tb\r\u{1B}[20".utf8)) == [])
        #expect(decoder.decode(Array("1~\u{03}".utf8)) == [.paste("a\tb\r"), .control("c")])
    }

    private func line(_ keys: [Key], history: [String] = []) -> LineBuffer {
        var buffer = LineBuffer(history: history)
        for key in keys { _ = buffer.handle(key) }
        return buffer
    }

    @Test func keysEditTheLine() {
        #expect(line([.text("selct 1"), .home, .right, .right, .right, .text("e")]).text == "select 1")
        #expect(line([.text("a b_c"), .control("w")]).text == "a ")
        #expect(line([.text("a b"), .wordLeft, .control("k"), .control("a"), .control("y")]).text == "ba ")
        #expect(line([.text("日本"), .left, .backspace]).text == "本")
        var buffer = LineBuffer(history: [])
        #expect(buffer.handle(.control("d")) == .end)
        _ = buffer.handle(.text("x"))
        #expect(buffer.handle(.control("d")) == .redraw)
        #expect(buffer.handle(.control("c")) == .cancel)
        #expect(buffer.handle(.enter) == .submit)
    }

    @Test func historyComesBackAndCanBeSearched() {
        let history = ["select 1", "from words", "select 2"]
        #expect(line([.text("new"), .up, .up], history: history).text == "from words")
        #expect(line([.text("new"), .up, .down], history: history).text == "new")
        #expect(line([.control("r"), .text("WORD")], history: history).text == "from words")
        #expect(line([.control("r"), .text("select"), .control("r"), .right], history: history).text == "select 1")
        #expect(line([.text("new"), .control("r"), .text("select"), .control("g")], history: history).text == "new")
    }

    @Test func namesKeywordsAndCommandsAreCompleted() {
        let completion = Completion(tables: [
            .init(name: "words", columns: ["word", "count"]), .init(name: "my files", columns: ["path"]),
        ])
        func found(_ head: String, _ statement: String? = nil) -> [String] {
            completion.result(head: head, statement: statement ?? head).candidates
        }
        #expect(found("SEL") == ["SELECT"])
        #expect(found("sel") == ["select"])
        #expect(found("from w") == ["words"])
        #expect(found("from ") == ["\"my files\"", "words"])
        #expect(found("from words where co") == ["count"])
        #expect(found("select words.") == ["count", "word"])
        #expect(found(".sc") == [".schema"])
        #expect(found(".mode j") == ["json"])
        #expect(found(".schema wo") == ["words"])
        #expect(completion.result(head: "select wor", statement: "select wor").commonPrefix == "word")
        #expect(found("select 'zzz") == [])
    }
}
