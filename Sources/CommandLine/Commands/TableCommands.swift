// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct TablesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "tables",
        "Rows to ask with SQL: those of topics, and those that functions keep.",
        [
            CreateTable.self, ListTables.self, GetTable.self, UpdateTable.self, DeleteTables.self, ExportTable.self,
            TableHistory.self, CommitTable.self, CompactTable.self, RepairTable.self, ReplayTable.self,
        ],
        aliases: ["table"]
    )
    init() {}
}

struct ListTables: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List tables, and how they fare.",
        discussion: "Lag is what waits in the topic: records, and the age of the oldest.",
        examples: [
            "martlet tables list", "martlet tables list --topic trips", "martlet tables list --name trip -o json",
        ],
        aliases: ["ls"]
    )
    @Option(
        name: [.short, .long],
        help: "Only tables that follow this topic.",
        completion: .custom(ResourceNames.complete("topics"))
    )
    var topic: String?
    @OptionGroup(title: "List Options") var list: ListOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let (items, next) = try await client.pages(
            ["tables"],
            query: [("topic", topic), ("name", list.name)],
            limit: list.limit,
            cursor: list.cursor
        )
        try client.printList(items, next: next, noun: "table") {
            TextTable(
                columns: [
                    .init("Table Name", isFlexible: true), .init("Kind"), .init("Topic", isFlexible: true),
                    .init("Rows", isRight: true), .init("Rejected", isRight: true), .init("Lag", isRight: true),
                    .init("State", isStatus: true),
                ],
                rows: items.map { item in
                    [
                        item["name"]?.stringValue ?? "-", item["kind"]?.stringValue ?? "-",
                        item["topic"]?.stringValue ?? "-", ResourceDisplay.text(item["rows"]) ?? "-",
                        ResourceDisplay.text(item["rejected_rows"]) ?? "-", TableOverview.lag(item) ?? "-",
                        item["state"]?.stringValue ?? "-",
                    ]
                }
            )
        }
    }
}

struct GetTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a table: how it fares, its settings and its columns.",
        examples: ["martlet tables get trips", "martlet tables get trips -o yaml > trips.yaml"],
        aliases: ["show"]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let item = try await client.get(["tables", name])
        try client.print(item) { TableOverview(item).text(client) }
    }
}

struct DeleteTables: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete",
        "Delete tables with all their rows, files, rejects and history.",
        discussion: "The topics stay. Says what goes and asks first; without a terminal --force is needed.",
        examples: ["martlet tables delete trips", "martlet tables delete --force trips files"],
        aliases: ["rm"]
    )
    @Argument(help: "Names of the tables.", completion: .custom(ResourceNames.complete("tables"))) var names: [String]
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let display = ResourceDisplay(kind: "tables", noun: "table", columns: [], details: [])
        try await client.delete(display, names, confirmation) {
            var parts: [String] = []
            for name in names { parts.append(TableOverview(try await client.get(["tables", name])).whatGoes) }
            return "Delete \(parts.joined(separator: "; "))?"
        }
    }
}

struct ExportTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "export",
        "Write a table to a Parquet or CSV file.",
        discussion: "The file appears when it is whole; '-' writes to standard output.",
        examples: [
            "martlet tables export files", "martlet tables export files --file files.csv",
            "martlet tables export files --format csv --file - | head",
        ]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @Option(
        name: .long,
        help: "parquet or csv; the file's ending decides when it is left out.",
        completion: .list(["parquet", "csv"])
    )
    var format: TableFormat?
    @Option(name: [.customShort("f"), .long], help: "File to write (default NAME.parquet).", completion: .file())
    var file: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let format = format ?? (file?.lowercased().hasSuffix(".csv") == true ? .csv : .parquet)
        let request = APIRequest(
            "GET",
            ["tables", name, "export"],
            query: [("format", format.rawValue)],
            accept: "*/*"
        )
        let seconds = max(3600, client.settings.timeout)
        if file == "-" {
            guard format == .csv || !client.session.output.isTerminal else {
                throw CommandFailure.usage(
                    "Parquet is not for a terminal",
                    fix: "redirect the output, or use --format csv"
                )
            }
            return try await client.stream(request, seconds: seconds) { try client.session.output.write($0) }
        }
        let path = file ?? "\(name.replacing("/", with: "_")).\(format.rawValue)"
        let bytes = try await FileWriter.write(to: path) { write in
            try await client.stream(request, seconds: seconds) { try write($0) }
        }
        let result: JSONValue = ["table": .string(name), "file": .string(path), "bytes": .int(bytes)]
        try client.confirm(result) {
            "Table exported: \(Sanitizer.clean(name)) to \(Sanitizer.clean(path)) (\(Quantity.size(bytes: bytes)))\n"
        }
    }
}

extension TableFormat: ExpressibleByArgument {}

/// Writes a file in one step: beside its place, then renamed.
enum FileWriter {
    /// Returns how many bytes `body` wrote; nothing is left behind when it throws.
    static func write(
        to path: String,
        _ body: ((_ bytes: [UInt8]) throws -> Void) async throws -> Void
    ) async throws -> Int64 {
        let temporary = "\(path).\(getpid()).part"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw CommandFailure(.failure, "cannot write \(path): \(String(cString: strerror(errno)))")
        }
        var total: Int64 = 0
        do {
            let output = Output(descriptor: descriptor, isTerminal: false)
            try await body { bytes in
                try output.write(bytes)
                total += Int64(bytes.count)
            }
            guard close(descriptor) == 0, rename(temporary, path) == 0 else {
                throw CommandFailure(.failure, "cannot write \(path): \(String(cString: strerror(errno)))")
            }
        } catch {
            close(descriptor)
            unlink(temporary)
            throw error
        }
        return total
    }
}
