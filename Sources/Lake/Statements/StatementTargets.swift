// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The tables a statement says it changes, read from its first words.
///
/// It serves for messages that come before DuckDB's own: DuckDB's parser hands out no tree of statements that change something, and
/// an append table is none of DuckDB's. What is overlooked here is found in the catalog before the commit.
struct StatementTargets {
    /// What is done to a table.
    enum Action: Sendable {
        case create, createSchema, drop, alter, insert
        /// Rows that are there are changed or removed.
        case change
    }

    /// One name and what becomes of it.
    struct Target {
        var action: Action
        /// The name behind its qualifiers, without quotes.
        var path: [String]
    }

    /// What was found, in the order of the text.
    private(set) var found: [Target] = []
    private var words: [SQLWord] = []
    private var place = 0
    /// The rows of an INSERT, which may be many, name nothing that matters.
    private static let wordsMax = 10_000

    /// Reads a statement; nil where it changes nothing, as far as can be seen.
    init?(_ sql: String) {
        var scanner = SQLScanner(sql)
        guard let first = scanner.next() else { return nil }
        // Queries are not read to their end.
        if ["select", "from", "values", "table", "show", "describe", "summarize", "pivot", "unpivot"].contains(
            first.keyword
        ) {
            return nil
        }
        words = [first]
        while words.count < Self.wordsMax, let word = scanner.next() { words.append(word) }
        var depth = 0
        while place < words.count {
            let word = words[place]
            place += 1
            if word == .symbol("(") { depth += 1 }
            if word == .symbol(")") { depth -= 1 }
            guard depth == 0 else { continue }
            if word.keyword == "select" || word.keyword == "from" { break }
            if read(word.keyword) { break }
        }
        if found.isEmpty { return nil }
    }

    /// Reads what follows a verb; false where the word is none.
    private mutating func read(_ verb: String?) -> Bool {
        switch verb {
        case "insert", "replace":
            skip(["or", "replace", "ignore", "into"])
            note(.insert)
        case "update":
            skip(["or", "only"])
            note(.change)
        case "delete":
            skip(["from", "only"])
            note(.change)
        case "truncate":
            skip(["table", "only"])
            note(.change)
        case "merge":
            skip(["into"])
            note(.change)
        case "copy": note(.insert)
        case "create": readCreate()
        case "drop": readDrop()
        case "alter", "comment": readAlter()
        default: return false
        }
        return true
    }

    /// Kinds of things whose name is in the same space as those of tables.
    private static let tableKinds: Set = ["table", "view"]

    private mutating func readCreate() {
        skip([
            "or", "replace", "temp", "temporary", "persistent", "recursive", "materialized", "unique", "local",
            "global", "unlogged",
        ])
        guard let kind = next()?.keyword else { return }
        if kind == "index" {
            while let word = next(), word.keyword != "on" {}
            return note(.alter)
        }
        if kind == "trigger" {
            while let word = next(), word.keyword != "on" {}
            return note(.alter)
        }
        skip(["if", "not", "exists"])
        if kind == "schema" { note(.createSchema) } else if Self.tableKinds.contains(kind) { note(.create) }
    }

    private mutating func readDrop() {
        skip(["materialized"])
        guard let kind = next()?.keyword, Self.tableKinds.contains(kind) else { return }
        skip(["if", "exists"])
        repeat { note(.drop) } while take(.symbol(","))
    }

    private mutating func readAlter() {
        skip(["on", "materialized"])
        guard let kind = next()?.keyword, Self.tableKinds.contains(kind) else { return }
        skip(["if", "exists"])
        note(.alter)
        guard take(.plain("rename")), take(.plain("to")) else { return }
        note(.create)
    }

    // MARK: Words

    private mutating func next() -> SQLWord? {
        guard place < words.count else { return nil }
        defer { place += 1 }
        return words[place]
    }

    private mutating func take(_ word: SQLWord) -> Bool {
        guard place < words.count, words[place] == word || words[place].keyword.map({ .plain($0) }) == word else {
            return false
        }
        place += 1
        return true
    }

    private mutating func skip(_ keywords: Set<String>) {
        while place < words.count, let keyword = words[place].keyword, keywords.contains(keyword) { place += 1 }
    }

    private mutating func note(_ action: Action) {
        var path: [String] = []
        while place < words.count, let name = words[place].name {
            path.append(name)
            place += 1
            guard take(.symbol(".")) else { break }
        }
        if !path.isEmpty { found.append(Target(action: action, path: path)) }
    }
}

/// A word of a statement.
enum SQLWord: Equatable {
    /// A keyword or a name without quotes.
    case plain(String)
    /// A name in double quotes, without them.
    case quoted(String)
    case symbol(Character)
    /// A string or a number, which names nothing.
    case literal

    /// In lower case, where it can be a keyword.
    var keyword: String? {
        if case .plain(let text) = self { text.lowercased() } else { nil }
    }

    var name: String? {
        switch self {
        case .plain(let text), .quoted(let text): text
        case .symbol, .literal: nil
        }
    }
}

/// Cuts a statement into words, leaving out white space and comments.
struct SQLScanner {
    private var rest: Substring

    init(_ sql: String) {
        rest = sql[...]
    }

    mutating func next() -> SQLWord? {
        skipSpace()
        guard let first = rest.first else { return nil }
        if first == "\"" { return .quoted(quoted("\"")) }
        if first == "'" {
            _ = quoted("'")
            return .literal
        }
        if first == "$", let text = dollarQuoted() { return text }
        if Self.isLetter(first) {
            let word = rest.prefix { Self.isLetter($0) || $0.isNumber || $0 == "$" }
            rest = rest[word.endIndex...]
            return .plain(String(word))
        }
        if first.isNumber {
            let number = rest.prefix { $0.isNumber || $0 == "_" }
            rest = rest[number.endIndex...]
            return .literal
        }
        rest.removeFirst()
        return .symbol(first)
    }

    private static func isLetter(_ character: Character) -> Bool {
        character.isLetter || character == "_" || !character.isASCII && !character.isWhitespace && !character.isNumber
    }

    private mutating func skipSpace() {
        while let first = rest.first {
            if first.isWhitespace {
                rest.removeFirst()
            } else if rest.hasPrefix("--") {
                rest = rest.drop { !$0.isNewline }
            } else if rest.hasPrefix("/*") {
                skipComment()
            } else {
                return
            }
        }
    }

    /// Comments of this kind stand in each other.
    private mutating func skipComment() {
        var depth = 0
        while !rest.isEmpty {
            if rest.hasPrefix("/*") {
                depth += 1
                rest = rest.dropFirst(2)
            } else if rest.hasPrefix("*/") {
                depth -= 1
                rest = rest.dropFirst(2)
                if depth == 0 { return }
            } else {
                rest.removeFirst()
            }
        }
    }

    /// What stands between quotes, which are doubled where they are meant.
    private mutating func quoted(_ quote: Character) -> String {
        rest.removeFirst()
        var text = ""
        while let first = rest.first {
            rest.removeFirst()
            guard first == quote else {
                text.append(first)
                continue
            }
            guard rest.first == quote else { return text }
            text.append(quote)
            rest.removeFirst()
        }
        return text
    }

    /// `$$…$$` or `$tag$…$tag$`; nil where the sign begins something else.
    private mutating func dollarQuoted() -> SQLWord? {
        let tag = rest.dropFirst().prefix { Self.isLetter($0) || $0.isNumber }
        guard rest[tag.endIndex...].first == "$" else { return nil }
        let mark = "$\(tag)$"
        rest = rest[tag.endIndex...].dropFirst()
        while !rest.isEmpty, !rest.hasPrefix(mark) { rest.removeFirst() }
        rest = rest.dropFirst(mark.count)
        return .literal
    }
}
