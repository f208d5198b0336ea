// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MartletCore

struct DeadLettersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration.group(
        "dead-letters",
        "Events that could not be processed.",
        [ListDeadLetters.self, ShowDeadLetter.self, RedriveDeadLetters.self],
        aliases: ["dead-letter", "dlq"]
    )
    init() {}
}

struct ListDeadLetters: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "list",
        "List dead letters, newest first.",
        examples: ["martlet dead-letters list", "martlet dead-letters list inspect-frames -l 20"],
        aliases: ["ls"]
    )
    @Argument(help: "Only of this pipeline.", completion: .custom(ResourceNames.complete("pipelines"))) var only:
        String?
    @Option(
        name: [.short, .long],
        help: "Only of this pipeline.",
        completion: .custom(ResourceNames.complete("pipelines"))
    )
    var pipeline: String?
    @Option(name: [.short, .long], help: "Most to show (default 100).") var limit = 100
    @Option(name: .long, help: "Where to go on, as the list before said.") var cursor: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let (items, next) = try await client.pages(
            ["dead-letters"],
            query: [("pipeline", pipeline ?? only)],
            limit: limit,
            cursor: cursor
        )
        try client.printList(items, next: next, noun: "dead letter") {
            TextTable(
                columns: [
                    .init("ID"), .init("At"), .init("Pipeline"), .init("Deployment"), .init("Attempts", isRight: true),
                    .init("Redriven"), .init("Error", isFlexible: true),
                ],
                rows: items.map { item in
                    [
                        item["id"]?.stringValue ?? "-", Quantity.time(item["at"]?.stringValue) ?? "-",
                        item["pipeline"]?.stringValue ?? "-", item["deployment"]?.stringValue ?? "-",
                        ResourceDisplay.text(item["attempts"]) ?? "-", ResourceDisplay.text(item["redriven"]) ?? "-",
                        Self.error(item),
                    ]
                }
            )
        }
    }

    /// Type and first line of the error.
    static func error(_ item: JSONValue) -> String {
        let error = item["error"]?.stringValue ?? ""
        let first = error.split(separator: "\n").first.map(String.init) ?? error
        guard let type = (item["error_type"]?.stringValue).nonEmpty, !first.hasPrefix(type) else { return first }
        return "\(type): \(first)"
    }
}

struct ShowDeadLetter: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "show",
        "Show a dead letter whole: error, traceback, origin and event.",
        examples: ["martlet dead-letters show 0-42", "martlet dead-letters show 0-42 -o json"],
        aliases: ["get"]
    )
    @Argument(help: "ID from the list.", completion: .custom(ResourceNames.complete("dead-letters"))) var id: String
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func execute(_ client: EngineClient) async throws {
        let item = try await client.get(["dead-letters", id])
        try client.print(item) {
            var list = FieldList()
            list.add("ID", item["id"]?.stringValue)
            list.add("At", Quantity.time(item["at"]?.stringValue))
            list.add("Pipeline", item["pipeline"]?.stringValue)
            list.add("Deployment", item["deployment"]?.stringValue)
            list.add("Error", ListDeadLetters.error(item))
            list.add("Attempts", ResourceDisplay.text(item["attempts"]))
            let place = ["origin_topic", "origin_partition", "origin_offset"].compactMap {
                ResourceDisplay.text(item[$0])
            }
            list.add("Origin", place.joined(separator: "/"))
            list.add("Trace ID", item["trace_id"]?.stringValue)
            list.add("Redriven", ResourceDisplay.text(item["redriven"]))
            var text = list.text(style: client.style)
            if var trace = (item["traceback"]?.stringValue).nonEmpty {
                while trace.last?.isNewline == true { trace.removeLast() }
                text += "\n\(client.style.bold("Traceback"))\n\(Sanitizer.cleanLines(trace))\n"
            }
            if let event = item["event"] { text += "\n\(client.style.bold("Event"))\n\(JSONText.pretty(event))" }
            return text
        }
    }
}

struct RedriveDeadLetters: ClientCommand {
    static let configuration = CommandConfiguration.client(
        "redrive",
        "Put dead letters back before the function that failed them.",
        examples: ["martlet dead-letters redrive 0-42 0-43", "martlet dead-letters redrive --pipeline inspect-frames"]
    )
    @Argument(help: "IDs from the list.", completion: .custom(ResourceNames.complete("dead-letters"))) var ids:
        [String] = []
    @Option(
        name: [.short, .long],
        help: "All of this pipeline that were not put back yet.",
        completion: .custom(ResourceNames.complete("pipelines"))
    )
    var pipeline: String?
    @OptionGroup(title: "Global Options") var global: GlobalOptions

    func validate() throws {
        guard ids.isEmpty != (pipeline == nil) else { throw ValidationError("Give IDs, or --pipeline, and not both.") }
    }

    func execute(_ client: EngineClient) async throws {
        let body: JSONValue = pipeline.map { ["pipeline": .string($0)] } ?? ["ids": .array(ids.map { .string($0) })]
        let request = APIRequest("POST", ["dead-letters", "redrive"], body: .json(body))
        guard let answer = try await client.send(request) else { return }
        try client.confirm(answer) {
            let count = answer["redriven"]?.intValue ?? 0
            return "Redriven: \(count) \(count == 1 ? "event" : "events")\n"
        }
    }
}
