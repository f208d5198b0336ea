// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct TablesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "tables",
        "Rows that functions keep.",
        [ListTables.self, GetTable.self, DeleteTables.self, ExportTable.self],
        aliases: ["table"]
    )
    init() {}
}

struct ListTables: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List tables.",
        examples: ["martlet tables list", "martlet tables list -o json"],
        aliases: ["ls"]
    )
    @OptionGroup(title: "List Options") var list: ListOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let (items, next) = try await client.pages(
            ["tables"],
            query: [("name", list.name)],
            limit: list.limit,
            cursor: list.cursor
        )
        try client.printList(items, next: next, noun: "table") {
            TextTable(
                columns: [
                    .init("Table Name"), .init("Rows", isRight: true), .init("Key"), .init("Columns", isFlexible: true),
                ],
                rows: items.map { item in
                    let columns = item["columns"]?.arrayValue ?? []
                    let keys = columns.filter { $0["is_key"]?.boolValue == true }.compactMap { $0["name"]?.stringValue }
                    return [
                        item["name"]?.stringValue ?? "-", ResourceDisplay.text(item["rows"]) ?? "-",
                        keys.isEmpty ? "-" : keys.joined(separator: ", "),
                        columns.compactMap { $0["name"]?.stringValue }.joined(separator: ", "),
                    ]
                }
            )
        }
    }
}

struct GetTable: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a table's columns.",
        examples: ["martlet tables get files", "martlet tables get files -o yaml"],
        aliases: ["show"]
    )
    @Argument(help: "Name of the table.", completion: .custom(ResourceNames.complete("tables"))) var name: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let item = try await client.get(["tables", name])
        try client.print(item) {
            var list = FieldList()
            list.add("Name", item["name"]?.stringValue)
            list.add("Rows", ResourceDisplay.text(item["rows"]))
            let table = TextTable(
                columns: [.init("Column"), .init("Type"), .init("Key")],
                rows: (item["columns"]?.arrayValue ?? []).map { column in
                    [
                        column["name"]?.stringValue ?? "-", column["type"]?.stringValue ?? "-",
                        column["is_key"]?.boolValue == true ? "yes" : "",
                    ]
                }
            )
            return list.text(style: client.style) + "\n" + table.text(width: client.width, style: client.style)
        }
    }
}

struct DeleteTables: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete",
        "Delete tables with all their rows.",
        discussion: "Asks first when a person can answer.",
        examples: ["martlet tables delete files", "martlet tables delete --force files parts"],
        aliases: ["rm"]
    )
    @Argument(help: "Names of the tables.", completion: .custom(ResourceNames.complete("tables"))) var names: [String]
    @Flag(name: [.short, .long], help: "Do not ask.") var force = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let display = ResourceDisplay(kind: "tables", noun: "table", columns: [], details: [])
        try await client.delete(display, names, force: force)
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
