// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Reads lines from a terminal with history, completion and the usual keys.
///
/// It is our own because the shell needs Ctrl-C to end a line and not the program, characters that are two columns wide, and no
/// library that may be missing.
final class LineEditor {
    /// How a line ended.
    enum Outcome: Equatable {
        case line(String)
        /// Ctrl-C.
        case cancelled
        /// Ctrl-D, or the end of the input.
        case end
    }

    private let session: Session
    /// Whether the terminal can move its cursor.
    private let isPlain: Bool
    private let style: Style
    private var decoder = KeyDecoder()
    private var pending: [Key] = []
    /// Lines before this one, the oldest first.
    var history: [String]

    /// Makes an editor on the session's terminal.
    init(_ session: Session, style: Style, history: [String]) {
        self.session = session
        self.style = style
        self.history = history
        isPlain = session.environment["TERM"] == "dumb"
    }

    /// Reads a line.
    ///
    /// `complete` gives the length of the word before the cursor and what may stand in its place.
    func readLine(
        _ prompt: String,
        complete: (_ head: String) async -> Completion.Result
    ) async throws -> Outcome {
        if isPlain { return try readPlain(prompt) }
        guard let raw = RawMode(session.input) else { return try readPlain(prompt) }
        defer { raw.restore() }
        try session.output.write("\u{1B}[?2004h".utf8)
        defer { try? session.output.write("\u{1B}[?2004l".utf8) }  // A terminal that is gone shows nothing anyway.
        var buffer = LineBuffer(history: history)
        try draw(buffer, prompt)
        while true {
            if pending.isEmpty {
                guard let bytes = try readBytes() else { return .end }
                pending = decoder.decode(bytes)
            }
            while !pending.isEmpty {
                switch buffer.handle(pending.removeFirst()) {
                case .redraw: if pending.isEmpty { try draw(buffer, prompt) }
                case .nothing: break
                case .submit:
                    _ = buffer.handle(.end)
                    try draw(buffer, prompt)
                    try session.output.write("\r\n".utf8)
                    return .line(buffer.text)
                case .cancel:
                    try session.output.write("^C\r\n".utf8)
                    return .cancelled
                case .end:
                    try session.output.write("\r\n".utf8)
                    return .end
                case .clearScreen:
                    try session.output.write("\u{1B}[H\u{1B}[2J".utf8)
                    try draw(buffer, prompt)
                case .complete:
                    try apply(await complete(buffer.head), to: &buffer)
                    try draw(buffer, prompt)
                }
            }
        }
    }

    private func apply(_ found: Completion.Result, to buffer: inout LineBuffer) throws {
        guard let first = found.candidates.first else { return try session.output.write("\u{07}".utf8) }
        if found.candidates.count == 1 {
            return buffer.replace(last: found.wordLength, with: first + (first.hasSuffix(".") ? "" : " "))
        }
        let common = found.commonPrefix
        if common.count > found.wordLength { return buffer.replace(last: found.wordLength, with: common) }
        try session.output.write("\r\n".utf8)
        try session.output.write(Self.grid(found.candidates, width: width).utf8)
    }

    private static func grid(_ words: [String], width: Int) -> String {
        let shown = words.prefix(100).map { Sanitizer.clean($0) }
        let cell = (shown.map { DisplayWidth.of($0) }.max() ?? 0) + 2
        let count = max(1, width / cell)
        var text = ""
        for (index, word) in shown.enumerated() {
            let isLast = index % count == count - 1 || index == shown.count - 1
            text += isLast ? word + "\r\n" : DisplayWidth.pad(word, to: cell)
        }
        return words.count > shown.count ? text + "… and \(words.count - shown.count) more\r\n" : text
    }

    private var width: Int {
        var size = winsize()
        guard ioctl(session.output.descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Draws the part of the line around the cursor that fits beside the prompt.
    private func draw(_ buffer: LineBuffer, _ prompt: String) throws {
        let label = buffer.search.map { "(search: \($0)) " } ?? prompt
        let shown = buffer.characters.map { Self.visible($0) }
        let room = max(10, width - DisplayWidth.of(label) - 1)
        var start = buffer.cursor
        var used = 0
        while start > 0, used + DisplayWidth.of(shown[start - 1]) < room {
            used += DisplayWidth.of(shown[start - 1])
            start -= 1
        }
        var end = buffer.cursor
        var total = used
        while end < shown.count, total + DisplayWidth.of(shown[end]) <= room {
            total += DisplayWidth.of(shown[end])
            end += 1
        }
        var text = "\r\(style.bold(label))" + shown[start..<end].joined() + "\u{1B}[K\r"
        let column = DisplayWidth.of(label) + used
        if column > 0 { text += "\u{1B}[\(column)C" }
        try session.output.write(text.utf8)
    }

    private static func visible(_ character: Character) -> String {
        if character == "\n" { return "↵" }
        if character == "\t" { return " " }
        return Sanitizer.clean(String(character))
    }

    // MARK: Reading

    /// The bytes that are there; nil at the end.
    private func readBytes() throws -> [UInt8]? {
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(session.input, &chunk, chunk.count)
            if count > 0 { return Array(chunk[..<count]) }
            if count == 0 { return nil }
            guard errno == EINTR else {
                throw CommandFailure(.failure, "cannot read the terminal: \(String(cString: strerror(errno)))")
            }
        }
    }

    /// A line as the terminal's own editing gives it.
    private func readPlain(_ prompt: String) throws -> Outcome {
        try session.output.write(prompt.utf8)
        var bytes: [UInt8] = []
        var byte: UInt8 = 0
        while true {
            let count = read(session.input, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count == 1 else { return bytes.isEmpty ? .end : .line(String(decoding: bytes, as: UTF8.self)) }
            if byte == 0x0A { return .line(String(decoding: bytes, as: UTF8.self)) }
            bytes.append(byte)
        }
    }
}

/// A terminal that hands over every key as it is pressed.
private struct RawMode {
    private let descriptor: Int32
    private let before: termios

    init?(_ descriptor: Int32) {
        var settings = termios()
        guard tcgetattr(descriptor, &settings) == 0 else { return nil }
        self.descriptor = descriptor
        before = settings
        settings.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG | IEXTEN)
        settings.c_iflag &= ~tcflag_t(IXON | ICRNL | INLCR)
        guard tcsetattr(descriptor, TCSADRAIN, &settings) == 0 else { return nil }
    }

    func restore() {
        var settings = before
        tcsetattr(descriptor, TCSADRAIN, &settings)
    }
}
