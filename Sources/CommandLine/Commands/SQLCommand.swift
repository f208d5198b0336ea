// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct SQLCommand: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "sql",
        "Ask the tables a question.",
        discussion: """
            One read-only statement, from the command line, a file or standard input. -o table (or human) draws a table, csv and json are \
            for programs; JSON is a list of objects, one a row. At most --limit rows come back, and a note says when there were more; CSV has all unless --limit is given.
            """,
        examples: [
            "martlet sql \"select compression, count(*) from parts group by 1 order by 2 desc\"",
            "martlet sql -o csv \"from files\" > files.csv", "martlet sql -f report.sql -o json",
            "martlet sql --as-of trips=12 'select count(*) from trips'", "echo 'from files limit 3' | martlet sql",
            "martlet sql 'from files where path = ?' --parameter a.exr",
        ],
        aliases: ["query"]
    )

    static var allowsCSV: Bool { true }

    @Argument(help: "The statement; - for standard input.") var statement: String?
    @Option(name: [.customShort("f"), .long], help: "File with the statement.", completion: .file()) var file: String?
    @Option(
        name: [.customShort("p"), .customLong("parameter"), .customLong("param")],
        help: "Value of the next '?': JSON, or else text; repeatable."
    )
    var parameters: [String] = []
    @Option(name: [.short, .long], help: "Most rows (default 10000; as CSV, all).") var limit: Int?
    @OptionGroup var freshness: FreshnessOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    init() {}

    func validate() throws {
        if statement != nil, file != nil { throw ValidationError("Give the statement or --file, not both.") }
        if let limit, limit < 1 { throw ValidationError("--limit must be above 0, not \(limit).") }
    }

    func execute(_ client: EngineClient) async throws {
        let isCSV = client.settings.format == .csv
        var fields = JSONObject(members: [
            .init(key: "sql", value: .string(try text(client.session))),
            .init(key: "parameters", value: .array(parameters.map(Self.parameter))),
            .init(key: "timeout_seconds", value: .int(Int64(max(1, client.settings.timeout.rounded())))),
        ])
        if let limit { fields["limit"] = .int(Int64(limit)) }
        try freshness.set(in: &fields)
        let request = APIRequest(
            "POST",
            ["sql"],
            body: .json(.object(fields)),
            accept: isCSV ? "text/csv" : "application/json"
        )
        if client.options.dryRun {
            _ = try await client.send(request)
            return
        }
        let seconds = client.settings.timeout + 5
        if isCSV {
            return try await client.stream(request, seconds: seconds) { try client.session.output.write($0) }
        }
        let answer = try await client.exchange(request, seconds: seconds)
        let columns = (answer["columns"]?.arrayValue ?? []).map {
            SQLAnswer.Column(name: $0["name"]?.stringValue ?? "", type: $0["type"]?.stringValue ?? "")
        }
        let result = SQLAnswer(columns: columns, rows: (answer["rows"]?.arrayValue ?? []).map { $0.arrayValue ?? [] })
        try client.print(result.objects()) { result.table().text(width: client.width, style: client.style) }
        if client.isHuman, client.session.output.isTerminal {
            try client.session.output.line(
                client.style.dim("(\(result.rows.count) \(result.rows.count == 1 ? "row" : "rows"))")
            )
        }
        if answer["truncated"]?.boolValue == true {
            try client.note("only the first \(result.rows.count) rows are shown; ask for more with --limit")
        }
    }

    private func text(_ session: Session) throws -> String {
        let bytes: [UInt8]
        if let file {
            bytes = try InputFile(file, session: session).bytes
        } else if let statement, statement != "-" {
            bytes = Array(statement.utf8)
        } else {
            guard statement == "-" || !session.inputIsTerminal else {
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
        guard text.contains(where: { !$0.isWhitespace }) else { throw CommandFailure.usage("the statement is empty") }
        return text
    }

    private static func parameter(_ text: String) -> JSONValue {
        (try? JSONValue(parsing: text)) ?? .string(text)  // What is not JSON is text.
    }
}

/// Rows of an answer, for people and programs.
struct SQLAnswer: Sendable {
    /// A column of the answer.
    struct Column: Sendable {
        var name: String
        /// SQL type as DuckDB writes it.
        var type: String

        init(name: String, type: String) {
            self.name = name
            self.type = type
        }

        var isNumber: Bool {
            let names = ["INT", "DOUBLE", "FLOAT", "REAL", "DECIMAL", "NUMERIC"]
            return names.contains { type.uppercased().contains($0) } && !type.contains("[") && !type.contains("(STRUCT")
                && !type.uppercased().hasPrefix("INTERVAL") && !type.uppercased().hasPrefix("STRUCT")
                && !type.uppercased().hasPrefix("MAP")
        }
    }

    var columns: [Column]
    var rows: [[JSONValue]]

    init(columns: [Column], rows: [[JSONValue]]) {
        self.columns = columns
        self.rows = rows
    }

    /// A table with numbers at the right; NULL is `NULL`, nested values are JSON.
    func table() -> TextTable {
        TextTable(
            columns: columns.map { .init($0.name, isRight: $0.isNumber, isFlexible: !$0.isNumber) },
            rows: rows.map { row in
                row.map { value in
                    switch value {
                    case .null: "NULL"
                    case .string(let text): text
                    default: value.text
                    }
                }
            }
        )
    }

    /// One object a row; a column name that comes again gets a number.
    func objects() -> JSONValue {
        var names: [String] = []
        for column in columns {
            var name = column.name
            var count = 1
            while names.contains(name) {
                count += 1
                name = "\(column.name)_\(count)"
            }
            names.append(name)
        }
        return .array(
            rows.map { row in
                .object(JSONObject(members: zip(names, row).map { JSONObject.Member(key: $0.0, value: $0.1) }))
            }
        )
    }
}
