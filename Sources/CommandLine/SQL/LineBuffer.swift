// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A line that is being written, and what the keys do with it; no terminal, no files.
package struct LineBuffer {
    /// What the editor is to do after a key.
    package enum Action: Sendable, Equatable {
        case redraw
        /// The line is finished.
        case submit
        /// Ctrl-C.
        case cancel
        /// Ctrl-D on an empty line.
        case end
        case complete
        case clearScreen
        case nothing
    }

    /// The line.
    package private(set) var characters: [Character] = []
    /// How many characters stand before the cursor.
    package private(set) var cursor = 0
    /// What is looked for in the history, after Ctrl-R.
    package private(set) var search: String?
    private let history: [String]
    /// Place in the history; its count is the new line.
    private var place: Int
    private var unsent: [Character] = []
    private var killed: [Character] = []

    /// A new line above which `history` stands, the oldest first.
    package init(history: [String]) {
        self.history = history
        place = history.count
    }

    /// The line as text.
    package var text: String { String(characters) }

    /// Text up to the cursor.
    package var head: String { String(characters[..<cursor]) }

    /// Puts text in place of the last `count` characters before the cursor.
    package mutating func replace(last count: Int, with text: String) {
        let start = max(0, cursor - count)
        characters.replaceSubrange(start..<cursor, with: text)
        cursor = start + text.count
    }

    /// Carries out a key.
    package mutating func handle(_ key: Key) -> Action {
        if search != nil, let action = handleSearch(key) { return action }
        switch key {
        case .text(let text), .paste(let text):
            replace(last: 0, with: text.replacing("\r\n", with: "\n").replacing("\r", with: "\n"))
        case .enter: return .submit
        case .tab: return .complete
        case .backspace: if cursor > 0 { remove(cursor - 1..<cursor) }
        case .delete: if cursor < characters.count { remove(cursor..<cursor + 1) }
        case .left: cursor = max(0, cursor - 1)
        case .right: cursor = min(characters.count, cursor + 1)
        case .home: cursor = 0
        case .end: cursor = characters.count
        case .wordLeft: cursor = wordStart
        case .wordRight: cursor = wordEnd
        case .up: recall(place - 1)
        case .down: recall(place + 1)
        case .control(let letter): return control(letter)
        case .alt(let letter): alt(letter)
        }
        return .redraw
    }

    private mutating func control(_ letter: Character) -> Action {
        switch letter {
        case "a": cursor = 0
        case "e": cursor = characters.count
        case "b": cursor = max(0, cursor - 1)
        case "f": cursor = min(characters.count, cursor + 1)
        case "c": return .cancel
        case "d":
            if characters.isEmpty { return .end }
            if cursor < characters.count { remove(cursor..<cursor + 1) }
        case "k": kill(cursor..<characters.count)
        case "u": kill(0..<cursor)
        case "w": kill(wordStart..<cursor)
        case "y": replace(last: 0, with: String(killed))
        case "l": return .clearScreen
        case "n": recall(place + 1)
        case "p": recall(place - 1)
        case "r": search = ""
        default: return .nothing
        }
        return .redraw
    }

    private mutating func alt(_ letter: Character) {
        switch letter {
        case "b": cursor = wordStart
        case "f": cursor = wordEnd
        case "d": kill(cursor..<wordEnd)
        case "\u{7F}": kill(wordStart..<cursor)
        default: break
        }
    }

    private mutating func remove(_ range: Range<Int>) {
        characters.removeSubrange(range)
        cursor = range.lowerBound
    }

    private mutating func kill(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        killed = Array(characters[range])
        remove(range)
    }

    private mutating func recall(_ wanted: Int) {
        guard (0...history.count).contains(wanted), wanted != place else { return }
        if place == history.count { unsent = characters }
        place = wanted
        characters = wanted == history.count ? unsent : Array(history[wanted])
        cursor = characters.count
    }

    private var wordStart: Int {
        var index = cursor
        while index > 0, !Self.isWord(characters[index - 1]) { index -= 1 }
        while index > 0, Self.isWord(characters[index - 1]) { index -= 1 }
        return index
    }

    private var wordEnd: Int {
        var index = cursor
        while index < characters.count, !Self.isWord(characters[index]) { index += 1 }
        while index < characters.count, Self.isWord(characters[index]) { index += 1 }
        return index
    }

    static func isWord(_ character: Character) -> Bool { character.isLetter || character.isNumber || character == "_" }

    // MARK: Looking back

    /// Nil for a key that ends the search and then means what it always does.
    private mutating func handleSearch(_ key: Key) -> Action? {
        switch key {
        case .text(let text):
            search = (search ?? "") + text
            find(from: history.count)
        case .backspace:
            search = search.map { String($0.dropLast()) }
            find(from: history.count)
        case .control("r"): find(from: place)
        case .control("c"), .control("g"):
            search = nil
            recall(history.count)
        default:
            search = nil
            return nil
        }
        return .redraw
    }

    /// The newest entry before `end` that has the text.
    private mutating func find(from end: Int) {
        guard let search, !search.isEmpty else { return }
        guard let found = history[..<end].lastIndex(where: { $0.lowercased().contains(search.lowercased()) }) else {
            return
        }
        recall(found)
    }
}
