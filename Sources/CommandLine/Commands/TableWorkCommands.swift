// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

extension EngineClient {
    /// Sends a request that may take long; on a terminal a line counts the seconds meanwhile.
    fileprivate func work(_ text: String, _ request: APIRequest) async throws -> JSONValue {
        let seconds = max(3600, settings.timeout)
        guard session.diagnostics.isTerminal, !options.silent else {
            return try await exchange(request, seconds: seconds)
        }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                let progress = Progress(self)
                // The line is only for the meantime.
                defer { try? progress.clear() }
                for count in 0... {
                    try progress.show(count == 0 ? "\(text)…" : "\(text)… \(count) s")
                    try await Task.sleep(for: .seconds(1))
                }
            }
            defer { group.cancelAll() }
            return try await exchange(request, seconds: seconds)
        }
    }

    /// As ``work(_:_:)``; nil when `--dry-run` only printed the request.
    fileprivate func change(_ text: String, _ name: String, _ verb: String) async throws -> JSONValue? {
        let request = APIRequest("POST", ["tables", name, verb])
        guard !options.dryRun else { return try await send(request) }
        return try await work("\(text) \(name)", request)
    }
}

struct TableHistory: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "history",
        "List a table's commits, newest first.",
        discussion: """
            Each commit is all or nothing: its rows, its files and how far the topic was read. Records are written PARTITION: FIRST-LAST. \
            A commit's number can be read AS OF as long as the table keeps its history.
            """,
        examples: [
            "martlet tables history trips", "martlet tables history trips --limit 5 -o json",
            "martlet sql 'from \"trips@12\" limit 10'",
        ],
        aliases: ["commits"]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @Option(name: [.short, .long], help: "Most to show.") var limit = 50
    @Option(name: .long, help: "Where to go on, as the list before said.") var cursor: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        if !(1...1_000_000).contains(limit) {
            throw ValidationError("--limit must be between 1 and 1000000, not \(limit).")
        }
    }

    func execute(_ client: EngineClient) async throws {
        let (items, next) = try await client.pages(["tables", name, "history"], limit: limit, cursor: cursor)
        try client.printList(items, next: next, noun: "commit") {
            TextTable(
                columns: [
                    .init("Commit", isRight: true), .init("Time"), .init("Kind"), .init("Rows", isRight: true),
                    .init("Rejected", isRight: true), .init("Files", isRight: true), .init("Size", isRight: true),
                    .init("Schema", isRight: true), .init("Records", isFlexible: true),
                ],
                rows: items.map(Self.row)
            )
        }
    }

    private static func row(_ commit: JSONValue) -> [String] {
        let ranges = (commit["ranges"]?.arrayValue ?? []).compactMap { range -> String? in
            guard let partition = range["partition"]?.intValue, let from = range["from"]?.intValue,
                let end = range["to"]?.intValue, end > from
            else { return nil }
            return "\(partition): \(from)-\(end &- 1)"
        }
        return [
            ResourceDisplay.text(commit["number"]) ?? "-", Quantity.time(commit["time"]?.stringValue) ?? "-",
            commit["kind"]?.stringValue ?? "-", change(commit["rows_added"], commit["rows_removed"]),
            ResourceDisplay.text(commit["rows_rejected"]) ?? "-",
            change(commit["files_added"], commit["files_removed"]),
            Quantity.size(bytes: commit["bytes_added"]?.intValue ?? 0),
            ResourceDisplay.text(commit["schema_version"]) ?? "-",
            ranges.isEmpty ? "-" : ranges.joined(separator: ", "),
        ]
    }

    private static func change(_ added: JSONValue?, _ removed: JSONValue?) -> String {
        let parts = [("+", added?.intValue ?? 0), ("-", removed?.intValue ?? 0)].filter { $0.1 != 0 }
        return parts.isEmpty ? "0" : parts.map { "\($0.0)\($0.1)" }.joined(separator: " ")
    }
}

struct CommitTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "commit",
        "Commit the rows that wait now.",
        discussion: "Rows are committed by themselves, by time and size. Ends when they are on disk.",
        examples: ["martlet tables commit trips"]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        guard let answer = try await client.change("Committing", name, "commit") else { return }
        try client.confirm(answer) {
            let name = Sanitizer.clean(name)
            guard let commit = answer["commit"], let number = commit["number"]?.intValue else {
                return "Nothing waited: every row of \(name) is committed\n"
            }
            let rows = TableOverview.count(commit["rows_added"]?.intValue ?? 0, "row")
            let files = TableOverview.count(commit["files_added"]?.intValue ?? 0, "file")
            let size = Quantity.size(bytes: commit["bytes_added"]?.intValue ?? 0)
            return "Table committed: \(name), commit \(number) with \(rows) in \(files) (\(size))\n"
        }
    }
}

struct CompactTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "compact",
        "Make a table's small files into larger ones.",
        discussion:
            "Happens by itself, too. Queries go on and see the same rows; the old files go when the history ends.",
        examples: ["martlet tables compact trips", "martlet tables compact trips -o json"]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        guard let answer = try await client.change("Compacting", name, "compact") else { return }
        try client.confirm(answer) {
            let name = Sanitizer.clean(name)
            let before = answer["files_before"]?.intValue ?? 0
            guard answer["commit"]?["number"] != nil else {
                return "Nothing to compact: \(name) has \(TableOverview.count(before, "file"))\n"
            }
            let after = TableOverview.count(answer["files_after"]?.intValue ?? 0, "file")
            let sizes = ["bytes_before", "bytes_after"].map { Quantity.size(bytes: answer[$0]?.intValue ?? 0) }
            let rows = TableOverview.count(answer["rows"]?.intValue ?? 0, "row")
            return "Table compacted: \(name), from \(TableOverview.count(before, "file")) (\(sizes[0])) to \(after)"
                + " (\(sizes[1])); \(rows) written anew\n"
        }
    }
}

struct RepairTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "repair",
        "Compare a table's catalog, files and topic, and put right what differs.",
        discussion: """
            --dry-run only says what it would do; without it, what it would do is shown and asked about first; without a terminal --force is needed. \
            A file that is gone or damaged is taken off the list, and its rows with it; a file that is not listed is removed. Every byte \
            of the files is read and compared with the checksum the catalog has, which takes a while for a large table; 'tables get' \
            shows how far it is, and --quick compares sizes only. What cannot be put right is named, and the exit code is 1.
            """,
        examples: [
            "martlet tables repair trips --dry-run", "martlet tables repair trips --dry-run --quick",
            "martlet tables repair trips --force -o json",
        ]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @OptionGroup var confirmation: Confirmation
    @Flag(help: "Compare the sizes of files only, and do not read them.") var quick = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        if !confirmation.force, !client.options.dryRun, client.isHuman {
            let planned = try await findings(client, dryRun: true)
            try show(planned, client)
            guard !EngineClient.items(planned).isEmpty else { return }
            try await confirmation.require(client, refusal: "nothing was repaired") { "Do this?" }
            let answer = try await findings(client, dryRun: false)
            let done = EngineClient.items(answer)
            try client.confirm(.null) { "Table repaired: \(Sanitizer.clean(name)), \(Self.sum(done))\n" }
            return try checkDone(answer)
        }
        try await confirmation.require(client, refusal: "nothing was repaired") { "Repair \(name)?" }
        let answer = try await findings(client, dryRun: client.options.dryRun)
        try client.print(answer) { "" }
        if client.isHuman { try show(answer, client) }
        try checkDone(answer)
    }

    /// Fails where something could not be put right.
    private func checkDone(_ answer: JSONValue) throws {
        let failures = EngineClient.items(answer).compactMap { $0["failure"]?.stringValue }
        guard let first = failures.first else { return }
        let others = failures.count > 1 ? " (and \(failures.count - 1) more)" : ""
        throw CommandFailure(
            .failure,
            "\(TableOverview.count(Int64(failures.count), "finding")) of \(Sanitizer.clean(name)) could not be put right: "
                + "\(Sanitizer.clean(first))\(others)"
        )
    }

    private func findings(_ client: EngineClient, dryRun: Bool) async throws -> JSONValue {
        let request = APIRequest(
            "POST",
            ["tables", name, "repair"],
            query: [("dry_run", dryRun ? "true" : nil), ("quick", quick ? "true" : nil)]
        )
        return try await client.work(dryRun ? "Checking \(name)" : "Repairing \(name)", request)
    }

    private func show(_ answer: JSONValue, _ client: EngineClient) throws {
        let findings = EngineClient.items(answer)
        guard !findings.isEmpty else {
            return try client.session.output.line("Nothing is wrong with \(Sanitizer.clean(name))")
        }
        let table = TextTable(
            columns: [
                .init("Finding"), .init("Where", isFlexible: true), .init("Problem", isFlexible: true),
                .init("Action", isFlexible: true), .init("Rows lost", isRight: true), .init("Done", isFlexible: true),
            ],
            rows: findings.map { finding in
                [
                    finding["kind"]?.stringValue?.replacing("_", with: " ") ?? "-", finding["path"]?.stringValue ?? "-",
                    finding["problem"]?.stringValue ?? "-", finding["action"]?.stringValue ?? "-",
                    ResourceDisplay.text(finding["rows_lost"]) ?? "-",
                    finding["is_done"]?.boolValue == true ? "yes" : finding["failure"]?.stringValue ?? "no",
                ]
            }
        )
        try client.session.output.write(table.text(width: client.width, style: client.style).utf8)
    }

    private static func sum(_ findings: [JSONValue]) -> String {
        let done = findings.filter { $0["is_done"]?.boolValue == true }
        let lost = done.reduce(Int64(0)) { $0 &+ ($1["rows_lost"]?.intValue ?? 0) }
        return
            "\(TableOverview.count(Int64(done.count), "finding")) put right, \(TableOverview.count(lost, "row")) lost"
    }
}

struct ReplayTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "replay",
        "Read a table's rejects again; those that fit now become rows.",
        discussion:
            "For after a fix: a wider column, or another way with unknown fields. Those that still do not fit stay rejected.",
        examples: [
            "martlet tables replay trips", "martlet tables replay trips -o json",
        ]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        guard let answer = try await client.change("Replaying rejects of", name, "replay") else { return }
        try client.confirm(answer) {
            let name = Sanitizer.clean(name)
            let replayed = answer["replayed"]?.intValue ?? 0
            let left = answer["still_rejected"]?.intValue ?? 0
            guard replayed > 0 || left > 0 else { return "Nothing to replay: \(name) has no rejects\n" }
            let rest =
                left == 0
                ? "none is left" : "\(TableOverview.count(left, "record")) still \(left == 1 ? "does" : "do") not fit"
            let text = "Table replayed: \(name), \(TableOverview.count(replayed, "reject")) became rows, \(rest)\n"
            return left == 0 ? text : text + "See why:  \(Sanitizer.clean(TableOverview.showRejects(self.name)))\n"
        }
    }
}
