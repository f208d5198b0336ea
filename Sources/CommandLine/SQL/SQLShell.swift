// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// `martlet sql` on a terminal: reads statements and commands until it is told to end.
final class SQLShell {
    private let client: EngineClient
    private var options: StatementRun.Options
    private var printer: RowPrinter
    private var showsTime = true
    private var history: SQLHistory
    private let editor: LineEditor
    private var completion = Completion(tables: [])
    private var completionTime: ContinuousClock.Instant?
    /// A file that takes the results, while there is one.
    private var file: Int32?

    private static let help = """
        Statements end with a semicolon. Ctrl-C drops a line or cancels what runs, Ctrl-D ends, Tab completes names, Ctrl-R looks back.

          .tables [TEXT]       tables whose names have the text
          .columns NAME        a table's columns and types
          .schema NAME         the statement that would make a table
          .explain [analyze] SQL   the plan of a query, with times after analyze
          .mode MODE           how rows are shown: table, csv, json, yaml or line
          .output [FILE]       write rows to a file; without one, to the terminal again
          .read FILE           run the statements of a file
          .timer on|off        say how long statements took
          .help, .quit (also quit, exit)

        """

    /// Makes a shell on the session's terminal.
    init(_ client: EngineClient, options: StatementRun.Options, mode: RowMode) {
        self.client = client
        self.options = options
        printer = RowPrinter(client, mode: mode)
        history = SQLHistory(environment: client.session.environment)
        editor = LineEditor(client.session, style: client.style, history: history.entries)
    }

    /// Runs until `.quit` or the end of the input.
    func run() async throws {
        defer { closeFile() }
        if !client.options.silent {
            let rights = options.write ? "may change tables" : "reads only; --write to change tables"
            try client.session.output.line(
                "Martlet \(client.session.version) at \(client.settings.server) (\(rights)). .help for help."
            )
        }
        var buffer = ""
        while true {
            editor.history = history.entries
            let known = buffer
            switch try await editor.readLine(
                buffer.isEmpty ? "martlet> " : "    ...> ",
                complete: { await complete($0, known) }
            ) {
            case .end: return
            case .cancelled: buffer = ""
            case .line(let line) where buffer.isEmpty && Self.isFarewell(line): return
            case .line(let line):
                if buffer.isEmpty, line.trimmingPrefix(while: \.isWhitespace).hasPrefix(".") {
                    try remember(line)
                    if try await !guarded({ try await self.command(line) }) { return }
                    continue
                }
                buffer += line + "\n"
                buffer = try await runStatements(buffer)
            }
        }
    }

    /// Whether a line is what ends other shells, and no SQL.
    static func isFarewell(_ line: String) -> Bool {
        let word = line.trimmingCharacters(in: CharacterSet(charactersIn: "; \t")).lowercased()
        return ["quit", "exit", "\\q"].contains(word)
    }

    /// Runs the whole statements of a text and returns what is left of it.
    private func runStatements(_ text: String) async throws -> String {
        let (statements, rest) = StatementSplitter.split(text)
        if !statements.isEmpty { try remember(text) }
        for statement in statements {
            guard
                try await guarded({
                    try await self.execute(statement)
                    return true
                })
            else { break }
        }
        return StatementSplitter.isBlank(rest) ? "" : rest
    }

    private func execute(_ sql: String) async throws {
        printer.showsTime = showsTime
        let summary = try await printer.run(sql, options)
        if options.write, summary.columns.isEmpty { completionTime = nil }
    }

    /// Runs `body` and tells what went wrong; false when the shell or the rest of the input is to end.
    private func guarded(_ body: () async throws -> Bool) async throws -> Bool {
        do {
            return try await body()
        } catch is CancellationError {
            try client.session.diagnostics.line(client.noteStyle.yellow("cancelled"))
            return true
        } catch let failure as CommandFailure {
            try client.session.diagnostics.line(failure.text(style: client.noteStyle))
            return true
        }
    }

    private func remember(_ text: String) throws {
        do { try history.add(text) } catch let failure as CommandFailure { try client.note(failure.message) }
    }

    // MARK: Commands

    private func command(_ line: String) async throws -> Bool {
        let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true).map(String.init)
        var rest = words.count > 1 ? words[1].trimmingCharacters(in: .whitespaces) : ""
        while rest.hasSuffix(";") { rest.removeLast() }
        switch words.first ?? "" {
        case ".quit", ".exit", ".q": return false
        case ".help": try client.session.output.write(Self.help.utf8)
        case ".tables": try await tables(rest)
        case ".columns": try await execute("DESCRIBE \(try Self.name(rest, ".columns"))")
        case ".schema": try await schema(try Self.required(rest, ".schema NAME"))
        case ".explain":
            let isAnalyze = rest.lowercased().hasPrefix("analyze ")
            let sql = try Self.required(isAnalyze ? String(rest.dropFirst(8)) : rest, ".explain [analyze] SQL")
            try await execute("EXPLAIN \(isAnalyze ? "ANALYZE " : "")\(sql)")
        case ".mode":
            guard let mode = RowMode(name: rest) else {
                throw CommandFailure.usage("'\(rest)' is no mode", fix: "use \(RowMode.names)")
            }
            printer.mode = mode
        case ".timer":
            guard ["on", "off"].contains(rest) else { throw CommandFailure.usage(".timer is on or off, not '\(rest)'") }
            showsTime = rest == "on"
        case ".output": try redirect(rest)
        case ".read": try await read(try Self.required(rest, ".read FILE"))
        case let word: throw CommandFailure.usage("there is no command \(word)", fix: ".help shows them")
        }
        return true
    }

    private static func required(_ text: String, _ usage: String) throws -> String {
        guard !text.isEmpty else { throw CommandFailure.usage("something is missing: \(usage)") }
        return text
    }

    private static func name(_ text: String, _ command: String) throws -> String {
        let name = try required(text, "\(command) NAME")
        return name.hasPrefix("\"") ? name : Completion.quoted(name)
    }

    private func tables(_ text: String) async throws {
        let list = try await client.get(["tables"], query: [("limit", "1000"), ("name", text.nonEmptyText)])
        let rows = (list["data"]?.arrayValue ?? []).map { table in
            [
                table["name"]?.stringValue ?? "", table["rows"]?.intValue.map { String($0) } ?? "",
                String(table["columns"]?.arrayValue?.count ?? 0),
            ]
        }
        guard !rows.isEmpty else { return try client.session.output.line("no tables") }
        let table = TextTable(
            columns: [.init("table"), .init("rows", isRight: true), .init("columns", isRight: true)],
            rows: rows
        )
        let width = client.session.output.columns
        try printer.output.write(BoxTable(table).text(width: width, style: client.style).utf8)
    }

    private func schema(_ text: String) async throws {
        let name = text.trimmingCharacters(in: CharacterSet(charactersIn: "\""))
        let table = try await client.get(["tables", name])
        let columns = table["columns"]?.arrayValue ?? []
        var lines = columns.map {
            "    \(Completion.quoted($0["name"]?.stringValue ?? "")) \($0["type"]?.stringValue ?? "")"
        }
        let key = columns.filter { $0["is_key"]?.boolValue == true }.compactMap { $0["name"]?.stringValue }
        if !key.isEmpty { lines.append("    PRIMARY KEY (\(key.map(Completion.quoted).joined(separator: ", ")))") }
        let shown = Completion.quoted(table["name"]?.stringValue ?? name)
        try printer.output.write("CREATE TABLE \(shown) (\n\(lines.joined(separator: ",\n"))\n);\n".utf8)
    }

    private func redirect(_ path: String) throws {
        closeFile()
        printer.output = client.session.output
        guard !path.isEmpty else { return }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw CommandFailure(.failure, "\(path) cannot be written: \(String(cString: strerror(errno)))")
        }
        file = descriptor
        printer.output = Output(descriptor: descriptor, isTerminal: false)
    }

    private func closeFile() {
        if let file { close(file) }
        file = nil
    }

    private func read(_ path: String) async throws {
        let bytes = try InputFile(path, session: client.session).bytes
        for statement in StatementSplitter.all(String(decoding: bytes, as: UTF8.self)) { try await execute(statement) }
    }

    // MARK: Completion

    private func complete(_ head: String, _ buffer: String) async -> Completion.Result {
        let isOld = completionTime.map { ContinuousClock.now - $0 > .seconds(30) } ?? true
        // Without an engine keywords are still completed.
        if isOld, let list = try? await client.get(["tables"], query: [("limit", "1000")]) {
            completionTime = .now
            completion.tables = (list["data"]?.arrayValue ?? []).map { table in
                Completion.Table(
                    name: table["name"]?.stringValue ?? "",
                    columns: (table["columns"]?.arrayValue ?? []).compactMap { $0["name"]?.stringValue }
                )
            }
        }
        return completion.result(head: head, statement: buffer + head)
    }
}

extension String {
    fileprivate var nonEmptyText: String? { isEmpty ? nil : self }
}
