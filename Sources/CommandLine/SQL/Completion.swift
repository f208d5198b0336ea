// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What may stand in place of the word before the cursor.
package struct Completion: Sendable {
    /// Candidates for one word.
    package struct Result: Sendable, Equatable {
        /// How many characters they stand in place of.
        package var wordLength = 0
        /// What may stand there, in order.
        package var candidates: [String] = []

        /// What all candidates begin with, whatever their case.
        package var commonPrefix: String {
            guard var common = candidates.first else { return "" }
            for candidate in candidates {
                while !candidate.lowercased().hasPrefix(common.lowercased()) { common.removeLast() }
            }
            return common
        }
    }

    /// A table and its columns.
    package struct Table: Sendable, Equatable {
        /// Its name.
        package var name: String
        /// Their names.
        package var columns: [String]

        /// Makes a table.
        package init(name: String, columns: [String]) {
            self.name = name
            self.columns = columns
        }
    }

    /// The tables there are.
    package var tables: [Table]

    /// Makes a completion of these tables' names.
    package init(tables: [Table]) {
        self.tables = tables
    }

    static let commands = [
        ".columns", ".explain", ".exit", ".help", ".mode", ".output", ".quit", ".read", ".schema", ".tables", ".timer",
    ]

    private static let keywords = """
        ALL ALTER AND ANY AS ASC BETWEEN BY CASE CAST CREATE CROSS CURRENT_DATE CURRENT_TIMESTAMP DELETE DESC DESCRIBE \
        DISTINCT DROP ELSE END EXCEPT EXCLUDE EXISTS EXPLAIN FALSE FILTER FROM FULL GROUP HAVING ILIKE IN INNER INSERT INTERSECT \
        INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION PIVOT PRIMARY QUALIFY \
        RETURNING RIGHT SELECT SEMI SET SHOW SUMMARIZE TABLE TABLES THEN TRUE UNION UNNEST UNPIVOT UPDATE USING VALUES VIEW WHEN \
        WHERE WINDOW WITH
        """.split(separator: " ").map(String.init)

    /// The candidates for the word at the end of `head`; `statement` is all of the statement that is known, for its tables.
    package func result(head: String, statement: String) -> Result {
        if head.hasPrefix("."), !head.contains(" ") { return Self.matching(head, in: Self.commands) }
        if head.hasPrefix("."), let space = head.lastIndex(of: " ") {
            let word = String(head[head.index(after: space)...])
            if head.hasPrefix(".mode ") { return Self.matching(word, in: RowMode.allCases.map(\.rawValue)) }
            if head.hasPrefix(".timer ") { return Self.matching(word, in: ["on", "off"]) }
            if !head.hasPrefix(".explain ") { return Self.matching(word, in: tables.map { Self.quoted($0.name) }) }
        }
        let word = String(head.reversed().prefix { LineBuffer.isWord($0) || $0 == "\"" }.reversed())
        let before = head.dropLast(word.count)
        if before.last == "." {
            let owner = String(before.dropLast().reversed().prefix { LineBuffer.isWord($0) }.reversed())
            let named = tables.filter { $0.name.lowercased() == owner.lowercased() }
            let columns = named.isEmpty ? columns(of: statement) : named.flatMap(\.columns)
            return Self.matching(word, in: columns.map(Self.quoted))
        }
        guard !word.isEmpty || before.hasSuffix(" ") else { return Result() }
        let isTable = ["from", "join", "into", "update", "table", "describe", "summarize"].contains {
            before.lowercased().hasSuffix($0 + " ")
        }
        if isTable { return Self.matching(word, in: tables.map { Self.quoted($0.name) }) }
        guard !word.isEmpty else { return Self.matching("", in: columns(of: statement).map(Self.quoted)) }
        let isLower = word.contains(where: \.isLowercase)
        let keywords = Self.keywords.map { isLower ? $0.lowercased() : $0 }
        let names = columns(of: statement).map(Self.quoted) + tables.map { Self.quoted($0.name) }
        return Self.matching(word, in: names + keywords)
    }

    /// Columns of the tables the statement names, or of all where it names none.
    private func columns(of statement: String) -> [String] {
        let words = Set(statement.lowercased().split { !LineBuffer.isWord($0) })
        let named = tables.filter { words.contains(Substring($0.name.lowercased())) }
        return (named.isEmpty ? tables : named).flatMap(\.columns)
    }

    private static func matching(_ word: String, in candidates: [String]) -> Result {
        let start = word.lowercased()
        var found: [String] = []
        for candidate in candidates where candidate.lowercased().hasPrefix(start) && !found.contains(candidate) {
            found.append(candidate)
        }
        return Result(wordLength: word.count, candidates: found.sorted { $0.lowercased() < $1.lowercased() })
    }

    /// A name as SQL takes it.
    static func quoted(_ name: String) -> String {
        let isPlain = name.utf8.allSatisfy {
            $0 == 0x5F || (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
        }
        let isKeyword = keywords.contains(name.uppercased())
        if isPlain, !isKeyword, name.first?.isNumber == false { return name }
        return "\"" + name.replacing("\"", with: "\"\"") + "\""
    }
}
