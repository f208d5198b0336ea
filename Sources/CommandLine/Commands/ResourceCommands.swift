// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

extension EngineClient {
    /// Fetches pages until `limit` items are there or nothing is left.
    func pages(
        _ path: [String],
        query: [(String, String?)] = [],
        limit: Int?,
        cursor: String?
    ) async throws -> (items: [JSONValue], next: String?) {
        var items: [JSONValue] = []
        var cursor = cursor
        while true {
            let wanted = min(1000, limit.map { $0 - items.count } ?? 1000)
            let page = try await get(path, query: query + [("limit", "\(wanted)"), ("cursor", cursor)])
            let found = Self.items(page)
            items += found
            let next = (page["pagination"]?["next_cursor"]?.stringValue).nonEmpty
            guard let next, next != cursor, !found.isEmpty, limit.map({ items.count < $0 }) ?? true else {
                return (items, limit == nil && found.isEmpty ? nil : next)
            }
            cursor = next
        }
    }

    /// The elements of a list, bare or under `data`.
    static func items(_ value: JSONValue) -> [JSONValue] {
        value.arrayValue ?? value["data"]?.arrayValue ?? []
    }

    /// Prints a list: the API's own shape as JSON and YAML, a table for people.
    func printList(_ items: [JSONValue], next: String?, noun: String, table: () -> TextTable) throws {
        let pagination: JSONValue = ["next_cursor": next.map { .string($0) } ?? .null, "previous_cursor": .null]
        try print(["data": .array(items), "pagination": pagination]) {
            items.isEmpty ? "" : table().text(width: width, style: style)
        }
        if isHuman {
            if items.isEmpty { try note("no \(noun)s") }
            if let next { try note("there are more; go on with --cursor \(next)") }
        }
    }

    /// Lists resources of one kind.
    func list(
        _ display: ResourceDisplay,
        _ options: ListOptions,
        query: [(String, String?)] = []
    ) async throws {
        let (items, next) = try await pages(
            [display.kind],
            query: query + [("name", options.name)],
            limit: options.limit,
            cursor: options.cursor
        )
        try printList(items, next: next, noun: display.noun) { display.table(items) }
    }

    /// Shows one resource.
    func show(_ display: ResourceDisplay, _ id: String) async throws {
        let item = try await get([display.kind, id])
        try print(item) { display.fieldList(item).text(style: style) }
    }

    /// Sends a create or update and confirms it; returns the resource, nil after a dry run.
    @discardableResult
    func write(_ display: ResourceDisplay, _ request: APIRequest, verb: String) async throws -> JSONValue? {
        guard let item = try await send(request) else { return nil }
        try confirm(item) { confirmation(display, item, verb: verb) }
        return item
    }

    /// `Function created: x` and its fields.
    func confirmation(_ display: ResourceDisplay, _ item: JSONValue, verb: String) -> String {
        let name = Sanitizer.clean(item["name"]?.stringValue ?? "")
        return "\(display.title) \(verb): \(style.bold(name))\n" + display.fieldList(item).text(style: style)
    }

    /// Deletes resources one by one, after somebody has agreed; `question` says more than their names.
    func delete(
        _ display: ResourceDisplay,
        _ ids: [String],
        _ confirmation: Confirmation,
        query: [(String, String?)] = [],
        question: (() async throws -> String)? = nil
    ) async throws {
        try await confirmation.require(self, refusal: "nothing was deleted") {
            try await question?() ?? "Delete \(display.noun) \(ids.joined(separator: ", "))?"
        }
        var deleted: [String] = []
        for id in ids {
            guard
                try await send(
                    APIRequest("DELETE", display.kind.split(separator: "/").map(String.init) + [id], query: query)
                ) != nil
            else { continue }
            deleted.append(id)
            if isHuman { try confirm(.null) { "\(display.title) deleted: \(Sanitizer.clean(id))\n" } }
        }
        if !isHuman, !options.dryRun { try print(["deleted": .array(deleted.map { .string($0) })]) { "" } }
    }
}

/// Lists resources of one kind.
struct ListCommand<Noun: ResourceNoun>: ClientCommand {
    static var configuration: CommandConfiguration {
        let kind = Noun.display.kind
        return .client(
            "list",
            "List \(kind).",
            examples: ["martlet \(kind) list", "martlet \(kind) list --name \(Noun.example) -l 20 -o json"],
            aliases: ["ls"]
        )
    }

    @OptionGroup(title: "List Options") var list: ListOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    init() {}

    func execute(_ client: EngineClient) async throws { try await client.list(Noun.display, list) }
}

/// Shows one resource.
struct GetCommand<Noun: ResourceNoun>: ClientCommand {
    static var configuration: CommandConfiguration {
        let kind = Noun.display.kind
        return .client(
            "get",
            "Show a \(Noun.display.noun).",
            examples: ["martlet \(kind) get \(Noun.example)", "martlet \(kind) get \(Noun.example) -o yaml"],
            aliases: ["show"]
        )
    }

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete(Noun.display.kind)))
    var id: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    init() {}

    func execute(_ client: EngineClient) async throws { try await client.show(Noun.display, id) }
}

/// Deletes resources.
struct DeleteCommand<Noun: ResourceNoun>: ClientCommand {
    static var configuration: CommandConfiguration {
        let kind = Noun.display.kind
        return .client(
            "delete",
            "Delete \(kind).",
            discussion:
                "Refused, with the list of users, while something needs it. Asks first; without a terminal --force is needed.",
            examples: [
                "martlet \(kind) delete \(Noun.example)", "martlet \(kind) delete --force \(Noun.example) other",
            ],
            aliases: ["rm"]
        )
    }

    @Argument(help: "Names, GUIDs or resource names.", completion: .custom(ResourceNames.complete(Noun.display.kind)))
    var ids: [String]
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    init() {}

    func execute(_ client: EngineClient) async throws {
        try await client.delete(Noun.display, ids, confirmation)
    }
}
