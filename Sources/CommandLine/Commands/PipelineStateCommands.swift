// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct GetPipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "get",
        "Show a pipeline, or its manifest.",
        discussion: "--manifest prints the newest stored manifest, --deployed the one that runs; for people as YAML.",
        examples: [
            "martlet pipelines get inspect-frames", "martlet pipelines get inspect-frames --manifest > pipeline.yaml",
            "martlet pipelines get inspect-frames --deployed -o json",
        ],
        aliases: ["show"]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @Flag(name: .long, help: "Print the newest stored manifest.") var manifest = false
    @Flag(name: .long, help: "Print the manifest that runs.") var deployed = false
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        guard manifest || deployed else { return try await client.show(PipelineNoun.display, id) }
        let query = [("deployed", deployed ? "true" : "false")]
        let revision = try await client.get(["pipelines", id, "manifest"], query: query)
        try client.print(revision) {
            let name = revision["pipeline_name"] ?? revision["name"] ?? .string(id)
            return try YAMLText.write(["name": name, "manifest": revision["manifest"] ?? revision])
        }
    }
}

struct StatusOfPipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "status",
        "Show how a pipeline and each of its function deployments does.",
        examples: ["martlet pipelines status inspect-frames", "martlet pipelines status inspect-frames -o json"]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let item = try await client.get(["pipelines", id])
        let deployments = try await deployments(client)
        var object = item.objectValue ?? JSONObject()
        object["deployments"] = .array(deployments)
        try client.print(.object(object)) {
            var list = FieldList()
            list.add("Name", item["name"]?.stringValue)
            list.add("Status", item["status"]?.stringValue)
            list.add("Reason", item["reason"]?.stringValue)
            list.add("Revision", ResourceDisplay.text(item["deployed_revision_number"]) ?? "none deployed")
            guard !deployments.isEmpty else { return list.text(style: client.style) }
            return list.text(style: client.style) + "\n"
                + table(deployments).text(width: client.width, style: client.style)
        }
    }

    /// None where the engine says that nothing is deployed.
    private func deployments(_ client: EngineClient) async throws -> [JSONValue] {
        do {
            return EngineClient.items(try await client.get(["pipelines", id, "deployments"]))
        } catch let failure as CommandFailure where failure.status == .conflict {
            return []
        }
    }

    private func table(_ deployments: [JSONValue]) -> TextTable {
        let numbers = [
            ("In flight", "in_flight"), ("Lag", "lag"), ("Succeeded", "succeeded"), ("Failed", "failed"),
            ("Retried", "retried"), ("Dead letters", "dead_lettered"),
        ]
        return TextTable(
            columns: [.init("Deployment"), .init("Function"), .init("Workers", isRight: true)]
                + numbers.map { .init($0.0, isRight: true) } + [.init("Reason", isFlexible: true)],
            rows: deployments.map { item in
                let revision = ResourceDisplay.text(item["revision"]).map { "@" + $0 } ?? ""
                let ready = ResourceDisplay.text(item["workers_ready"]) ?? "0"
                return [
                    item["name"]?.stringValue ?? "-", (item["function"]?.stringValue ?? "-") + revision,
                    "\(ready)/\(ResourceDisplay.text(item["workers"]) ?? "0")",
                ] + numbers.map { ResourceDisplay.text(item[$0.1]) ?? "0" } + [item["reason"]?.stringValue ?? ""]
            }
        )
    }
}

struct ReplayPipeline: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "replay",
        "Send events of the trigger topics through a pipeline again.",
        discussion: "--from is an RFC 3339 time, a date, a time ago such as 2h, or an offset.",
        examples: [
            "martlet pipelines replay inspect-frames --from 2h",
            "martlet pipelines replay inspect-frames --from 2026-04-08T15:00:00Z",
            "martlet pipelines replay inspect-frames --from 1200",
        ]
    )

    @Argument(help: "Name, GUID or resource name.", completion: .custom(ResourceNames.complete("pipelines"))) var id:
        String
    @Option(name: .long, help: "Time or offset to start from.") var from: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let body = APIRequest.Body.json(["from": try Self.start(from, nowMicros: Timestamp.nowMicroseconds())])
        guard let answer = try await client.send(APIRequest("POST", ["pipelines", id, "replay"], body: body)) else {
            return
        }
        try client.confirm(answer) {
            let count = answer["records"]?.intValue ?? 0
            return "Pipeline replay started: \(count) \(count == 1 ? "record" : "records")\n"
        }
        if answer["records"]?.intValue == 0 {
            try client.note("nothing is sent again: the trigger topics have no record at or after \(from)")
        }
    }

    /// An offset as a number, a time as RFC 3339 in UTC.
    static func start(_ text: String, nowMicros: Int64) throws -> JSONValue {
        if let offset = Int64(text) {
            guard offset >= 0 else { throw CommandFailure.usage("--from: offset \(offset) is negative") }
            return .int(offset)
        }
        if let micros = Timestamp.parseMicroseconds(text) ?? Timestamp.parseMicroseconds(text + "T00:00:00Z") {
            return .string(Timestamp.format(microseconds: micros))
        }
        if let ago = TimeSpan.microseconds(text) { return .string(Timestamp.format(microseconds: nowMicros - ago)) }
        throw CommandFailure.usage(
            "--from: '\(text)' is neither a time nor an offset",
            fix: "use RFC 3339 such as 2026-04-08T15:00:00Z, a time ago such as 2h, or an offset"
        )
    }
}
