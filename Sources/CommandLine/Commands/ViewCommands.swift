// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MartletCore

struct ViewsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "views",
        "Watched directories.",
        [
            CreateView.self, ListCommand<ViewNoun>.self, GetCommand<ViewNoun>.self, UpdateView.self,
            DeleteCommand<ViewNoun>.self,
        ],
        aliases: ["view", "buckets"]
    )
    init() {}
}

/// Options that fill in a view.
struct ViewFields: ParsableArguments {
    @Option(name: .long, help: "Directory to watch, with all below it.", completion: .directory) var path: String?
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(name: .long, help: "Tags, separated by commas; repeatable.") var tags: [String] = []
    @Option(
        name: [.customShort("f"), .long],
        help: "YAML or JSON file (- for standard input); options win.",
        completion: .file()
    )
    var fromFile: String?

    func object(name: String?, extra path: String? = nil) throws -> JSONObject {
        guard (self.path ?? path) != "" else {
            throw CommandFailure.usage("--path is empty", fix: "name the directory to watch")
        }
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("path", (self.path ?? path).map { absolute($0) })
        fields.set("description", description)
        fields.set("tags", list: FieldBuilder.split(tags))
        return fields.object
    }

    /// The engine may run in another folder, so it gets whole paths.
    private func absolute(_ path: String) -> String {
        let expanded = (path as NSString).expandingTildeInPath
        guard !expanded.hasPrefix("/") else { return expanded }
        return URL(fileURLWithPath: expanded).standardizedFileURL.path
    }
}

struct CreateView: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Watch a directory.",
        examples: [
            "martlet views create renders --path /data/renders",
            "martlet views create -n renders --path ./renders --tags film,2026",
            "martlet views create -f view.yaml",
        ]
    )

    @Argument(help: "Name of the view.") var positionalName: String?
    @Option(name: [.short, .long], help: "Name of the view.") var name: String?
    @OptionGroup var fields: ViewFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let object = try fields.object(name: name ?? positionalName)
        let body = try client.body(object, file: fields.fromFile, needs: ["name", "path"])
        try await client.write(ViewNoun.display, APIRequest("POST", ["views"], body: body), verb: "created")
    }
}

struct UpdateView: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Change a view's directory, description or tags.",
        examples: [
            "martlet views update renders --description 'final frames'", "martlet views update renders -f view.yaml",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("views"))) var id: String
    @OptionGroup var fields: ViewFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let body = try client.body(try fields.object(name: nil), file: fields.fromFile, needs: [])
        try await client.write(ViewNoun.display, APIRequest("PUT", ["views", id], body: body), verb: "updated")
    }
}

extension EngineClient {
    /// The body of a create or update: the file, the options, or the file with the options in it.
    ///
    /// An update that says nothing is refused here, unless `allowsNothing`.
    func body(
        _ fields: JSONObject,
        file: String?,
        needs required: [String],
        allowsNothing: Bool = false
    ) throws -> APIRequest.Body {
        if let file { return try InputFile(file, session: session).body(overlaid: fields) }
        for key in required where fields[key] == nil {
            throw CommandFailure.usage(
                key == "name" ? "the name is missing" : "--\(key.replacing("_", with: "-")) is missing",
                fix: "see the examples in --help"
            )
        }
        guard allowsNothing || !fields.isEmpty else {
            throw CommandFailure.usage("nothing to change was given", fix: "see the options in --help")
        }
        return .json(.object(fields))
    }
}
