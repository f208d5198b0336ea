// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct ElementsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "elements",
        "Files in a view, and their tags.",
        [ListElements.self, TagElement.self, UntagElement.self],
        aliases: ["element"]
    )
    init() {}
}

struct ListElements: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List the files of a view in key order.",
        discussion: "A prefix is exact on the key: 'alice/' does not match 'alice-outside/x'.",
        examples: ["martlet elements list renders", "martlet elements list renders --prefix shot_010/ -l 50"],
        aliases: ["ls"]
    )

    @Argument(help: "The view.", completion: .custom(ResourceNames.complete("views"))) var view: String
    @Option(name: [.short, .long], help: "Only keys that start with this.") var prefix: String?
    @Option(name: [.short, .long], help: "Most to show; without it, all.") var limit: Int?
    @Option(name: .long, help: "Where to go on, as the list before said.") var cursor: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let (items, next) = try await client.pages(
            ["views", view, "elements"],
            query: [("prefix", prefix)],
            limit: limit,
            cursor: cursor
        )
        try client.printList(items, next: next, noun: "element") {
            TextTable(
                columns: [
                    .init("Key", isFlexible: true), .init("Size", isRight: true), .init("Modified at"),
                    .init("Tags", isFlexible: true),
                ],
                rows: items.map { item in
                    [
                        item["key"]?.stringValue ?? "",
                        (item["size_bytes"]?.intValue).map { Quantity.size(bytes: $0) } ?? "-",
                        Quantity.time(item["modified_at"]?.stringValue) ?? "-",
                        ResourceDisplay.text(item["tags"]) ?? "-",
                    ]
                }
            )
        }
    }
}

struct TagElement: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "tag",
        "Set tags on a file; tags not named stay.",
        examples: ["martlet elements tag renders shot_010/f.0001.exr state=final reviewer=ada"]
    )

    @Argument(help: "The view.", completion: .custom(ResourceNames.complete("views"))) var view: String
    @Argument(help: "Key of the file: its path below the view.") var key: String
    @Argument(help: "Tags as NAME=VALUE.") var tags: [String]
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let pairs = try FieldBuilder.pairs(tags, option: "tags", session: nil)
        let body = APIRequest.Body.json(["key": .string(key), "tags": .object(pairs)])
        guard let element = try await client.send(APIRequest("PUT", ["views", view, "tags"], body: body)) else {
            return
        }
        try client.confirmElement(element)
    }
}

struct UntagElement: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "untag",
        "Remove tags from a file.",
        examples: ["martlet elements untag renders shot_010/f.0001.exr state reviewer"]
    )

    @Argument(help: "The view.", completion: .custom(ResourceNames.complete("views"))) var view: String
    @Argument(help: "Key of the file: its path below the view.") var key: String
    @Argument(help: "Names of the tags.") var names: [String]
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let query = [("key", key)] + names.map { ("name", $0) }
        let request = APIRequest("DELETE", ["views", view, "tags"], query: query)
        guard let element = try await client.send(request) else { return }
        try client.confirmElement(element)
    }
}

extension EngineClient {
    fileprivate func confirmElement(_ element: JSONValue) throws {
        try confirm(element) {
            var list = FieldList()
            list.add("Key", element["key"]?.stringValue)
            list.add("Size", (element["size_bytes"]?.intValue).map { Quantity.size(bytes: $0) })
            list.add("Modified At", Quantity.time(element["modified_at"]?.stringValue))
            list.add("Tags", ResourceDisplay.text(element["tags"]) ?? "-")
            return list.text(style: style)
        }
    }
}
