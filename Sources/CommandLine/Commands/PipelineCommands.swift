// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct PipelinesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "pipelines",
        "Triggers and functions joined by links.",
        [
            CreatePipeline.self, UpdatePipeline.self, DeployPipeline.self, UndeployPipeline.self, PausePipeline.self,
            ResumePipeline.self, GetPipeline.self, ListCommand<PipelineNoun>.self, StatusOfPipeline.self,
            ReplayPipeline.self, DeletePipelines.self,
        ],
        aliases: ["pipeline"]
    )
    init() {}
}

/// Options that fill in a pipeline.
struct PipelineFields: ParsableArguments {
    @Option(
        name: [.customShort("f"), .customLong("config"), .customLong("from-file")],
        help: "Manifest: FILE, @FILE, - for standard input, or JSON text.",
        completion: .file()
    )
    var config: String?
    @Option(name: .long, help: "What it is for.") var description: String?
    @Option(name: .long, help: "Tags, separated by commas; repeatable.") var tags: [String] = []
    @Option(name: .long, help: "File with secrets to store first; repeatable.", completion: .file()) var secretFile:
        [String] = []
    @Flag(name: .long, help: "Deploy it at once.") var deploy = false
    @OptionGroup var wait: WaitOptions

    func object(name: String?) -> JSONObject {
        var fields = FieldBuilder()
        fields.set("name", name)
        fields.set("description", description)
        fields.set("tags", list: FieldBuilder.split(tags))
        return fields.object
    }

    func body(name: String?, client: EngineClient) throws -> APIRequest.Body {
        guard let config else { return try client.body(object(name: name), file: nil, needs: []) }
        return try InputFile(config, session: client.session, allowsInline: true).body(overlaid: object(name: name))
    }
}

/// How deploying waits.
struct WaitOptions: ParsableArguments {
    @Flag(name: .long, inversion: .prefixedNo, help: "Wait until the pipeline is ready.") var wait = true
    @Option(name: .long, help: "Seconds to wait for it (default 300).") var waitTimeout = 300.0

    func validate() throws {
        guard waitTimeout > 0, waitTimeout <= 86_400 else {
            throw ValidationError("--wait-timeout must be above 0 and at most 86400, not \(waitTimeout).")
        }
    }
}

struct CreatePipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "create",
        "Store a new pipeline; it runs once it is deployed.",
        discussion:
            "A file is sent as it is, so errors name its lines. With --name, --description or --tags it is read here and those win.",
        examples: [
            "martlet pipelines create --config pipeline.yaml --deploy",
            "martlet pipelines create --config @pipeline.yaml --name night-run --secret-file secrets.yaml",
        ]
    )

    @Argument(help: "Name of the pipeline.") var positionalName: String?
    @Option(name: [.short, .long], help: "Name of the pipeline.") var name: String?
    @OptionGroup var fields: PipelineFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        guard fields.config != nil || name ?? positionalName != nil else {
            throw CommandFailure.usage(
                "no manifest was given",
                fix: "name its file with --config FILE, or give --name for an empty draft"
            )
        }
        let body = try fields.body(name: name ?? positionalName, client: client)
        try await client.storeSecrets(fields.secretFile)
        let request = APIRequest("POST", ["pipelines"], body: body)
        guard fields.deploy, client.isHuman || client.options.dryRun else {
            if fields.deploy, let item = try await client.send(request) {
                return try await client.deploy(item["name"]?.stringValue ?? "", revision: nil, fields.wait)
            }
            try await client.write(PipelineNoun.display, request, verb: "created")
            return
        }
        let item = try await client.write(PipelineNoun.display, request, verb: "created")
        try await client.deploy(item?["name"]?.stringValue ?? name ?? "NAME", revision: nil, fields.wait)
    }
}

struct UpdatePipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "update",
        "Store a new manifest; what runs changes with the next deploy.",
        examples: [
            "martlet pipelines update inspect-frames --config pipeline.yaml",
            "martlet pipelines update inspect-frames --config pipeline.yaml --deploy",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @OptionGroup var fields: PipelineFields
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let onlySecrets = fields.config == nil && fields.object(name: nil).isEmpty && !fields.secretFile.isEmpty
        let body = onlySecrets ? nil : try fields.body(name: nil, client: client)
        try await client.storeSecrets(fields.secretFile)
        if let body {
            let request = APIRequest("PUT", ["pipelines", id], body: body)
            if fields.deploy, !client.isHuman {
                _ = try await client.send(request)
            } else {
                try await client.write(PipelineNoun.display, request, verb: "updated")
            }
        }
        if fields.deploy { try await client.deploy(id, revision: nil, fields.wait) }
    }
}

struct DeployPipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "deploy",
        "Roll out the newest manifest, or --revision, and wait until it is ready.",
        discussion: "Interrupting the wait does not stop the rollout. A failure prints the reason and exits with 1.",
        examples: [
            "martlet pipelines deploy inspect-frames", "martlet pipelines deploy inspect-frames --revision 3 --no-wait",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @Option(name: [.short, .long], help: "Number of the manifest to roll out.") var revision: Int?
    @OptionGroup var wait: WaitOptions
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws { try await client.deploy(id, revision: revision, wait) }
}

extension EngineClient {
    /// Deploys, waits, and says how it went.
    func deploy(_ id: String, revision: Int?, _ wait: WaitOptions) async throws {
        var fields = FieldBuilder()
        fields.set("revision", revision)
        let request = APIRequest("POST", ["pipelines", id, "deploy"], body: .json(.object(fields.object)))
        guard var item = try await rollOut(request) else { return }
        if wait.wait { item = try await waitUntilReady(id, item, seconds: wait.waitTimeout) }
        let isReady = item["status"]?.stringValue == "Ready"
        try confirm(item) {
            "Pipeline deployed successfully: \(Sanitizer.clean(item["name"]?.stringValue ?? id))\n"
                + (isReady ? "Pipeline is ready and active.\n" : "")
        }
    }

    /// A function that cannot run, which has a traceback, is a failure and not a state that forbids deploying.
    private func rollOut(_ request: APIRequest) async throws -> JSONValue? {
        do {
            return try await send(request)
        } catch var failure as CommandFailure where failure.status == .conflict && failure.trace != nil {
            failure.status = .failure
            throw failure
        }
    }

    private func waitUntilReady(_ id: String, _ first: JSONValue, seconds: Double) async throws -> JSONValue {
        let clock = ContinuousClock()
        let deadline = clock.now + .milliseconds(Int64(seconds * 1000))
        let progress = Progress(self)
        var item = first
        var pause = Duration.milliseconds(50)
        while item["status"]?.stringValue == "InProgress" {
            guard clock.now < deadline else {
                try progress.clear()
                throw CommandFailure(
                    .timeout,
                    "pipeline '\(id)' was not ready within \(Int(seconds)) s"
                        + ((item["reason"]?.stringValue).nonEmpty.map { ": \($0)" } ?? ""),
                    fix: "the rollout goes on; look with: martlet pipelines status \(id)"
                )
            }
            let reason = (item["reason"]?.stringValue).nonEmpty.map { " (\($0))" } ?? ""
            try progress.show("Waiting for pipeline to become ready…\(reason)")
            try await Task.sleep(for: min(pause, deadline - clock.now))
            pause = min(pause * 2, .milliseconds(500))
            item = try await get(["pipelines", id])
        }
        try progress.clear()
        guard item["status"]?.stringValue != "Failure" else {
            let name = item["name"]?.stringValue ?? id
            throw CommandFailure(
                .failure,
                "pipeline '\(name)' failed: \((item["reason"]?.stringValue).nonEmpty ?? "the engine gives no reason")",
                fix: "look with: martlet pipelines status \(name), and: martlet logs get \(name) --scope runtime"
            )
        }
        return item
    }

    /// Stops, pauses or resumes a pipeline.
    fileprivate func turn(_ id: String, _ verb: String, done: String) async throws {
        guard let item = try await send(APIRequest("POST", ["pipelines", id, verb])) else { return }
        try confirm(item) {
            let name = Sanitizer.clean(item["name"]?.stringValue ?? id)
            let status = item["status"]?.stringValue
            return "Pipeline \(done): \(style.bold(name))\n" + (status.map { "Status: \(style.status($0))\n" } ?? "")
        }
    }
}

struct DeletePipelines: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "delete",
        "Delete pipelines; the tables they declare stay, unless --tables is given.",
        discussion:
            "Stops what runs. With --tables the tables of the manifest go too, with all their rows, but never one that another pipeline "
            + "declares as well. Asks first; without a terminal --force is needed.",
        examples: [
            "martlet pipelines delete inspect-frames", "martlet pipelines delete --force --tables inspect-frames other",
        ],
        aliases: ["rm"]
    )
    @Argument(help: "Names, GUIDs or resource names.", completion: .custom(ResourceNames.complete("pipelines")))
    var ids: [String]
    @Flag(name: .long, help: "Delete the tables their manifests declare too, with all rows.") var tables = false
    @OptionGroup var confirmation: Confirmation
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        try await client.delete(
            PipelineNoun.display,
            ids,
            confirmation,
            query: [("tables", tables ? "true" : nil)]
        ) {
            "Delete pipeline \(ids.joined(separator: ", "))\(tables ? " and the tables it declares, with all their rows" : "")?"
        }
    }
}

struct UndeployPipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "undeploy",
        "Stop a pipeline and its workers; the manifest stays.",
        examples: ["martlet pipelines undeploy inspect-frames"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws { try await client.turn(id, "undeploy", done: "undeployed") }
}

struct PausePipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "pause",
        "Stop giving events to a pipeline; they wait in its topics.",
        examples: ["martlet pipelines pause inspect-frames"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws { try await client.turn(id, "pause", done: "paused") }
}

struct ResumePipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "resume",
        "Go on after a pause, with the events that waited.",
        examples: ["martlet pipelines resume inspect-frames"]
    )
    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws { try await client.turn(id, "resume", done: "resumed") }
}
