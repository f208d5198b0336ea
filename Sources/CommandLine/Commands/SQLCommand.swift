// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct SQLCommand: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "sql",
        "Ask the tables a question.",
        discussion: """
            On a terminal and without a statement it is a shell with history and completion (.help). Otherwise it runs the statements of \
            the command line, of a file or of standard input, one after the other, and stops at the first that fails. Statements only read \
            unless --write is given. Ctrl-C cancels in the engine.

            --format table draws a table; csv, json, yaml and line are for programs and wide rows. JSON is a list of objects, one a row. \
            At most --limit rows come back, and a note says when there were more; csv and line have all unless --limit is given.
            """,
        examples: [
            "martlet sql", "martlet sql \"select compression, count(*) from parts group by 1 order by 2 desc\"",
            "martlet sql --format csv \"from files\" > files.csv", "martlet sql -f report.sql -o json",
            "martlet sql --as-of trips=12 'select count(*) from trips'",
            "echo 'from files limit 3' | martlet sql", "martlet sql 'from files where path = ?' --parameter a.exr",
            "martlet sql --write \"delete from files where size = 0\"",
            "martlet sql --explain \"from files where size > 10\"",
        ],
        aliases: ["query"]
    )

    static var allowsCSV: Bool { true }

    @Argument(help: "The statement; - for standard input.") var statement: String?
    @Option(
        name: [.customShort("f"), .long],
        help: "File with the statements; - for standard input.",
        completion: .file()
    )
    var file: String?
    @Option(
        name: [.customShort("p"), .customLong("parameter"), .customLong("param")],
        help: "Value of the next '?': JSON, or else text; repeatable."
    )
    var parameters: [String] = []
    @Option(
        name: [.short, .long, .customLong("max-rows")],
        help: "Most rows (default 10000; as csv and line, all)."
    )
    var limit: Int?
    @Option(help: "How rows are written: \(RowMode.names); before -o.") var format: String?
    @Flag(help: "Allow statements that change tables.") var write = false
    @Flag(help: "Show the plan instead of running the statement.") var explain = false
    @Option(name: .customLong("as-of"), help: "Read a table as of a commit: TABLE=COMMIT; repeatable.") var asOf:
        [String] = []
    @Option(
        name: .customLong("max-staleness"),
        help: "How old the newest rows may be, for example 5s; rows on the way to a file may then be left out."
    )
    var maxStaleness: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    init() {}

    func validate() throws {
        if statement != nil, file != nil { throw ValidationError("Give the statement or --file, not both.") }
        if let limit, limit < 1 { throw ValidationError("--limit must be above 0, not \(limit).") }
        if let format, RowMode(name: format) == nil {
            throw ValidationError("--format: '\(format)' is none; use \(RowMode.names).")
        }
        if let maxStaleness, Self.seconds(maxStaleness) == nil {
            throw ValidationError("--max-staleness: '\(maxStaleness)' is no time; write for example 5s, 10m or 0.")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let mode = format.flatMap { RowMode(name: $0) } ?? RowMode(name: client.settings.format.rawValue) ?? .table
        var options = StatementRun.Options()
        options.parameters = parameters.map(Self.parameter)
        options.timeout = global.timeout
        options.write = write
        options.maxStaleness = maxStaleness.flatMap(Self.seconds)
        options.asOf = try FieldBuilder.pairs(asOf, option: "--as-of", session: nil, foldsCase: true)
        options.rowsMax = limit ?? (mode.isStreaming ? nil : 10_000)
        let session = client.session
        if statement == nil, file == nil, session.inputIsTerminal, session.output.isTerminal, !client.options.dryRun {
            return try await SQLShell(client, options: options, mode: mode).run()
        }
        let statements = StatementSplitter.all(try text(session)).map { explain ? "EXPLAIN \($0)" : $0 }
        guard !statements.isEmpty else { throw CommandFailure.usage("the statement is empty") }
        let printer = RowPrinter(client, mode: mode)
        for statement in statements {
            if client.options.dryRun {
                _ = try await client.send(StatementRun.request(statement, options))
            } else {
                try await printer.run(statement, options)
            }
        }
    }

    private func text(_ session: Session) throws -> String {
        let bytes: [UInt8]
        if let file, file != "-" {
            bytes = try InputFile(file, session: session).bytes
        } else if let statement, statement != "-" {
            bytes = Array(statement.utf8)
        } else {
            guard statement == "-" || file == "-" || !session.inputIsTerminal else {
                throw CommandFailure.usage(
                    "no statement was given",
                    fix: "for example: martlet sql \"from files limit 10\""
                )
            }
            bytes = try session.readInput()
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CommandFailure(.refused, "the statement is not UTF-8 text")
        }
        return text
    }

    private static func parameter(_ text: String) -> JSONValue {
        (try? JSONValue(parsing: text)) ?? .string(text)  // What is not JSON is text.
    }

    /// A span such as `5s`, or a number of seconds.
    private static func seconds(_ text: String) -> Double? {
        if let number = Double(text), number.isFinite, number >= 0 { return number }
        return TimeSpan.microseconds(text).map { Double($0) / 1_000_000 }
    }
}
