// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct FunctionsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "functions",
        "People's code: make, build, try, register.",
        [
            InitFunctionGroup.self, BuildFunction.self, LocalRunFunction.self, InvokeFunction.self, CreateFunction.self,
            UpdateFunction.self, PublishFunction.self, GetFunction.self, ListCommand<FunctionNoun>.self,
            DeleteCommand<FunctionNoun>.self,
        ],
        aliases: ["function"]
    )
    init() {}
}

/// Options that fill in a function and its revision.
struct FunctionFields: ParsableArguments {
    @Option(name: [.customLong("artifact-source"), .customLong("artifact")], help: "Name the bundle was built under.")
    var artifactSource: String?
    @Option(name: [.customShort("T"), .long], help: "Tag the bundle was built under (default latest).") var imageTag:
        String?
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(name: .long, help: "Tags, separated by commas; repeatable.") var tags: [String] = []
    @Flag(name: .long, help: "Publish the revision, so that pipelines can use it.") var publish = false
    @Option(name: .long, help: "A name for the revision.") var revisionAlias: String?
    @Option(name: .long, help: "What is new in the revision.") var revisionDescription: String?
    @Option(name: .long, help: "Revision that deployments without one use.") var defaultRevisionNumber: Int?
    @Option(name: .long, help: "Accepted, without effect.") var containerRegistry: String?
    @Option(name: .long, help: "Accepted, without effect.") var artifactType: String?
    @Option(name: .long, help: "Accepted, without effect.") var architecture: String?
    @Option(
        name: [.customShort("f"), .long],
        help: "YAML or JSON file (- for standard input); options win.",
        completion: .file()
    )
    var fromFile: String?

    func object(name: String?) -> JSONObject {
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("artifact_source", artifactSource)
        fields.set("image_tag", imageTag)
        fields.set("description", description)
        fields.set("tags", list: FieldBuilder.split(tags))
        fields.set("publish", flag: publish)
        fields.set("revision_alias", revisionAlias)
        fields.set("revision_description", revisionDescription)
        fields.set("default_revision_number", defaultRevisionNumber)
        return fields.object
    }

    func noteUnused(_ client: EngineClient) throws {
        try client.noteUnused([
            ("--container-registry", containerRegistry != nil, "functions run from bundles of this engine"),
            ("--artifact-type", artifactType.map { $0 != "image" } ?? false, "every function is a bundle"),
            ("--architecture", architecture != nil, "functions run on the engine's own machine"),
        ])
    }
}

struct CreateFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Register a built function; its first revision is 1.",
        examples: [
            "martlet functions create -n exr-inspector --artifact-source exr-inspector --image-tag latest --publish",
            "martlet functions create -f function.yaml",
        ]
    )

    @Argument(help: "Name of the function.") var positionalName: String?
    @Option(name: [.short, .long], help: "Name of the function.") var name: String?
    @OptionGroup var fields: FunctionFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try fields.noteUnused(client)
        let body = try client.body(fields.object(name: name ?? positionalName), file: fields.fromFile, needs: ["name"])
        try await client.write(FunctionNoun.display, APIRequest("POST", ["functions"], body: body), verb: "created")
    }
}

struct UpdateFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Change a function; a new bundle makes a new revision.",
        discussion:
            "Without options it looks at the bundle again. Running pipelines keep their revision until they are deployed again.",
        examples: [
            "martlet functions update exr-inspector",
            "martlet functions update exr-inspector --image-tag v2 --publish",
            "martlet functions update exr-inspector --default-revision-number 1",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("functions"))) var id:
        String
    @OptionGroup var fields: FunctionFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try fields.noteUnused(client)
        let body = try client.body(
            fields.object(name: nil),
            file: fields.fromFile,
            needs: [],
            allowsNothing: true
        )
        try await client.write(FunctionNoun.display, APIRequest("PUT", ["functions", id], body: body), verb: "updated")
    }
}

struct PublishFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "publish",
        "Publish a revision, so that pipelines can use it.",
        examples: ["martlet functions publish exr-inspector", "martlet functions publish exr-inspector 3"]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("functions"))) var id:
        String
    @Argument(help: "Number of the revision; the newest unless given.") var number: Int?
    @Option(name: [.short, .long], help: "Number of the revision.") var revision: Int?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        var wanted = (revision ?? number).map { Int64($0) }
        if wanted == nil { wanted = try await client.get(["functions", id])["last_revision_number"]?.intValue }
        guard let wanted, wanted > 0 else {
            throw CommandFailure(
                .conflict,
                "function '\(id)' has no revision to publish",
                fix: "make one with: functions update"
            )
        }
        let request = APIRequest("POST", ["functions", id, "revisions", "\(wanted)", "publish"])
        guard let revision = try await client.send(request) else { return }
        try client.confirm(revision) { "Function revision published: \(Sanitizer.clean(id)) revision \(wanted)\n" }
    }
}

struct GetFunction: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a function, and its revisions when asked.",
        examples: [
            "martlet functions get exr-inspector", "martlet functions get exr-inspector --with-revisions -o yaml",
        ],
        aliases: ["show"]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("functions"))) var id:
        String
    @Flag(name: [.customShort("r"), .long], help: "Show its revisions too.") var withRevisions = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        guard withRevisions else { return try await client.show(FunctionNoun.display, id) }
        let item = try await client.get(["functions", id])
        let revisions = EngineClient.items(try await client.get(["functions", id, "revisions"]))
        var object = item.objectValue ?? JSONObject()
        object["revisions"] = .array(revisions)
        try client.print(.object(object)) {
            let table = TextTable(
                columns: [
                    .init("Revision", isRight: true), .init("Alias"), .init("Published"), .init("Bundle"), .init("Tag"),
                    .init("Handler"), .init("Description", isFlexible: true), .init("Created at"),
                ],
                rows: revisions.map { revision in
                    [
                        ResourceDisplay.text(revision["revision_number"]) ?? "-",
                        ResourceDisplay.text(revision["alias"]) ?? "-",
                        ResourceDisplay.text(revision["is_published"]) ?? "-",
                        (revision["bundle_digest"]?.stringValue).map { String($0.prefix(12)) } ?? "-",
                        ResourceDisplay.text(revision["image_tag"]) ?? "-",
                        ResourceDisplay.text(revision["handler"]) ?? "-",
                        ResourceDisplay.text(revision["description"]) ?? "-",
                        Quantity.time(revision["created_at"]?.stringValue) ?? "-",
                    ]
                }
            )
            return FunctionNoun.display.fieldList(item).text(style: client.style) + "\n"
                + table.text(width: client.width, style: client.style)
        }
    }
}
